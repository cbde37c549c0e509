"""Who needs a lock of the file system, and what refuses it."""

import shlex

import pytest

from cudadoctor.facts import Storage, StoragePlace, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .storing import SPARES, place, storage


def look(*changed: StoragePlace, soft: bool = False) -> Outcome:
    return judge("cache-without-locks", storage=storage(*changed, soft_locks=soft))


def test_is_silent_where_locks_are_given() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_without_the_stack() -> None:
    assert isinstance(judge("cache-without-locks", storage=Storage(())), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(judge("cache-without-locks", storage=Unknown("timed out")), Inconclusive)


@pytest.mark.parametrize("error", ["ENOLCK", "EOPNOTSUPP", "ENOSYS"])
def test_flashinfer_stops(error: str) -> None:
    finding = one(look(place("flashinfer", unlocked=error)), Severity.ERROR)
    assert "neither build nor load" in finding.summary and f"flock: {error}" in shown(finding)
    assert finding.remedies[0].values == {"FLASHINFER_WORKSPACE_BASE": "/opt/env/var/cache/flashinfer"}


def test_a_filelock_that_goes_on_without_is_no_finding() -> None:
    assert isinstance(look(place("flashinfer", unlocked="ENOSYS"), soft=True), Passed)
    one(look(place("flashinfer", unlocked="ENOLCK"), soft=True))


def test_tvm_ffi_waits_for_ever_whatever_filelock_does() -> None:
    finding = one(look(place("tvm-ffi", unlocked="ENOSYS"), soft=True), Severity.ERROR)
    assert "waits for ever" in finding.summary


def test_downloads_and_torch_compile_are_a_warning() -> None:
    finding = one(look(place("hf-hub", unlocked="ENOLCK"), place("torchinductor", unlocked="ENOLCK")))
    assert finding.severity is Severity.WARNING and finding.summary.startswith("torch.compile fails")


def test_without_another_disk_the_mount_is_shown() -> None:
    told = storage(place("flashinfer", unlocked="ENOLCK"), spares=())
    (remedy,) = one(judge("cache-without-locks", storage=told)).remedies
    assert (remedy.fix, remedy.summary) == ("show", "findmnt -T /home/ada/.cache/flashinfer/0.5.3")


def test_a_folder_with_a_command_in_its_name_starts_none() -> None:
    told = storage(place("flashinfer", unlocked="ENOLCK", device=2, nearest="/a b;x"), spares=SPARES[:1])
    (remedy,) = one(judge("cache-without-locks", storage=told)).remedies
    assert shlex.split(remedy.summary) == ["findmnt", "-T", "/a b;x"]
