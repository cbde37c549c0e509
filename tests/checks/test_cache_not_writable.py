"""What stops where a place cannot be written to, and what moves it."""

import pytest

from cudadoctor.facts import Hub, Model, Room, Storage, StoragePlace, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .storing import place, storage

BLOCKED = {"blocked": "/home/ada/.cache", "why": "refused", "owner": 0}


def look(*changed: StoragePlace, hub: Hub | None = None, seen: Storage | Unknown | None = None) -> Outcome:
    return judge("cache-not-writable", storage=seen or storage(*changed), hub=hub or Hub("/hub"))


def test_is_silent_when_everything_can_be_written() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_without_the_stack() -> None:
    assert isinstance(look(seen=Storage(())), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(look(seen=Unknown("timed out")), Inconclusive)


def test_a_folder_of_root_keeps_flashinfer_from_being_imported() -> None:
    finding = one(look(place("flashinfer", **BLOCKED)), Severity.ERROR)
    assert finding.summary == "FlashInfer cannot be imported: /home/ada/.cache cannot be written to"
    assert "/home/ada/.cache: belongs to user 0; this is user 1000" in shown(finding)
    (remedy,) = finding.remedies
    assert remedy.fix == "cache-folder"
    assert remedy.values == {"FLASHINFER_WORKSPACE_BASE": "/opt/env/var/cache/flashinfer"}


def test_one_folder_that_many_need_is_one_finding() -> None:
    names = ("triton", "flashinfer", "vllm", "torch-extensions", "hf-hub")
    finding = one(look(*(place(name, **BLOCKED) for name in names)), Severity.ERROR)
    assert finding.summary.startswith("FlashInfer cannot be imported")
    assert len(finding.evidence) == 1 + len(names)
    assert len(finding.remedies[0].values) == len(names)


def test_two_folders_are_two_findings() -> None:
    other = place("triton", blocked="/home/ada/.triton", why="file")
    assert len(look(place("flashinfer", **BLOCKED), other).findings) == 2


def test_tvm_ffi_waits_for_ever() -> None:
    finding = one(
        look(place("tvm-ffi", **{**BLOCKED, "blocked": "/home/ada/.cache/tvm-ffi"})), Severity.ERROR
    )
    assert "waits for ever" in finding.summary
    (instead,) = finding.remedies[0].instead
    assert instead.summary == 'sudo chown -R "$(id -u):$(id -g)" /home/ada/.cache/tvm-ffi'


@pytest.mark.parametrize("name", ["triton", "vllm", "torchinductor", "torch-extensions", "hf-hub"])
def test_who_stops_later_or_not_at_all_is_warned(name: str) -> None:
    one(look(place(name, **BLOCKED)), Severity.WARNING)


@pytest.mark.parametrize(
    ("why", "blocked", "says", "does"),
    [
        ("file", "/home/ada/.cache", "is no folder", "mv /home/ada/.cache /home/ada/.cache.aside"),
        ("file", "/dev/null", "is no folder", ""),
        ("file", "/etc/passwd", "is no folder", ""),
        ("dangling", "/home/ada/.cache", "leads nowhere", 'mkdir -p "$(readlink -m /home/ada/.cache)"'),
        ("read-only", "/home/ada", "mounted read-only", ""),
        ("refused", "/home/ada", "cannot be written to", ""),
    ],
)
def test_each_obstacle_has_its_remedy(why: str, blocked: str, says: str, does: str) -> None:
    told = place("vllm", blocked=blocked, why=why, nearest=blocked)
    finding = one(look(told))
    assert says in finding.summary
    assert [remedy.summary for remedy in finding.remedies[0].instead] == ([does] if does else [])


def test_a_tmpdir_that_is_not_there_is_unset() -> None:
    missing = place("temporary", path="/scratch", source="TMPDIR", blocked="/scratch", why="missing")
    finding = one(look(missing), Severity.ERROR)
    assert finding.summary == "nvcc compiles nothing: there is no folder /scratch"
    assert "TMPDIR says where" in shown(finding)
    assert finding.remedies[0].values == {"TMPDIR": ""}
    assert finding.remedies[0].instead[0].summary == "mkdir -p /scratch"


def test_models_that_others_keep_for_everybody_are_a_note_and_stay_where_they_are() -> None:
    shared = place("hf-hub", **BLOCKED)
    assert one(look(shared, hub=Hub("/hub", count=3)), Severity.NOTE).remedies == ()
    assert isinstance(look(shared, hub=Hub("/hub", offline="HF_HUB_OFFLINE")), Passed)


def test_without_a_place_to_move_to_the_folder_itself_is_to_be_repaired() -> None:
    own = {"blocked": "/home/ada/.cache/vllm", "why": "refused", "owner": 0}
    finding = one(look(seen=storage(place("vllm", **own), spares=())))
    assert [remedy.fix for remedy in finding.remedies] == ["show"]
    for others in ({"blocked": "/"}, {"source": "VLLM_CACHE_ROOT"}):
        told = place("vllm", **{**own, **others})
        assert one(look(seen=storage(told, spares=()))).remedies == ()


def test_of_the_cache_of_a_launched_model_another_check_tells() -> None:
    seen = storage(place("hf-hub", **BLOCKED))
    refused = Model("Qwen/m", "absent", cache="/hub", room=Room("/home/ada/.cache", 1, False, "refused"))
    assert isinstance(judge("cache-not-writable", storage=seen, hub=Hub("/hub"), model=refused), Passed)
    assert look(seen=seen).findings
