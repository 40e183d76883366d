"""The sources of gradients: from losses to a Gramian, and from weights to directions."""

from gradbalance.gradients.losses_only import LossesOnly
from gradbalance.gradients.representation import Representation
from gradbalance.gradients.sharded_parameters import ShardedParameters
from gradbalance.gradients.shared_parameters import SharedParameters
from gradbalance.gradients.source import Heads, Request, Source, TaskGradients

__all__ = [
    "Heads",
    "LossesOnly",
    "Representation",
    "Request",
    "ShardedParameters",
    "SharedParameters",
    "Source",
    "TaskGradients",
]
