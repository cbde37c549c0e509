"""A stub where the driver should be, by other ways than LD_LIBRARY_PATH."""

from pathlib import Path

import pytest

from cudadoctor.facts import CachedLibrary, Environ, SharedObjects
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.elves import plant

from .build import one, packages, shown
from .loaded import Stack


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    """Return a torch with the CUDA runtime, and an environment with a stub of the driver."""
    stack = Stack(tmp_path)
    stack.torch("libcudart.so.12", rpath="$ORIGIN:$ORIGIN/../../../..")
    stack.library("torch/lib/libcudart.so.12")
    plant(stack.root / "lib" / "stubs" / "libcuda.so", "libcuda.so.1")
    return stack


def look(stack: Stack, **variables: str) -> Outcome:
    return stack.judged("stub-loaded-as-driver", **variables)


def test_reports_a_link_to_a_stub_that_an_rpath_leads_to(stack: Stack) -> None:
    (stack.root / "lib" / "libcuda.so.1").symlink_to("stubs/libcuda.so")
    finding = one(look(stack), Severity.ERROR)
    assert "error 34" in finding.summary
    assert f"is a link to {stack.root}/lib/stubs/libcuda.so" in shown(finding)
    assert "RPATH" in shown(finding)


def test_reports_an_extension_that_needs_the_driver_itself(stack: Stack) -> None:
    stack.wheel("vllm", "0.12.0")
    (stack.root / "lib" / "stubs" / "libcuda.so.1").symlink_to("libcuda.so")
    stack.library("vllm/cumem_allocator.abi3.so", "libcuda.so.1", runpath="$ORIGIN/../../../stubs")
    assert "vllm/cumem_allocator.abi3.so gets the stub" in one(look(stack), Severity.ERROR).summary


def test_reports_a_stub_in_the_loader_s_cache(stack: Stack) -> None:
    facts = stack.facts()
    assert isinstance(facts.objects, SharedObjects) and isinstance(facts.environ, Environ)
    stub = "/usr/local/cuda/lib64/stubs/libcuda.so.1"
    some = next(iter(facts.objects.files.values()))
    objects = SharedObjects(
        facts.objects.loader,
        facts.objects.python,
        extensions=facts.objects.extensions,
        files={**facts.objects.files, stub: some},
        paths=facts.objects.paths,
        cached={**facts.objects.cached, "libcuda.so.1": (CachedLibrary(stub),)},
    )
    outcome = judge("stub-loaded-as-driver", objects=objects, environ=facts.environ, packages=packages())
    assert "ldconfig" in one(outcome, Severity.ERROR).remedies[0].summary


def test_is_silent_when_ld_library_path_leads_there(stack: Stack) -> None:
    """That is what stub-on-loader-path is for."""
    (stack.root / "lib" / "stubs" / "libcuda.so.1").symlink_to("libcuda.so")
    stack.library("torch/lib/libcudart.so.12")
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{stack.root}/lib/stubs"), Passed)


def test_is_silent_when_a_driver_is_found(stack: Stack) -> None:
    plant(stack.root / "lib" / "libcuda.so.1", "libcuda.so.1")
    assert isinstance(look(stack), Passed)


def test_is_silent_when_there_is_no_driver_at_all(stack: Stack) -> None:
    assert isinstance(look(stack), Passed)


def test_is_silent_when_nothing_is_installed(tmp_path: Path) -> None:
    assert isinstance(look(Stack(tmp_path)), Skipped)
