import numpy as np
import pytest

from gradbalance.numerics.checks import check_choice, check_count, check_number

INSIDE = {
    "(-inf, inf)": [-1e300, 0, 1e300],
    "[-1, 1]": [-1, 0.0, 1],
    "[0, 1]": [0, 0.5, 1],
    "[0, inf)": [0, 1e300],
    "(0, inf)": [5e-324, 1],
    "[1, inf)": [1, 1e300],
    "[0, 1)": [0.0, 0.999],
    "(0, 1)": [1e-300, np.float32(0.5)],
    "(0, 1]": [np.float64(0.1), np.int64(1)],
}
OUTSIDE = {
    "(-inf, inf)": [float("inf"), -float("inf")],
    "[-1, 1]": [-1.1, 1.1],
    "[0, 1]": [-0.1, 1.1],
    "[0, inf)": [-5e-324, float("inf")],
    "(0, inf)": [0, 0.0, float("inf")],
    "[1, inf)": [0.999, float("inf")],
    "[0, 1)": [-0.1, 1],
    "(0, 1)": [0, 1],
    "(0, 1]": [0, 1.1],
}
NO_NUMBERS = [float("nan"), True, False, np.True_, "0.5", None, [0.5], 0.5j]


@pytest.mark.parametrize("interval", INSIDE)
def test_numbers_in_an_interval_and_outside(interval):
    for found in INSIDE[interval]:
        check_number("x", found, interval)
    for found in [*OUTSIDE[interval], *NO_NUMBERS]:
        with pytest.raises(ValueError, match=r"x must be a number in .*; found") as error:
            check_number("x", found, interval)
        assert interval in str(error.value)
        assert repr(found) in str(error.value)


def test_counts():
    for found in (3, 10**30, np.int64(3), np.uint8(3)):
        check_count("n", found, least=3)
    for found in (2, -1, 3.0, np.float64(3), *NO_NUMBERS):
        with pytest.raises(ValueError, match="n must be an integer of at least 3; found"):
            check_count("n", found, least=3)


def test_choices():
    check_choice("kind", "a", ["a", "b"])
    for found in ("c", None, ["a"]):
        with pytest.raises(ValueError, match=r"kind must be one of \['a', 'b'\]; found"):
            check_choice("kind", found, ["a", "b"])
