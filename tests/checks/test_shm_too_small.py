from __future__ import annotations

import pytest
from msgspec import structs

from cudadoctor.facts import Container, Launch, Mount, Resources, SharedMemory, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import judged, launch

MIB, GIB = 1 << 20, 1 << 30
ELSEWHERE = Unknown("the launch is planned for another machine (--gpu)", expected=True)
ROOMY = SharedMemory(24 * GIB)


def contained(tag: str = "v0.12.0", engine: str = "docker", tensor: int = 2, **more: object) -> Launch:
    container = Container(engine, f"vllm/vllm-openai:{tag}", **more)  # type: ignore[arg-type]
    given = launch(tensor_parallel_size=tensor)
    return structs.replace(given, container=container, image=container.image)


def look(given: Launch, shared: SharedMemory | None = ROOMY) -> Outcome:
    return judged("shm-too-small", given, resources=Resources(shared_memory=shared))


def test_a_container_that_is_told_nothing_may_have_too_little_for_nccl() -> None:
    finding = one(look(contained()), Severity.WARNING)
    assert finding.summary == "64 MiB of /dev/shm may be too little for NCCL between 2 GPUs"
    assert "--tensor-parallel-size 2: 2 GPUs" in shown(finding)
    assert finding.remedies[0].summary == "--shm-size=1g"
    assert finding.remedies[0].instead[0].summary == "--ipc=host"


@pytest.mark.parametrize("tag", ["v0.29.0", "v0.33.0"])
def test_newer_releases_refuse_to_start_in_it(tag: str) -> None:
    finding = one(look(contained(tag)), Severity.ERROR)
    assert "Insufficient space in /dev/shm" in finding.summary and "240 MiB" in finding.summary


@pytest.mark.parametrize("tag", ["latest", "v0.25.0", "v0.26.0"])
def test_of_a_release_that_is_not_known_to_refuse_it_is_not_said(tag: str) -> None:
    one(look(contained(tag)), Severity.WARNING)


def test_a_compose_file_is_told_its_own_words_and_more_for_more_gpus() -> None:
    finding = one(look(contained("v0.33.0", "compose", 8)), Severity.ERROR)
    assert finding.remedies[0].summary == "shm_size: 3gb"
    assert finding.remedies[0].instead[0].summary == "ipc: host"


@pytest.mark.parametrize("size", ["1g", "2gb", "512m", "1073741824", "1.5 GiB"])
def test_is_silent_when_the_container_has_room(size: str) -> None:
    assert isinstance(look(contained("v0.33.0", shm_size=size)), Passed)


@pytest.mark.parametrize("digits", [40, 400, 5000])
def test_a_size_that_nothing_has_is_not_known(digits: int) -> None:
    outcome = look(contained(shm_size="9" * digits + "g"))
    assert isinstance(outcome, Inconclusive) and "is for /dev/shm is not known" in outcome.reason


def test_a_size_that_is_given_may_be_too_small_as_well() -> None:
    finding = one(look(contained("v0.33.0", shm_size="128m")), Severity.ERROR)
    assert "a shm size of 128m" in shown(finding)


def test_the_hosts_own_counts_where_the_container_has_it() -> None:
    assert isinstance(look(contained(ipc="host")), Passed)
    finding = one(look(contained(ipc="host"), SharedMemory(20 * MIB, 64 * MIB)), Severity.WARNING)
    assert "/dev/shm: 20 MiB of 64 MiB free" in shown(finding)
    outcome = judged("shm-too-small", contained(ipc="host"), resources=ELSEWHERE)
    assert isinstance(outcome, Inconclusive)


def test_a_full_one_ends_a_launch_without_a_container() -> None:
    finding = one(look(launch(tensor_parallel_size=2), SharedMemory(64 << 10)), Severity.ERROR)
    assert finding.summary == "/dev/shm is full: 64 KiB for the messages of 2 GPUs (Bus error)"
    assert "remove what ended processes left" in finding.remedies[0].summary


def test_engines_side_by_side_count_as_well() -> None:
    one(look(launch(data_parallel_size=2), SharedMemory(50 * MIB)), Severity.WARNING)
    assert isinstance(
        look(launch(data_parallel_size=8, data_parallel_size_local=1), SharedMemory(50 * MIB)), Skipped
    )


def test_the_cache_of_images_has_to_fit_even_for_one_gpu() -> None:
    given = launch(mm_processor_cache_type="shm")
    finding = one(look(given, SharedMemory(2 * GIB)), Severity.WARNING)
    assert "grows to 4 GiB" in finding.summary
    smaller = launch(mm_processor_cache_type="shm", mm_processor_cache_gb=1)
    assert isinstance(look(smaller, SharedMemory(2 * GIB)), Passed)


@pytest.mark.parametrize(
    "given",
    [
        contained(ipc="container:other"),
        contained(engine="dockerfile"),
        contained(mounts=(Mount("", "/dev/shm"),)),
        contained(shm_size="lots"),
        structs.replace(contained(), wrappers=("docker run --tmpfs /dev/shm:size=1g IMAGE",)),
    ],
)
def test_cannot_tell_what_is_said_elsewhere(given: Launch) -> None:
    assert isinstance(look(given), Inconclusive)


def test_is_silent_for_one_gpu_and_for_other_commands() -> None:
    assert isinstance(look(contained(tensor=1)), Skipped)
    assert isinstance(look(launch("other", tensor_parallel_size=2)), Skipped)


def test_is_silent_when_healthy() -> None:
    assert isinstance(look(launch(tensor_parallel_size=2)), Passed)
    assert isinstance(look(launch(tensor_parallel_size=2), SharedMemory(None)), Passed)
