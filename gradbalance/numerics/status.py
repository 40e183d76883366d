"""The status of a solution: how a method ended."""

import enum


class Status(enum.Enum):
    """How a method ended: the quality of its result, and what to do about it.

    A method stops when its certificate holds, never because its steps are short, so `CONVERGED` and
    `STATIONARY` are statements about the result and not about the iterations. `ASCENT` and
    `ILL_POSED` occur with methods that are not defined, or not useful, for all gradients. `REUSED`
    means weights from an earlier step, which guarantee nothing for this one. `SKIPPED` means a step
    without usable gradients, in which nothing was solved.

    Attributes:
        advice: what to do about this status; empty if nothing needs to be done.

    Example:
        >>> from gradbalance.numerics import Status
        >>> Status.CONVERGED.advice
        ''
        >>> Status("step limit").advice
        'raise max_steps or tol, or choose an exact method'
        >>> max(Status.STATIONARY, Status.CONVERGED, key=lambda status: status.severity)
        <Status.CONVERGED: 'converged'>
    """

    # In order of increasing severity.
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
        """Create a status; its value is the text that reports print."""
        status = object.__new__(cls)
        status._value_, status.advice = value, advice
        return status

    @classmethod
    def of(cls, certificate: float, *, stationary: bool) -> "Status":
        """Return the status for a certificate, which holds if it is at most 1.

        Args:
            certificate: the largest residual divided by its tolerance.
            stationary: whether the direction is zero up to rounding.

        Returns:
            `STEP_LIMIT` if the certificate does not hold, else `STATIONARY` or `CONVERGED`.
        """
        if certificate > 1.0:
            return cls.STEP_LIMIT
        return cls.STATIONARY if stationary else cls.CONVERGED

    @property
    def severity(self) -> int:
        """The severity as a number; a step with several parts has the status of largest severity.

        In increasing order: stationary, reused, converged, step limit, ill-posed, ascent, skipped.
        Stationary comes first, because a step is stationary only if all its parts are.
        """
        return list(Status).index(self)
