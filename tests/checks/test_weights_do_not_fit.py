from cudadoctor.facts import Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Passed, Skipped

from .build import one
from .launched import judged, launch, model

NAME = "weights-do-not-fit"


def test_reports_weights_that_are_more_than_the_card() -> None:
    finding = one(judged(NAME, launch(), model(method="", gib=61.0)), Severity.ERROR)
    assert "of weights do not fit on rtx-3090, which has 23.6 GiB" in finding.summary


def test_is_silent_when_healthy() -> None:
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
