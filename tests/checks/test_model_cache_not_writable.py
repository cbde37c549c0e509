from typing import Any

from msgspec import structs

from cudadoctor.facts import Card, Container, Launch, Model, Room, Unknown, Weights
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "model-cache-not-writable"
HERE = Card("NVIDIA GeForce RTX 3090", 24 * GIB, "8.6", source="NVML")
REFUSED = Room("/hub", GIB, False, "refused", "this user may not write to /hub")
COMING = Weights("safetensors", GIB, to_come_bytes=GIB)


def held(room: Room | None, **more: Any) -> Model:
    changes = {
        "state": "cached",
        "cache": "/hub",
        "source": "HF_HOME",
        "weights": COMING,
        "room": room,
        **more,
    }
    return structs.replace(model(), **changes)


def look(seen: Model, given: Launch | None = None) -> Outcome:
    return judged(NAME, given or launch(), seen, HERE)


def inside(user: str) -> Launch:
    container = Container("compose", "vllm/vllm-openai:latest", user=user)
    return structs.replace(launch(), container=container, image=container.image)


def test_reports_a_cache_that_this_user_may_not_write() -> None:
    finding = one(look(held(REFUSED)), Severity.ERROR)
    assert "cannot be downloaded into /hub: this user may not write to /hub" in finding.summary
    assert "HF_HOME: downloads go to /hub" in shown(finding)
    assert finding.remedies[0].summary.startswith("sudo chown -R ")


def test_reports_a_mounted_cache_of_another_user() -> None:
    room = structs.replace(
        REFUSED, detail="/hub belongs to user 0 (mode 0755), and the container's user is 1000"
    )
    finding = one(look(held(room), inside("1000:1000")), Severity.ERROR)
    assert finding.remedies[0].summary == "sudo chown -R 1000:1000 /hub"
    assert "before, as a user that may" in finding.remedies[0].instead[0].summary


def test_reports_a_read_only_mount() -> None:
    room = Room("/hub", GIB, False, "mounted-read-only", "it is mounted read-only at /models")
    assert one(look(held(room), inside("0")), Severity.ERROR).remedies[0].summary == "the mount without :ro"
    disk = structs.replace(room, why="read-only")
    assert "HF_HUB_CACHE" in one(look(held(disk))).remedies[0].summary


def test_a_folder_that_the_engine_would_make_is_a_warning() -> None:
    room = Room("/", GIB, False, "made-for-root", "/srv/hf is not there: docker makes it for root")
    assert "sudo chown 1000" in one(look(held(room), inside("1000")), Severity.WARNING).remedies[0].summary


def test_a_lock_is_made_in_the_download_folder_of_a_whole_model_too() -> None:
    whole = held(REFUSED, weights=Weights("safetensors", GIB), weights_cache="/big")
    finding = one(look(whole), Severity.ERROR)
    assert "vLLM can make no lock file in /big" in finding.summary and "--download-dir: " in shown(finding)


def test_is_silent_when_it_can_be_written_or_nothing_is_to_come() -> None:
    assert isinstance(look(held(Room("/hub", GIB, True))), Passed) and isinstance(look(held(None)), Passed)
    assert isinstance(look(held(REFUSED, offline="HF_HUB_OFFLINE")), Passed)


def test_what_is_not_known_is_not_judged() -> None:
    assert isinstance(look(held(Room("/hub", GIB, None))), Inconclusive)


def test_is_silent_when_it_is_planned_for_another_machine() -> None:
    assert isinstance(judged(NAME, launch(), held(REFUSED), RTX_3090), Skipped)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
