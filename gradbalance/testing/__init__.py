"""The contract of solvers and sources as a tool: what our own tests hold every one of them to."""

from gradbalance.testing.families import FAMILIES, draw_problem, draw_run
from gradbalance.testing.solvers import check_solver
from gradbalance.testing.sources import check_source

__all__ = ["FAMILIES", "check_solver", "check_source", "draw_problem", "draw_run"]
