from msgspec import structs

from cudadoctor.facts import Card, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Passed, Skipped
from tests.simulate.models import QWEN3_32B, QWEN3_NEXT_80B

from .build import one
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "weights-do-not-fit"
LAPTOP = Card("rtx-4090-laptop", int(15.57 * GIB), "8.9", source="--gpu")
LARGE = model(QWEN3_NEXT_80B, "fp8", 76.0)


def test_reports_weights_that_are_more_than_the_card() -> None:
    finding = one(judged(NAME, launch(), model(method="", gib=61.0)), Severity.ERROR)
    assert "60.7 GiB of weights do not fit on RTX 3090 (23.6 GiB)" in finding.summary
    (offload,) = finding.remedies  # the memory of another machine's host is not known
    assert "--cpu-offload-gb" in offload.values["options"]


def test_a_card_that_would_do_is_named_where_no_setting_helps() -> None:
    finding = one(judged(NAME, launch(max_model_len=2048), LARGE, LAPTOP), Severity.ERROR)
    assert "at any setting: it needs 80 GiB" in finding.summary
    (remedy,) = finding.remedies
    assert remedy.values == {"label": "would do"}
    assert remedy.summary == "one RTX PRO 6000 (95.0 GiB)"


def test_as_many_of_the_same_card_as_would_do_are_named() -> None:
    card = structs.replace(LAPTOP, name="rtx-3090", total_bytes=RTX_3090.total_bytes)
    (remedy,) = one(judged(NAME, launch(max_model_len=2048), LARGE, card)).remedies
    assert remedy.summary.endswith(" or 8 x RTX 3090 (--tensor-parallel-size 8)")


def test_several_cards_are_advised_where_they_are_there() -> None:
    two = structs.replace(RTX_3090, count=4)
    given = launch(max_model_len=4096)
    first = one(judged(NAME, given, model(QWEN3_32B, "", 61.0), two)).remedies[0]
    assert first.values["options"] == "--tensor-parallel-size 4"


def test_is_silent_when_healthy() -> None:
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
