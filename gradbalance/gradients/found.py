"""The parameters that were found to be shared, for later steps and resumed runs."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from gradbalance.gradients.micro_batches import Reached


class Found:
    """Parameters that at least two tasks reached at some step, as weak references.

    A copy (`copy.deepcopy` or pickle) refers to the parameters of the model that is copied with it.
    A saved state contains only their shapes.

    Attributes:
        complete: whether there was a step with all tasks, so that later steps may lack some.
    """

    def __init__(self, parameters: Iterable[Tensor] = (), *, complete: bool = False) -> None:
        self._known = WeakTensorKeyDictionary()
        self._expected: Counter[str] = Counter()
        self.complete = complete
        self.add(parameters, complete=complete)

    def __contains__(self, parameter: Tensor) -> bool:
        return parameter in self._known

    def __iter__(self) -> Iterator[Tensor]:
        """Iterate over the parameters in the order in which they were found."""
        return iter(list(self._known))

    def add(self, parameters: Iterable[Tensor], *, complete: bool) -> None:
        """Remember the shared parameters of a step that was written.

        Args:
            parameters: those that at least two tasks reach.
            complete: whether the step had all tasks.
        """
        for parameter in parameters:
            self._known[parameter] = None
        if complete:
            self.complete = True
            self._expected.clear()

    def misses(self, shared: Iterable[Tensor], reached: Reached) -> bool:
        """Whether the saved run may have shared parameters that only one task reaches here.

        Args:
            shared: the parameters that two tasks reach at the first step after loading.
            reached: for each leaf, the tasks that reach it.
        """
        missing = self._expected - Counter(map(_shape, shared))
        known = set(shared)
        return any(_shape(leaf) in missing for leaf in reached if leaf not in known)

    def state_dict(self) -> dict[str, Any]:
        """The number of parameters of each shape."""
        shapes = Counter(map(_shape, self._known)) if self.complete else self._expected
        return {"shapes": dict(sorted(shapes.items()))}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Expect what the saved run had found; parameters known here stay if the shapes agree.

        Raises:
            ValueError: this is not such a state.
        """
        shapes = state.get("shapes", {})  # missing if the saved run named its shared parameters
        if set(state) > {"shapes"} or not isinstance(shapes, Mapping):
            raise ValueError(f"a state of SharedParameters has shapes; found {dict(state)}")
        if not all(isinstance(count, int) and count > 0 for count in shapes.values()):
            raise ValueError(f"shapes must be numbers of parameters; found {shapes}")
        if not (self.complete and self.state_dict()["shapes"] == dict(shapes)):
            self._known.clear()
            self.complete, self._expected = False, Counter(shapes)

    def __getstate__(self) -> dict[str, Any]:
        return {
            "parameters": list(self._known),
            "expected": self._expected,
            "complete": self.complete,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._known = WeakTensorKeyDictionary()
        self.complete, self._expected = state["complete"], state["expected"]
        for parameter in state["parameters"]:
            self._known[parameter] = None


def _shape(parameter: Tensor) -> str:
    return "x".join(map(str, parameter.shape))
