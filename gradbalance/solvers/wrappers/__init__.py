"""Methods around a method: what another one sees is changed, or the weights that it gives."""
