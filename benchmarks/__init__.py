"""One claim a file, with its measured result beside it. Everything runs on one thread."""

import os

# Before anything imports NumPy or torch, which read these once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
