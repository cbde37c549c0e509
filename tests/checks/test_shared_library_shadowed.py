"""LD_LIBRARY_PATH before a wheel's own library."""

from pathlib import Path

import pytest

from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from tests.elves import plant

from .build import one, shown
from .loaded import Stack

NEW = ["nvJitLinkCreate", "__nvJitLinkComplete_12_4"]


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Return a torch whose cusparse leads to its nvJitLink by RUNPATH, as NVIDIA's wheel does."""
    stack = Stack(tmp_path)
    stack.torch("libcusparse.so.12", rpath="$ORIGIN/../../nvidia/cusparse/lib")
    runpath = "$ORIGIN/../../nvjitlink/lib"
    stack.library(
        "nvidia/cusparse/lib/libcusparse.so.12", "libnvJitLink.so.12", runpath=runpath, undefined=NEW
    )
    stack.library("nvidia/nvjitlink/lib/libnvJitLink.so.12", defined=NEW)
    return stack


def toolkit(tmp_path: Path, *defined: str) -> str:
    """Return the library folder of a toolkit with its own nvJitLink."""
    plant(tmp_path / "cuda-12.1" / "libnvJitLink.so.12", "libnvJitLink.so.12", defined=defined)
    return str(tmp_path / "cuda-12.1")


def look(stack: Stack, **variables: str) -> Outcome:
    return stack.judged("shared-library-shadowed", **variables)


def test_reports_an_old_library_and_what_it_lacks(stack: Stack, tmp_path: Path) -> None:
    old = toolkit(tmp_path, "nvJitLinkCreate", "__nvJitLinkComplete_12_1")
    finding = one(look(stack, LD_LIBRARY_PATH=f"{old}/:/opt/mine"), Severity.ERROR)
    assert finding.summary == (
        f"{old}/libnvJitLink.so.12 takes the place of nvidia/nvjitlink/lib/libnvJitLink.so.12: "
        "nvidia/cusparse/lib/libcusparse.so.12 will find no __nvJitLinkComplete_12_4 in it"
    )
    assert "would be loaded without LD_LIBRARY_PATH" in shown(finding)
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": "/opt/mine"}


def test_another_copy_that_lacks_nothing_is_a_note(stack: Stack, tmp_path: Path) -> None:
    finding = one(look(stack, LD_LIBRARY_PATH=toolkit(tmp_path, *NEW)), Severity.NOTE)
    assert not finding.remedies


def test_a_link_to_the_wheel_s_own_file_is_no_other_library(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(stack.site / "nvidia" / "nvjitlink" / "lib")
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/link"), Passed)


def test_is_silent_when_torch_loads_its_own_first(stack: Stack, tmp_path: Path) -> None:
    """So torch does since 2.5: then LD_LIBRARY_PATH changes nothing for cusparse."""
    stack.library("torch/lib/libtorch_global_deps.so", "libcudart.so.12", rpath="$ORIGIN")
    stack.library("torch/lib/libcudart.so.12")
    assert isinstance(look(stack, LD_LIBRARY_PATH=toolkit(tmp_path)), Passed)


def test_is_silent_when_an_rpath_comes_first(stack: Stack, tmp_path: Path) -> None:
    rpath = "$ORIGIN/../../nvjitlink/lib"
    stack.library("nvidia/cusparse/lib/libcusparse.so.12", "libnvJitLink.so.12", rpath=rpath, undefined=NEW)
    assert isinstance(look(stack, LD_LIBRARY_PATH=toolkit(tmp_path)), Passed)


def test_a_library_that_only_ld_library_path_has_shadows_nothing(stack: Stack, tmp_path: Path) -> None:
    (stack.site / "nvidia" / "nvjitlink" / "lib" / "libnvJitLink.so.12").unlink()
    assert isinstance(look(stack, LD_LIBRARY_PATH=toolkit(tmp_path)), Passed)


def test_a_library_of_the_system_s_is_nobody_s_own(stack: Stack, tmp_path: Path) -> None:
    plant(tmp_path / "cuda-12.1" / "libm.so.6", "libm.so.6")
    stack.library("nvidia/nvjitlink/lib/libnvJitLink.so.12", "libm.so.6", defined=NEW)
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/cuda-12.1"), Passed)


def test_one_that_lacks_versions_is_told_of_by_the_other_check(stack: Stack, tmp_path: Path) -> None:
    version = "libnvJitLink.so.12"
    stack.library(
        "nvidia/cusparse/lib/libcusparse.so.12",
        "libnvJitLink.so.12",
        runpath="$ORIGIN/../../nvjitlink/lib",
        requires={version: ["NVJITLINK_2"]},
    )
    stack.library("nvidia/nvjitlink/lib/libnvJitLink.so.12", provides=["NVJITLINK_2"])
    plant(tmp_path / "old" / version, version, provides=["NVJITLINK_1"])
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/old"), Passed)
    assert one(stack.judged("symbol-version-missing", LD_LIBRARY_PATH=f"{tmp_path}/old"), Severity.ERROR)


@pytest.mark.parametrize("variables", [{}, {"LD_LIBRARY_PATH": ""}])
def test_is_silent_when_the_variable_is_not_set(stack: Stack, variables: dict[str, str]) -> None:
    assert isinstance(look(stack, **variables), Skipped)


def test_is_silent_when_nothing_is_installed(tmp_path: Path) -> None:
    assert isinstance(look(Stack(tmp_path), LD_LIBRARY_PATH="/opt"), Skipped)
