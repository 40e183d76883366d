"""What all mathematics here is on, and the only kind of array that solvers and reports hold."""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
