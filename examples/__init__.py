"""Example systems built on gradbalance, and what they have in common."""
