"""How an iterative method ended."""

import enum


class Status(enum.Enum):
    """How a method ended: what its result is worth, and what to do about it.

    A method stops on its certificate, never on the length of its step, so `CONVERGED` and
    `STATIONARY` are statements about the result and not about how the method went. `ASCENT` and
    `ILL_POSED` tell of methods that are not defined, or not useful, for all gradients; `REUSED` of
    weights that come from an earlier step and promise nothing for this one; `SKIPPED` of a step
    whose scaled gradients overflowed, which the `GradScaler` leaves out.

    Example:
        >>> from gradbalance.numerics import Status
        >>> Status.CONVERGED.advice
        ''
        >>> Status("step limit").advice
        'raise max_steps or tol, or choose an exact method'
    """

    CONVERGED = "converged"
    STATIONARY = "stationary"
    STEP_LIMIT = "step limit"
    ASCENT = "ascent"
    ILL_POSED = "ill-posed"
    REUSED = "reused"
    SKIPPED = "skipped"

    @property
    def advice(self) -> str:
        """What to do about this status; empty where nothing needs doing."""
        return _ADVICE[self]


_ADVICE = {
    Status.CONVERGED: "",
    Status.STATIONARY: (
        "no direction serves all tasks: they have reached a trade-off, or a gradient is zero"
    ),
    Status.STEP_LIMIT: "raise max_steps or tol, or choose an exact method",
    Status.ASCENT: "this method's direction raises every loss here; MGDA or UPGrad would not",
    Status.ILL_POSED: "the equations that define this method have no usable solution here",
    Status.REUSED: "",
    Status.SKIPPED: "the scaled gradients overflowed; scaler.update() lowers the scale",
}
