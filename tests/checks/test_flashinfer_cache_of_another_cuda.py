"""Operators in FlashInfer's cache that a change of CUDA has left behind."""

from typing import Any

import pytest

from cudadoctor.facts import BuiltOp, Caches, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import CUDA, no_toolkits, one, packages, shown, toolkits
from .cached import OPS

OLD = BuiltOp(f"{OPS}/silu", "silu", "/usr/local/cuda-13.0", "libcudart.so.13")
GONE = BuiltOp(f"{OPS}/page", "page", "/opt/gone", gone=True)


def look(*built: BuiltOp, rewrites: bool = False, **sections: Any) -> Outcome:
    """Judge with a toolkit 12.8 at /usr/local/cuda."""
    facts = {"packages": packages(torch="2.9.0", flashinfer="0.5.3"), "toolkits": toolkits(), **sections}
    return judge(
        "flashinfer-cache-of-another-cuda", **{"caches": Caches(rewrites=rewrites, built=built), **facts}
    )


def test_is_silent_when_every_operator_can_be_used() -> None:
    assert isinstance(look(), Passed)
    assert isinstance(look(toolkits=no_toolkits()), Passed)


def test_is_silent_without_flashinfer() -> None:
    assert isinstance(look(OLD, packages=packages(flashinfer="")), Skipped)


def test_unknown_is_not_absent() -> None:
    assert isinstance(look(caches=Unknown("timed out")), Inconclusive)


def test_an_operator_that_needs_a_library_of_another_cuda_is_moved_aside() -> None:
    finding = one(look(OLD), Severity.ERROR)
    assert finding.summary == (
        "FlashInfer cannot load the operator silu in its cache: libcudart.so.13 is not found"
    )
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("jit-caches", {OLD.path: ""})
    assert remedy.summary == f"mv {OLD.path} {OLD.path}.aside"


def test_an_operator_whose_toolkit_is_gone_is_moved_aside() -> None:
    finding = one(look(GONE), Severity.ERROR)
    assert "can neither load nor rebuild the operator page" in finding.summary
    assert "cuda_home = /opt/gone, where there is no nvcc" in shown(finding)


def test_many_operators_are_one_finding() -> None:
    many = [BuiltOp(f"{OPS}/op{n}", f"op{n}", "/usr/local/cuda-13.0", "libcudart.so.13") for n in range(9)]
    finding = one(look(*many))
    assert "9 operators" in finding.summary and "and 4 more" in shown(finding)
    assert len(finding.remedies[0].values) == 9


def test_a_flashinfer_that_writes_its_build_file_anew_builds_by_itself_with_another_toolkit() -> None:
    assert isinstance(look(OLD, GONE, rewrites=True), Passed)
    here = BuiltOp(OLD.path, "silu", f"{CUDA}/", "libcudart.so.11")
    one(look(here, rewrites=True), Severity.WARNING)


def test_a_toolkit_that_was_exchanged_in_its_folder_is_a_warning() -> None:
    one(look(BuiltOp(OLD.path, "silu", CUDA, "libcudart.so.11")), Severity.WARNING)


def test_is_silent_where_the_toolkit_of_today_would_build_the_same() -> None:
    same = BuiltOp(OLD.path, "silu", CUDA, "libcudart.so.12")
    assert isinstance(look(same), Passed)


@pytest.mark.parametrize("op", [OLD, GONE])
def test_there_is_no_verdict_without_a_toolkit(op: BuiltOp) -> None:
    assert isinstance(look(op, toolkits=no_toolkits()), Inconclusive)
