"""Exclude functions from `torch.compile`: it breaks the graph there and does not trace them."""

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


def eager(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Like `torch.compiler.disable`, but without importing the compiler."""
    disabled: list[Callable[_P, _T]] = []

    @functools.wraps(function)
    def call(*args: _P.args, **options: _P.kwargs) -> _T:
        compiler: Any = sys.modules.get("torch._dynamo")
        if compiler is None:
            return function(*args, **options)
        if not disabled:
            disabled.append(compiler.disable(function))
        return disabled[0](*args, **options)

    call._torchdynamo_disable = True  # type: ignore[attr-defined]
    return call
