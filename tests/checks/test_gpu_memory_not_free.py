from msgspec import structs

from cudadoctor.facts import GpuProcess, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Passed, Skipped
from tests.simulate.models import QWEN25_7B

from . import gpus
from .build import one, shown
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "gpu-memory-not-free"
HELD = structs.replace(RTX_3090, free_bytes=int(20.5 * GIB), source="NVML")


def test_reports_that_less_is_free_than_will_be_asked_for() -> None:
    held = structs.replace(HELD, free_bytes=int(19 * GIB))
    finding = one(judged(NAME, launch(max_model_len=2048), card=held), Severity.ERROR)
    assert finding.summary == (
        "19.0 GiB of 23.6 GiB are free, and 21.2 GiB are asked for (utilisation 0.90); "
        "what is free is too little, so asking for less does not help: find and end what holds the rest"
    )


def test_says_that_asking_for_less_is_enough_where_it_is() -> None:
    small = model(QWEN25_7B, "awq", 5.2)
    asked = launch(max_model_len=4096, max_num_seqs=16)
    finding = one(judged(NAME, asked, small, HELD), Severity.ERROR)
    assert finding.summary.endswith("; what is free is enough")
    told = finding.remedies[0].values
    assert (told["label"], told["options"]) == ("would fit", "--gpu-memory-utilization 0.80")
    less = launch(max_model_len=4096, max_num_seqs=16, gpu_memory_utilization=0.8)
    assert isinstance(judged(NAME, less, small, HELD), Passed)


def test_names_who_holds_it_on_that_gpu_alone() -> None:
    held, other = (
        gpus.gpu(gib=24, used_gib=used, processes=(GpuProcess(pid, int(used * GIB)),), index=index)
        for index, (used, pid) in enumerate(((3.5, 4711), (9.0, 42)))
    )
    finding = one(judged(NAME, launch(max_model_len=2048), card=HELD, driver=gpus.driver(held, other)))
    assert "process 4711: holds 3.5 GiB" in shown(finding) and "process 42:" not in shown(finding)


def test_is_silent_when_enough_is_free() -> None:
    assert isinstance(judged(NAME, launch(gpu_memory_utilization=0.8), card=HELD), Passed)
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
