"""Example systems built on gradbalance, and the code that they share."""
