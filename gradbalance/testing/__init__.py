"""Tools to test your own solvers and sources, with the checks that our own tests apply."""

from gradbalance.testing.families import FAMILIES, draw_problem, draw_run
from gradbalance.testing.solvers import check_solver
from gradbalance.testing.sources import check_source

__all__ = ["FAMILIES", "check_solver", "check_source", "draw_problem", "draw_run"]
