from msgspec import structs

from cudadoctor.facts import Card, GpuProcess, Held, Unknown
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


def held(*free: float) -> Card:
    """Return RTX 3090s with so many GiB free, of which the first is used."""
    alike = tuple(Held(index, int(gib * GIB)) for index, gib in enumerate(free))
    return structs.replace(
        RTX_3090, free_bytes=alike[0].free_bytes, source="NVML", index=0, alike=alike, count=len(free)
    )


def test_another_gpu_that_has_enough_free_is_named() -> None:
    finding = one(judged(NAME, launch(max_model_len=2048), card=held(1, 23.5, 23)), Severity.ERROR)
    assert finding.summary.endswith("(utilisation 0.90); another GPU has enough free")
    assert "GPU 0, RTX 3090: 1.0 GiB free" in shown(finding)
    told = finding.remedies[0].values
    assert told["options"] == "CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES=1"
    assert told["holds"] == "23.5 GiB free"


def test_as_many_others_as_there_are_ranks_are_named_or_none() -> None:
    two = launch(max_model_len=2048, tensor_parallel_size=2)
    finding = one(judged(NAME, two, card=held(1, 23.5, 23)))
    assert finding.remedies[0].values["options"].endswith("CUDA_VISIBLE_DEVICES=1,2")
    assert not any("CUDA_" in each.summary for each in one(judged(NAME, two, card=held(1, 23.5, 2))).remedies)


def test_in_a_container_another_gpu_has_another_number() -> None:
    contained = structs.replace(launch(max_model_len=2048), image="vllm/vllm-openai:v0.12.0")
    finding = one(judged(NAME, contained, card=held(1, 23.5)))
    assert not any("CUDA_" in each.summary for each in finding.remedies)


def test_is_silent_when_enough_is_free() -> None:
    assert isinstance(judged(NAME, launch(gpu_memory_utilization=0.8), card=HELD), Passed)
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
