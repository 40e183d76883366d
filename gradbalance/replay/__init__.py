"""What other solvers would have done at the steps of a recorded run."""

from gradbalance.replay.replay import Replay
from gradbalance.replay.replaying import replay

__all__ = ["Replay", "replay"]
