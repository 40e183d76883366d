"""MP-SSL measured: task sets × solvers × seeds, resumable, with mean ± standard deviation."""
