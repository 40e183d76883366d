"""Methods that wrap another method, and change its input or its weights."""
