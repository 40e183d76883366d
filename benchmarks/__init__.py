"""Each script measures one claim, and its result is next to it. Everything runs on one thread."""

import os

# This must happen before NumPy or torch is imported, since they read these variables only once.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
