"""An old library that gets loaded where a newer one is needed."""

from pathlib import Path

import pytest

from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from tests.elves import LOADER, has_loader, plant, trace

from .build import one, shown
from .loaded import Stack

NEEDS = {"libstdc++.so.6": ["GLIBCXX_3.4", "GLIBCXX_3.4.99"]}
OLD = ["GLIBCXX_3.4", "GLIBCXX_3.4.9", "GLIBCXX_3.4.29"]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    stack = Stack(tmp_path)
    stack.wheel("torch", "2.9.0")
    stack.library(
        "torch/_C.cpython-312-x86_64-linux-gnu.so", "libstdc++.so.6", runpath="$ORIGIN/../new", requires=NEEDS
    )
    stack.library("new/libstdc++.so.6", provides=[*OLD, "GLIBCXX_3.4.99"])
    plant(tmp_path / "old" / "libstdc++.so.6", "libstdc++.so.6", provides=OLD)
    return stack


def look(stack: Stack, **variables: str) -> Outcome:
    return stack.judged("symbol-version-missing", **variables)


def test_is_silent_when_the_library_has_the_versions(stack: Stack) -> None:
    assert isinstance(look(stack), Passed)


def test_reports_an_old_library_in_ld_library_path(stack: Stack, tmp_path: Path) -> None:
    finding = one(look(stack, LD_LIBRARY_PATH=f"/opt/x:{tmp_path}/old"), Severity.ERROR)
    assert finding.summary.startswith(f"{tmp_path}/old/libstdc++.so.6 lacks GLIBCXX_3.4.99, which torch/_C.")
    assert "its newest is GLIBCXX_3.4.29; LD_LIBRARY_PATH leads there" in shown(finding)
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": "/opt/x"}


def test_the_loader_says_the_same(stack: Stack, tmp_path: Path) -> None:
    if not has_loader():
        pytest.skip(f"{LOADER} is not here")
    extension = stack.site / "torch" / "_C.cpython-312-x86_64-linux-gnu.so"
    assert not trace(str(extension), None, str(tmp_path)).error
    said = trace(str(extension), f"{tmp_path}/old", str(tmp_path)).error
    assert "version `GLIBCXX_3.4.99' not found" in said


def test_gives_no_remedy_that_would_leave_something_missing(stack: Stack, tmp_path: Path) -> None:
    stack.wheel("triton", "3.5.0")
    stack.library("triton/_C/libtriton.so", "libonly.so")
    plant(tmp_path / "old" / "libonly.so", "libonly.so")
    assert not one(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/old")).remedies


def test_reports_a_library_that_the_extension_leads_to_itself(stack: Stack, tmp_path: Path) -> None:
    plant(stack.site / "new" / "libstdc++.so.6", "libstdc++.so.6", provides=OLD)
    finding = one(look(stack), Severity.ERROR)
    assert "the RUNPATH of" in shown(finding) and not finding.remedies


def test_the_system_s_own_glibc_can_be_too_old(stack: Stack) -> None:
    stack.wheel("triton", "3.5.0")
    stack.library(
        "triton/_C/libtriton.so", "libc.so.6", requires={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.999"]}
    )
    assert "lacks GLIBC_2.999, which triton/_C/libtriton.so needs" in one(look(stack), Severity.ERROR).summary


def test_a_weak_need_is_none(stack: Stack, tmp_path: Path) -> None:
    stack.library(
        "torch/_C.cpython-312-x86_64-linux-gnu.so",
        "libstdc++.so.6",
        requires=NEEDS,
        weak=["GLIBCXX_3.4.99"],
        rpath="$ORIGIN/../new",
    )
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/old"), Passed)


def test_a_library_without_versions_is_taken_as_it_is(stack: Stack, tmp_path: Path) -> None:
    plant(tmp_path / "old" / "libstdc++.so.6", "libstdc++.so.6")
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/old"), Passed)


def test_is_silent_when_an_rpath_comes_first(stack: Stack, tmp_path: Path) -> None:
    stack.library(
        "torch/_C.cpython-312-x86_64-linux-gnu.so", "libstdc++.so.6", requires=NEEDS, rpath="$ORIGIN/../new"
    )
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/old"), Passed)


def test_is_silent_when_nothing_is_installed(tmp_path: Path) -> None:
    assert isinstance(look(Stack(tmp_path)), Skipped)
