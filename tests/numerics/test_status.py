import copy
import pickle

from gradbalance.numerics import Status


def test_what_needs_no_advice():
    quiet = [status for status in Status if not status.advice]
    assert quiet == [Status.REUSED, Status.CONVERGED]


def test_values_are_what_a_report_prints_from_the_least_severe_on():
    values = ["stationary", "reused", "converged", "step limit", "ill-posed", "ascent", "skipped"]
    assert [status.value for status in sorted(Status, key=lambda one: one.severity)] == values


def test_a_status_is_found_by_its_value_and_survives_copies():
    for status in Status:
        assert Status(status.value) is status
        assert copy.deepcopy(status) is pickle.loads(pickle.dumps(status)) is status
