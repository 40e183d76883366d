"""For tests and docstring examples alike: one thread, so that parallel workers do not compete."""

import torch

torch.set_num_threads(1)
