from gradbalance.numerics import Status


def test_what_needs_no_advice():
    quiet = [status for status in Status if not status.advice]
    assert quiet == [Status.CONVERGED, Status.REUSED]


def test_values_are_what_a_report_prints():
    values = ["converged", "stationary", "step limit", "ascent", "ill-posed", "reused", "skipped"]
    assert [status.value for status in Status] == values
