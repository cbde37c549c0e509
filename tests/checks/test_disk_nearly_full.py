from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Download, Model, Room, Unknown, Weights
from cudadoctor.findings import Severity
from cudadoctor.knowledge.storage import BUILD_BYTES
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import GIB, judged, launch, model

NAME = "disk-nearly-full"
HERE = Card("NVIDIA GeForce RTX 3090", 24 * GIB, "8.6", source="NVML")


def coming(gib: float | None, free: float | None, **more: Any) -> Model:
    """Return a model of which so much is to come, where so much is free, in GiB."""
    size = None if gib is None else int(gib * GIB)
    room = Room("/hub", None if free is None else int(free * GIB), True)
    weights = Weights("safetensors", size, "the index", to_come_bytes=size)
    changes = {"state": "cached", "cache": "/hub", "weights": weights, "room": room, **more}
    return structs.replace(model(), **changes)


def look(seen: Model, card: Card | Unknown = HERE) -> Outcome:
    return judged(NAME, launch(), seen, card)


def test_reports_what_does_not_go_in_with_both_numbers() -> None:
    finding = one(look(coming(19.3, 4)), Severity.ERROR)
    assert finding.summary == "19.3 GiB are to be downloaded, and do not go in at /hub: 4.0 GiB are free"
    assert "/hub: 4.0 GiB free\nthe index: 19.3 GiB of weights" in shown(finding)
    assert "mounted" not in shown(finding)


def test_warns_where_next_to_nothing_is_left() -> None:
    finding = one(look(coming(19.3, 19.31)), Severity.WARNING)
    assert "leave no room for anything else" in finding.summary
    assert isinstance(look(coming(19.3, 19.3 + BUILD_BYTES / GIB + 0.01)), Passed)


def test_what_is_there_in_part_may_be_gone_on_with() -> None:
    part = (Download("/hub/blobs/1.incomplete", 5 * GIB),)
    finding = one(look(coming(8, 4, incomplete=part)), Severity.WARNING)
    assert "5.0 GiB are there in part" in shown(finding)
    assert one(look(coming(8, 2, incomplete=part)), Severity.ERROR)


def test_in_a_container_another_disk_is_mounted() -> None:
    inside = structs.replace(launch(), image="vllm/vllm-openai:latest")
    assert (
        "mounted in its place" in one(judged(NAME, inside, coming(8, 2), HERE)).remedies[0].instead[0].summary
    )


def test_is_silent_when_there_is_room_or_nothing_to_come() -> None:
    assert isinstance(look(coming(8, 100)), Passed) and isinstance(look(coming(0, 0)), Passed)
    assert isinstance(look(coming(8, 2, offline="HF_HUB_OFFLINE")), Passed)
    assert isinstance(look(model()), Passed)


@pytest.mark.parametrize(
    "seen", [coming(None, 2), coming(8, None), coming(8, 2, room=None), coming(8, 2, weights=None)]
)
def test_what_is_not_known_is_not_judged(seen: Model) -> None:
    assert isinstance(look(seen), Inconclusive)


def test_is_silent_when_it_is_planned_for_another_machine() -> None:
    for source in ("--gpu", "--gpu-memory"):
        assert isinstance(look(coming(8, 2), structs.replace(HERE, source=source)), Skipped)
    assert one(look(coming(8, 2), Unknown("no GPU is visible here")))


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
