"""Builds solvers from text, as given on a command line or in a configuration."""

import ast
from importlib import import_module
from typing import Any

import gradbalance as gb


def build_solver(call: str) -> gb.Solver:
    """Return the solver described by a text such as ``PCGrad`` or ``MGDA(normalization='l2')``.

    Args:
        call: The name of any gradbalance solver, with its options as in Python; or the name of
            your own solver, with the module to import it from: ``mypackage.MySolver``.

    Raises:
        ValueError: The text is not such a call, or there is no solver of that name.
    """
    try:
        return _solver_of(ast.parse(call.strip(), mode="eval").body)
    except (SyntaxError, AssertionError) as error:
        raise ValueError(
            f"solver must be a name or a call like MGDA(normalization='l2'), got {call!r}"
        ) from error


def _solver_of(node: ast.expr) -> gb.Solver:
    call = node if isinstance(node, ast.Call) else ast.Call(node, args=[], keywords=[])
    solver = _class_of(call.func)
    values = [_value_of(argument) for argument in call.args]
    options = {str(keyword.arg): _value_of(keyword.value) for keyword in call.keywords}
    try:
        return solver(*values, **options)
    except TypeError as error:
        raise ValueError(f"solver {ast.unparse(node)!r}: {error}") from error


def _class_of(name: ast.expr) -> type[gb.Solver]:
    """The class with this name, which may contain dots."""
    assert all(isinstance(part, ast.Name | ast.Attribute | ast.Load) for part in ast.walk(name))
    module, _, last = ast.unparse(name).rpartition(".")
    try:
        found = getattr(import_module(module) if module else gb, last, None)
    except ImportError as error:
        raise ValueError(f"solver {ast.unparse(name)!r}: {error}") from error
    if not (isinstance(found, type) and issubclass(found, gb.Solver)):
        raise ValueError(f"{module or 'gradbalance'} has no solver {last!r}")
    return found


def _value_of(node: ast.expr) -> Any:
    """A plain value, or a solver that is an argument of another solver."""
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _solver_of(node)
