"""A repair that is killed, or that the kernel refuses a call, on its way: nothing is lost, and all is told.

The real program under strace. Of each kind of call the first, the last and one between; all of them, and
every error, with `python -m benchmarks.injections`.
"""

import shutil
from pathlib import Path

import pytest

from benchmarks.injections import Injection, Ward, losses
from tests.real.conftest import _do_without


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """Return an environment in which each command has been seen to work undisturbed."""
    for program in ("strace", "gcc"):
        if shutil.which(program) is None:
            _do_without(f"{program} is not on PATH")
    return Ward(Path(tmp_path_factory.mktemp("injections")).resolve())


def lost(ward: Ward, command: str, how: str, *, between: bool = True) -> list[str]:
    """Return what is lost at the first, the last and a middle call of each kind that the command makes."""
    lost: list[str] = []
    for call, (first, last) in ward.met[command].items():
        for number in sorted({first, last} | ({(first + last) // 2} if between else set())):
            injection = Injection(command, call, how, number)
            found = losses(ward, injection)
            lost += [f"{injection}: {each}" for each in (["was not hit"] if found is None else found)]
    return lost


def test_a_repair_that_is_killed_can_be_taken_back_and_completed(ward: Ward) -> None:
    assert lost(ward, "apply", "KILL") == []


def test_an_undo_that_is_killed_can_be_completed(ward: Ward) -> None:
    assert lost(ward, "undo", "KILL", between=False) == []


def test_completing_a_repair_can_be_killed_too(ward: Ward) -> None:
    assert lost(ward, "resume", "KILL", between=False) == []


def test_a_journal_whose_line_is_torn_off_stays_readable(ward: Ward) -> None:
    found = [losses(ward, Injection("apply", "write", "SHORT", size)) for size in ward.sizes[:60:15]]
    assert found == [[]] * 4


def test_a_repair_on_a_disk_that_gets_full_takes_back_what_it_did_and_says_so(ward: Ward) -> None:
    assert lost(ward, "apply", "ENOSPC+", between=False) == []
