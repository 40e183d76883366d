"""Example systems built on gradbalance."""
