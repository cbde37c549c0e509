"""The cards that a launch is planned for: the visible ones, those of its container, or one that is named."""

from __future__ import annotations

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Container, Driver, Environ, Given, Launch, Unknown, Variable
from cudadoctor.probes.card import probe
from cudadoctor.probes.target import Asked, Request
from cudadoctor.testing import FakeHost
from tests.checks.gpus import GIB, driver, gpu, host

LAUNCH = Launch("vllm-serve", ("vllm", "serve", "m"), "command line", {}, {}, {}, model="m")
TWO = driver(gpu(uuid="GPU-1a2b3c4d"), gpu("NVIDIA H100 80GB HBM3", "9.0", 80, uuid="GPU-5e6f7a8b"))


def seen(
    here: Driver | None = None, launch: Launch = LAUNCH, asked: Asked | None = None, **variables: str
) -> Card | Unknown:
    given = {name: Variable(value, "environment") for name, value in variables.items()}
    environ = Environ(given, "the current variables")
    return probe(FakeHost(), Request(launch=asked), here or driver(), environ, host(), launch)


def given(value: str) -> Given:
    return Given((value,), "command line", "-tp")


def spread(ranks: int) -> Launch:
    """Return the launch with that many ranks."""
    return structs.replace(LAUNCH, options={"--tensor-parallel-size": given(f"{ranks}")})


def card(*args: object, **more: object) -> Card:
    found = seen(*args, **more)  # type: ignore[arg-type]
    assert isinstance(found, Card)
    return found


def test_the_gpu_that_is_here() -> None:
    found = card()
    assert (found.name, found.capability, found.count, found.source) == (
        "NVIDIA GeForce RTX 3090",
        "8.6",
        1,
        "NVML",
    )
    assert found.free_bytes == int(23.75 * GIB) and found.total_bytes is not None
    assert found.total_bytes < 24 * GIB  # CUDA reports less than NVML


def test_which_of_two_kinds_a_launch_takes_is_not_guessed() -> None:
    for told in (seen(TWO), seen(TWO, CUDA_VISIBLE_DEVICES="0"), seen(TWO, CUDA_VISIBLE_DEVICES="1,0")):
        assert isinstance(told, Unknown) and not told.expected
        assert "the GPUs here differ (NVIDIA" in told.reason and "CUDA_DEVICE_ORDER=PCI_BUS_ID" in told.reason


def test_in_a_known_order_it_is_the_first() -> None:
    first = card(TWO, CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert (first.name, first.count, first.index) == ("NVIDIA GeForce RTX 3090", 1, 0)
    named = card(TWO, CUDA_VISIBLE_DEVICES="GPU-5e6f7a8b,GPU-1a2b3c4d")
    assert (named.name, named.count, named.index) == ("NVIDIA H100 80GB HBM3", 1, 1)


def test_where_all_of_two_kinds_are_taken_the_one_with_the_least_memory_counts() -> None:
    both = card(TWO, spread(2))
    assert (both.name, both.count, both.capability) == ("NVIDIA GeForce RTX 3090", 2, "")
    assert card(TWO, structs.replace(spread(1), options={"--data-parallel-size": given("2")})).count == 2


def test_of_the_gpus_that_are_taken_the_fullest_counts() -> None:
    busy = driver(gpu(), gpu(used_gib=23), gpu(used_gib=2))
    one, two = card(busy), card(busy, spread(2))
    assert (one.index, one.count, two.index, two.count) == (0, 3, 1, 3)
    assert two.free_bytes == GIB and one.free_bytes == int(23.75 * GIB)
    assert [(other.index, other.free_bytes // GIB) for other in one.alike] == [(0, 23), (1, 1), (2, 22)]


def test_only_what_is_visible_counts() -> None:
    ordered = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert card(TWO, CUDA_VISIBLE_DEVICES="1", **ordered).name == "NVIDIA H100 80GB HBM3"
    assert isinstance(seen(TWO, CUDA_VISIBLE_DEVICES=""), Unknown)


@pytest.mark.parametrize(
    ("gpus", "count"),
    [("all", 2), ("", 2), ("1", 1), ("device=1", 1), ("device=0,1", 2), ("device=GPU-5e6f7a8b-0000", 1)],
)
def test_a_container_sees_what_its_engine_gives_it(gpus: str, count: int) -> None:
    launch = structs.replace(spread(count), container=Container("docker", "vllm/vllm-openai", gpus=gpus))
    # The host's own variables do not reach it.
    found = card(TWO, launch, CUDA_VISIBLE_DEVICES="")
    assert found.count == count
    assert found.name.startswith("NVIDIA H100") == gpus.startswith(("device=1", "device=G"))


def test_a_card_that_is_named_takes_the_place_of_those_here() -> None:
    found = card(TWO, asked=Asked(gpu="rtx-3060", cards=2))
    assert (found.name, found.capability, found.count, found.source) == ("rtx-3060", "8.6", 2, "--gpu")
    sized = card(asked=Asked(memory_bytes=24 * GIB, capability="8.9"))
    assert (sized.total_bytes, sized.capability, sized.source) == (24 * GIB, "8.9", "--gpu-memory")


def test_memory_that_is_shared_is_the_system_s() -> None:
    found = card(driver(gpu("NVIDIA GB10", "12.1", None)))
    assert found.unified and found.total_bytes == host().memory_total_bytes


def test_nothing_is_known_where_no_gpu_is_and_none_is_named() -> None:
    told = seen(structs.replace(driver(), gpus=()))
    assert isinstance(told, Unknown) and "--gpu" in told.reason and not told.expected


def test_what_a_script_makes_visible_in_a_way_that_is_not_known_is_not_guessed() -> None:
    launch = structs.replace(LAUNCH, doubtful={"CUDA_VISIBLE_DEVICES": "it is what `pick` prints"})
    told = seen(TWO, launch)
    assert isinstance(told, Unknown) and told.reason.endswith("it is what `pick` prints")
