"""What an extension needs and the loader does not find."""

import os
from pathlib import Path

import pytest

from cudadoctor.facts import Environ, SharedObjects, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown
from .loaded import Stack

CUDART = "nvidia-cuda-runtime-cu12==12.8.90; platform_system == 'Linux'"
NVIDIA = "$ORIGIN/../../nvidia/cuda_runtime/lib"


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    return Stack(tmp_path)


def look(stack: Stack, **variables: str) -> Outcome:
    return stack.judged("shared-library-missing", **variables)


def test_is_silent_when_everything_is_found(stack: Stack) -> None:
    stack.torch("libcudart.so.12", "libc.so.6", rpath=NVIDIA)
    stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    assert isinstance(look(stack), Passed)


def test_names_the_wheel_that_torch_asks_for(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath=NVIDIA, requires=[CUDART])
    finding = one(look(stack), Severity.ERROR)
    assert finding.summary == (
        "libcudart.so.12, which torch/lib/libtorch_cuda.so needs, cannot be found by the loader"
    )
    assert finding.remedies[0].summary == "pip install nvidia-cuda-runtime-cu12==12.8.90"


def test_a_wheel_that_is_installed_without_its_file_has_to_be_installed_again(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath=NVIDIA, requires=[CUDART])
    stack.wheel("nvidia-cuda-runtime-cu12", "12.8.90")
    finding = one(look(stack), Severity.ERROR)
    assert "12.8.90 is installed" in shown(finding)
    assert "--force-reinstall --no-deps nvidia-cuda-runtime-cu12==12.8.90" in finding.remedies[0].summary


def test_says_where_the_library_is_that_nothing_leads_to(stack: Stack) -> None:
    stack.torch("libcudart.so.12", requires=[CUDART])
    stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    finding = one(look(stack), Severity.ERROR)
    assert f"{stack.site}/nvidia/cuda_runtime/lib/libcudart.so.12: is there" in shown(finding)
    assert not finding.remedies, "it is installed: installing it helps nobody"


def test_torch_that_preloads_the_libraries_of_wheels_needs_no_path_to_them(stack: Stack) -> None:
    """As on a failure: the table of _load_global_deps names the wheels' folders."""
    stack.torch("libcudart.so.12")
    stack.library("torch/lib/libtorch_global_deps.so", "libcudart.so.12")
    stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    table = 'cuda_libs = {\n    "cuda_runtime": "libcudart.so.*[0-9]",\n}\n'
    (stack.site / "torch" / "__init__.py").write_text(table)
    assert isinstance(look(stack), Passed)


def test_what_torch_loaded_before_is_there_for_the_next_extension(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath=NVIDIA)
    stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    stack.wheel("vllm", "0.12.0")
    stack.library("vllm/_C.abi3.so", "libtorch_cuda.so", "libcudart.so.12")
    assert isinstance(look(stack), Passed)


def test_libraries_of_torch_are_one_finding_that_names_torch(stack: Stack) -> None:
    stack.wheel("vllm", "0.12.0")
    stack.library("vllm/_C.abi3.so", "libtorch_cuda.so", "libc10.so", "libtorch.so")
    finding = one(look(stack), Severity.ERROR)
    assert "libtorch_cuda.so and libc10.so and libtorch.so" in finding.summary
    assert finding.remedies[0].summary == "pip install torch"


@pytest.mark.parametrize("name", ["libcuda.so.1", "libnvidia-ml.so.1"])
def test_a_missing_driver_is_judged_elsewhere(stack: Stack, name: str) -> None:
    stack.torch(name)
    assert isinstance(look(stack), Passed)


def test_a_damaged_library_is_an_error(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath=NVIDIA)
    file = stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    file.write_bytes(file.read_bytes()[:40])
    finding = one(look(stack), Severity.ERROR)
    assert finding.summary == "nvidia/cuda_runtime/lib/libcudart.so.12 cannot be loaded: file too short"


def test_a_fifo_in_the_place_of_a_library_is_an_error(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath="$ORIGIN")
    os.mkfifo(stack.site / "torch" / "lib" / "libcudart.so.12")
    assert "no regular file" in one(look(stack), Severity.ERROR).summary


def test_libraries_in_ld_library_path_are_found(stack: Stack, tmp_path: Path) -> None:
    stack.torch("libcudart.so.12")
    (tmp_path / "cuda").mkdir()
    stack.library("lonely/libcudart.so.12").rename(tmp_path / "cuda" / "libcudart.so.12")
    assert isinstance(look(stack, LD_LIBRARY_PATH=f"{tmp_path}/cuda"), Passed)
    assert one(look(stack))


def test_is_silent_when_nothing_of_the_stack_is_installed(stack: Stack) -> None:
    assert isinstance(look(stack), Skipped)


def test_is_silent_where_the_loader_is_not_glibcs(stack: Stack) -> None:
    stack.torch("libcudart.so.12")
    facts = stack.facts()
    assert isinstance(facts.environ, Environ)
    outcome = judge(
        "shared-library-missing",
        objects=SharedObjects(None, reason="/lib/ld-musl-x86_64.so.1 is not the GNU loader"),
        environ=environ(),
        packages=packages(),
    )
    assert isinstance(outcome, Skipped) and "musl" in outcome.reason


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "shared-library-missing", objects=Unknown("timed out"), environ=environ(), packages=packages()
    )
    assert isinstance(outcome, Inconclusive)
