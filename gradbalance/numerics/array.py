"""The array type of all numerics, and the only one in solvers and reports."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
