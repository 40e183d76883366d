"""How an iterative method ended."""

import enum


class Status(enum.Enum):
    """How a method ended: what its result is worth, and what to do about it.

    A method stops on its certificate, never on the length of its step, so `CONVERGED` and
    `STATIONARY` are statements about the result and not about how the method went. `ASCENT` and
    `ILL_POSED` tell of methods that are not defined, or not useful, for all gradients; `REUSED` of
    weights that come from an earlier step and promise nothing for this one; `SKIPPED` of a step
    without usable gradients, in which nothing was solved.

    Attributes:
        advice: what to do about this status; empty where nothing needs doing.

    Example:
        >>> from gradbalance.numerics import Status
        >>> Status.CONVERGED.advice
        ''
        >>> Status("step limit").advice
        'raise max_steps or tol, or choose an exact method'
        >>> max(Status.STATIONARY, Status.CONVERGED, key=lambda status: status.severity)
        <Status.CONVERGED: 'converged'>
    """

    # In the order of their severity, from the least on.
    STATIONARY = (
        "stationary",
        "no direction serves all tasks: they have reached a trade-off, or a gradient is zero",
    )
    REUSED = ("reused", "")
    CONVERGED = ("converged", "")
    STEP_LIMIT = ("step limit", "raise max_steps or tol, or choose an exact method")
    ILL_POSED = ("ill-posed", "the equations that define this method have no usable solution here")
    ASCENT = ("ascent", "this direction raises every loss; choose a method that promises descent")
    SKIPPED = (
        "skipped",
        "the gradients overflowed at this loss scale, or the loss was multiplied by zero; nothing "
        "was learned from the step",
    )

    advice: str

    def __new__(cls, value: str, advice: str) -> "Status":
        """A status whose value is the text that reports print."""
        status = object.__new__(cls)
        status._value_, status.advice = value, advice
        return status

    @classmethod
    def of(cls, certificate: float, *, stationary: bool) -> "Status":
        """How a method ended, by its certificate, which holds up to 1."""
        if certificate > 1.0:
            return cls.STEP_LIMIT
        return cls.STATIONARY if stationary else cls.CONVERGED

    @property
    def severity(self) -> int:
        """How much it says against a result; of a step's parts, the one with the largest counts.

        From stationary, as a step is stationary only where all its parts are, over reused,
        converged, step limit, ill-posed and ascent to skipped.
        """
        return list(Status).index(self)
