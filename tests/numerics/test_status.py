from gradbalance.numerics import Status


def test_only_converged_needs_no_advice():
    assert [status for status in Status if not status.advice] == [Status.CONVERGED]


def test_values_are_what_a_report_prints():
    assert [status.value for status in Status] == ["converged", "stationary", "step limit"]
