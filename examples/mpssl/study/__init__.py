"""The MP-SSL study: task sets × solvers × seeds, resumable, with mean ± standard deviation."""
