import pytest

from cudadoctor.facts import Card, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Passed, Skipped

from .build import one, shown
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "kv-cache-does-not-fit"


def test_reports_a_budget_that_the_weights_use_up() -> None:
    finding = one(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=0.75)), Severity.ERROR)
    assert "No available memory for the cache blocks" in finding.summary
    assert finding.summary.endswith("lowering utilisation makes it worse")
    assert "--gpu: rtx-3090: 23.6 GiB x 0.75 = 17.7 GiB" in shown(finding)


def test_what_helps_was_planned_again() -> None:
    finding = one(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=0.75)))
    told = finding.remedies[0].summary
    assert told.startswith("--gpu-memory-utilization 0.9") and "4096 tokens, about" in told
    value = float(told.split()[1])
    assert isinstance(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=value)), Passed)


def test_a_request_that_is_too_long_says_what_it_needs() -> None:
    finding = one(judged(NAME, launch(max_model_len=32768)), Severity.ERROR)
    assert "32768 tokens need 8.0 GiB" in finding.summary


def test_is_silent_when_it_fits() -> None:
    assert isinstance(judged(NAME, launch(max_model_len=2048, gpu_memory_utilization=0.95)), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    nothing = Unknown("no launch was given", expected=True)
    assert isinstance(judged(NAME, nothing), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)


@pytest.mark.parametrize(
    ("held", "card"),
    [
        (model(None), RTX_3090),
        (model({"model_type": "odd"}), RTX_3090),
        (model(), Card("mine", None)),
        (model(), Unknown("no GPU is visible here")),
    ],
)
def test_what_is_not_known_is_not_judged(held: object, card: Card) -> None:
    assert isinstance(judged(NAME, launch(), held, card), Inconclusive)  # type: ignore[arg-type]


def test_impossible_numbers_are_not_judged() -> None:
    assert isinstance(judged(NAME, launch(gpu_memory_utilization=7)), Inconclusive)
    assert isinstance(judged(NAME, launch(), card=Card("x", -GIB)), Inconclusive)
