"""MP-SSL: one trunk learns several pretext tasks mixed in the same input (arXiv 1912.11603)."""
