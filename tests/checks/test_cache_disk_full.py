"""Room for builds and downloads, and where it could come from."""

import pytest

from cudadoctor.facts import FolderSize, Storage, StoragePlace, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .storing import place, storage


def look(*changed: StoragePlace, sizes: tuple[FolderSize, ...] = ()) -> Outcome:
    return judge("cache-disk-full", storage=storage(*changed, sizes=sizes))


def test_is_silent_with_room() -> None:
    assert isinstance(look(), Passed)
    assert isinstance(look(place("flashinfer", free_bytes=None)), Passed)
    assert isinstance(look(place("flashinfer", free_files=100_000)), Passed)


def test_is_silent_without_the_stack() -> None:
    assert isinstance(judge("cache-disk-full", storage=Storage(())), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(judge("cache-disk-full", storage=Unknown("timed out")), Inconclusive)


@pytest.mark.parametrize(
    ("changes", "severity", "says"),
    [
        ({"free_bytes": 0}, Severity.ERROR, "0 KiB free"),
        ({"free_bytes": 900 << 10}, Severity.ERROR, "900 KiB free"),
        ({"free_bytes": 30 << 20}, Severity.WARNING, "30 MiB free"),
        ({"free_files": 0}, Severity.ERROR, "takes 0 more files"),
        ({"free_files": 300}, Severity.WARNING, "takes 300 more files"),
    ],
)
def test_little_room_is_a_warning_and_none_an_error(
    changes: dict[str, int], severity: Severity, says: str
) -> None:
    finding = one(look(place("flashinfer", **changes)), severity)
    assert says in finding.summary
    assert finding.remedies[0].values == {"FLASHINFER_WORKSPACE_BASE": "/opt/env/var/cache/flashinfer"}


def test_how_much_a_model_needs_is_not_known() -> None:
    assert isinstance(look(place("hf-hub", free_bytes=30 << 20)), Passed)
    one(look(place("hf-hub", free_bytes=0)), Severity.ERROR)


def test_one_file_system_is_one_finding_and_two_are_two() -> None:
    low = {"free_bytes": 1 << 20}
    one(look(place("flashinfer", **low), place("vllm", **low)))
    assert len(look(place("flashinfer", **low), place("vllm", **low, device=5)).findings) == 2


def test_a_place_that_cannot_be_written_to_at_all_is_not_told_twice() -> None:
    assert isinstance(look(place("vllm", free_bytes=0, blocked="/home/ada", why="refused")), Passed)


def test_what_can_be_made_again_is_named_with_its_size() -> None:
    sizes = (
        FolderSize("triton", "/home/ada/.triton/cache", 1, 3 << 30, complete=False),
        FolderSize("flashinfer", "/home/ada/.cache/flashinfer", 1, 200 << 20),
        FolderSize("vllm", "/other", 9, 1 << 40),
    )
    finding = one(look(place("flashinfer", free_bytes=0), sizes=sizes))
    assert "/home/ada/.triton/cache: at least 3.0 GiB, which would be made again" in shown(finding)
    assert "/home/ada/.cache/flashinfer: 200 MiB, which" in shown(finding) and "/other" not in shown(finding)
    (instead,) = finding.remedies[0].instead
    assert instead.summary.startswith("cudadoctor fix jit-caches --apply && cudadoctor undo --purge")
    assert instead.summary.endswith("frees at least 3.2 GiB")


def test_where_nothing_is_to_be_won_nothing_is_offered() -> None:
    small = (FolderSize("triton", "/t", 1, 100),)
    alone = judge(
        "cache-disk-full", storage=storage(place("flashinfer", free_bytes=0), sizes=small, spares=())
    )
    assert one(alone).remedies == ()


def test_what_is_on_the_same_full_disk_is_no_place_to_move_to() -> None:
    full = place("flashinfer", free_bytes=0, device=2)
    values = one(look(full)).remedies[0].values
    assert values == {"FLASHINFER_WORKSPACE_BASE": "/home/ada/.cache/stack/flashinfer"}
