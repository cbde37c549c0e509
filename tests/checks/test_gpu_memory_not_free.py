from msgspec import structs

from cudadoctor.facts import Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Passed, Skipped

from .build import one
from .launched import GIB, RTX_3090, judged, launch

NAME = "gpu-memory-not-free"
HELD = structs.replace(RTX_3090, free_bytes=int(20.5 * GIB), source="NVML")


def test_reports_that_less_is_free_than_will_be_asked_for() -> None:
    finding = one(judged(NAME, launch(max_model_len=2048), card=HELD), Severity.ERROR)
    assert finding.summary == "20.5 GiB of 23.6 GiB are free, and 21.2 GiB are asked for (utilisation 0.9)"


def test_is_silent_when_enough_is_free() -> None:
    assert isinstance(judged(NAME, launch(gpu_memory_utilization=0.8), card=HELD), Passed)
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
