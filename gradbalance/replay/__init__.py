"""Replay a recorded run: what other solvers would have done at its steps."""

from gradbalance.replay.replay import Replay
from gradbalance.replay.replaying import replay

__all__ = ["Replay", "replay"]
