"""The verdict of a `Diagnosis` in words: a list of rules, each of which may give sentences."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from gradbalance.diagnosis.findings import Diagnosis, percent
from gradbalance.numerics.array import Array

Flags = NDArray[np.bool_]  # [T]

CARRIES_ALL = 0.9  # share of the squared norms of all gradients
UNEQUAL = 10.0  # ratio of the largest to the smallest norm
MOSTLY_NOISE = 0.1  # cosine of a gradient with that of another batch
SELDOM = 0.05  # share of pairs that conflict
OFTEN = 0.1  # share of batches
ALIKE = 0.9  # correlation with the exact cosines, and share of equal signs


def verdict_on(found: Diagnosis) -> tuple[str, ...]:
    """The sentences of all rules that apply; the last sentence says what to try."""
    rules: tuple[Callable[[Diagnosis], Iterable[str]], ...] = (
        _zeros, _sizes, _noise, _conflicts, _sum, _sources, _advice
    )  # fmt: skip
    return tuple(sentence for rule in rules for sentence in rule(found))


def _zeros(found: Diagnosis) -> Iterable[str]:
    zeros = found.norms == 0
    if zeros.any():
        yield f"{_names(found, zeros)} had no gradient in most batches: check its loss, or mask."


def _sizes(found: Diagnosis) -> Iterable[str]:
    if not found.norms.any():
        return
    largest, smallest = int(found.norms.argmax()), _smallest(found)
    ratio, share = _ratio(found), found.shares[largest]
    if ratio < UNEQUAL:
        yield (
            f"Norms are within a factor of {UNEQUAL:.0f}: the largest is {ratio:.1f} times the "
            "smallest."
        )
        return
    carries = f"carries {percent(share)} of the gradient" if share >= CARRIES_ALL else "leads"
    yield (
        f"`{found.names[largest]}` {carries}: its norm is {ratio:.3g} times that of "
        f"`{found.names[smallest]}`."
    )


def _noise(found: Diagnosis) -> Iterable[str]:
    noisy = _noisy(found)
    if noisy.any():
        yield (
            "From batch to batch these gradients hardly agree with themselves (1 is all signal, 0 "
            f"all noise): {_each(found, noisy, 'by', found.agreement)}; their cosines are mostly "
            "noise."
        )
    elif found.norms.any():
        least = found.agreement[found.norms > 0].min()
        yield f"Gradients agree with themselves on another batch by {least:.2f} or more."


def _conflicts(found: Diagnosis) -> Iterable[str]:
    low, high = found.conflict_interval
    share = f"{percent(found.conflict_share)} [{100 * low:.0f}, {100 * high:.0f}] of the pairs"
    if found.conflict_share <= SELDOM:
        yield f"{'Hardly any' if found.conflict_share else 'No'} conflicts: in {share}."
        return
    beyond = [f"`{found.names[i]}` and `{found.names[j]}`" for i, j in _clear_conflicts(found)]
    shown = ", ".join(beyond[:3]) + (f" and {len(beyond) - 3} more" if len(beyond) > 3 else "")
    yield f"Gradients conflict in {share}, " + (
        f"also from one batch to another: {shown}." if beyond else "none of them beyond the noise."
    )


def _sum(found: Diagnosis) -> Iterable[str]:
    often = found.raised >= OFTEN
    if often.any():
        raised_in = ", ".join(
            f"`{found.names[i]}` in {percent(found.raised[i])}" for i in np.flatnonzero(often)
        )
        yield f"A step along the plain sum raises {raised_in} of the batches."
    raised, lowered = _clearly_raised(found), found.sum_cosines > found.sum_errors
    unclear = ~raised & ~lowered
    if raised.any():
        yield (
            "On data that it was not computed on, the plain sum raises "
            f"{_each(found, raised, 'by a cosine of', found.sum_cosines)}."
        )
    if unclear.any():
        yield (
            f"Whether the plain sum lowers {_names(found, unclear)} on other data cannot be told "
            "from these batches."
        )
    if not often.any() and lowered.all():
        yield "The plain sum lowers the loss of every task, also on another batch."


def _sources(found: Diagnosis) -> Iterable[str]:
    for name, correlation in found.correlation.items():
        sign = found.same_sign[name]
        known = [value for value in (correlation, sign) if not np.isnan(value)]
        texts = ([] if np.isnan(correlation) else [f"r = {correlation:.2f}"]) + (
            [] if np.isnan(sign) else [f"{percent(sign)} of the clear signs"]
        )
        does = "agrees with" if known and min(known) >= ALIKE else "does not agree with"
        ratio = found.milliseconds[name] / found.milliseconds["exact"]
        cost = "" if np.isnan(ratio) else f"; its backward takes {ratio:.1f} times as long"
        if known:
            yield f"What `{name}` sees {does} the exact gradients ({', '.join(texts)}){cost}."
        else:
            yield f"`{name}` cannot be judged: no cosine is larger than its spread{cost}."


def _advice(found: Diagnosis) -> Iterable[str]:
    """What to try; consistent with docs/choosing.md, "Which solver first"."""
    conflicts = bool(_clear_conflicts(found))
    raises = bool((_clearly_raised(found) | (found.raised >= OFTEN)).any())
    positive = bool((found.losses > 0).all())  # as methods with logarithms and ratios need
    if _ratio(found) >= UNEQUAL:
        by_gradients = "`NashMTL()`" + (" or `DBMTL()`" if positive else " or `ConFIG()`")
        cheap = ", or `SI()`" if positive else ""
        if conflicts:
            yield (
                f'Try: {by_gradients} with scale="norm", for which norms do not count; if T '
                f"backwards are too many, weights on the losses{cheap}."
            )
        else:
            yield (
                f"Try: weights on the losses will do; tune them{cheap}. If T backwards a step are "
                f'affordable: {by_gradients} with scale="norm".'
            )
    elif not conflicts and np.median(found.agreement) < MOSTLY_NOISE:
        yield (
            "Try: a larger batch, or weights averaged over steps, `CRMOGM(UPGrad())`; what a "
            "solver would act on here is noise. `Uniform()` until then."
        )
    elif conflicts and raises:
        yield 'Try: `UPGrad()` with scale="norm", along which no loss rises.'
    elif conflicts:
        yield "Try: `Uniform()`; gradients conflict, but the plain sum lowers every loss."
    else:
        yield "Try: `Uniform()`; there is nothing to balance here."


def _smallest(found: Diagnosis) -> int:
    """The index of the task with the smallest nonzero gradient."""
    return int(np.where(found.norms > 0, found.norms, np.inf).argmin())


def _ratio(found: Diagnosis) -> float:
    return float(found.norms.max() / found.norms[_smallest(found)]) if found.norms.any() else 1.0


def _noisy(found: Diagnosis) -> Flags:
    noisy: Flags = (found.agreement < MOSTLY_NOISE) & (found.norms > 0)
    return noisy


def _clear_conflicts(found: Diagnosis) -> list[tuple[int, int]]:
    """The pairs whose gradients conflict across batches too, beyond the noise."""
    clear = found.cross_cosines + found.cross_errors < 0
    return [pair for pair in found.pairs if clear[pair]]


def _clearly_raised(found: Diagnosis) -> Flags:
    raised: Flags = found.sum_cosines + found.sum_errors < 0
    return raised


def _names(found: Diagnosis, chosen: Flags) -> str:
    return ", ".join(f"`{found.names[i]}`" for i in np.flatnonzero(chosen))


def _each(found: Diagnosis, chosen: Flags, by: str, values: Array) -> str:
    return ", ".join(f"`{found.names[i]}` {by} {values[i]:.2f}" for i in np.flatnonzero(chosen))
