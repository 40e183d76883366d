"""Where the task gradients come from: losses to a Gramian, weights to `.grad`."""

from gradbalance.gradients.losses_only import LossesOnly
from gradbalance.gradients.representation import Representation
from gradbalance.gradients.shared_parameters import SharedParameters
from gradbalance.gradients.source import Heads, Source, TaskGradients

__all__ = [
    "Heads",
    "LossesOnly",
    "Representation",
    "SharedParameters",
    "Source",
    "TaskGradients",
]
