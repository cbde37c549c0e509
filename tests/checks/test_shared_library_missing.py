"""What an extension needs and the loader does not find."""

import os
from pathlib import Path

import pytest

from cudadoctor.facts import Environ, SharedObjects, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.elves import MACHINE

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
    assert finding.remedies[0].summary == f"{stack.pip} install nvidia-cuda-runtime-cu12==12.8.90"


def test_a_wheel_that_is_installed_without_its_file_has_to_be_installed_again(stack: Stack) -> None:
    stack.torch("libcudart.so.12", rpath=NVIDIA, requires=[CUDART])
    stack.wheel("nvidia-cuda-runtime-cu12", "12.8.90")
    finding = one(look(stack), Severity.ERROR)
    assert "12.8.90 is installed" in shown(finding)
    assert "--force-reinstall --no-deps nvidia-cuda-runtime-cu12==12.8.90" in finding.remedies[0].summary


@pytest.mark.parametrize(
    ("missing", "requirement", "brings"),
    [
        ("libcudart.so.12", "nvidia-cuda-runtime==13.0.96", "libcudart.so.13"),
        ("libnvJitLink.so.13", "nvidia-nvjitlink-cu12==12.8.93", "libnvJitLink.so.12"),
        ("libcufft.so.11", "nvidia-cufft==12.0.0.61", "libcufft.so.12"),
        ("libnvToolsExt.so.1", "nvidia-nvtx==13.0.85", "libnvtx3interop.so.1"),
    ],
)
def test_a_wheel_of_another_cuda_brings_another_library(
    stack: Stack, missing: str, requirement: str, brings: str
) -> None:
    name, _, version = requirement.partition("==")
    stack.torch(missing, requires=[requirement])
    stack.wheel("cuda-toolkit", "13.0.3")
    assert f"which torch asks for, brings {brings}" in shown(one(look(stack), Severity.ERROR))
    stack.wheel(name, version)
    finding = one(look(stack), Severity.ERROR)
    assert f"{name}: {version} is installed, and brings {brings}, which is of another CUDA" in shown(finding)
    assert not finding.remedies, "that wheel does not bring it, however often it is installed"


@pytest.mark.parametrize(
    ("missing", "requirement"),
    [
        ("libnvJitLink.so.13", "nvidia-nvjitlink==13.5.37"),
        ("libcudnn.so.9", "nvidia-cudnn-cu13==9.24.0.43"),
        ("libcusparse.so.12", "nvidia-cusparse==12.6.3.3"),
        ("libnccl.so.2", "nvidia-nccl-cu13==2.30.7"),
        ("libcusparseLt.so.0", "nvidia-cusparselt-cu13==0.8.1"),
        ("libcufft.so.12", "nvidia-cufft==12.0.0.61"),
        ("libnvrtc-builtins.so.13.0", "nvidia-cuda-nvrtc==13.0.88"),
        ("libcurand.so.10", "nvidia-curand==10.4.0.35"),
    ],
)
def test_the_wheels_of_cuda_13_are_named(stack: Stack, missing: str, requirement: str) -> None:
    stack.torch(missing, requires=[requirement])
    stack.wheel("cuda-toolkit", "13.0.3")
    assert one(look(stack)).remedies[0].summary == f"{stack.pip} install {requirement}"


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
    assert finding.remedies[0].summary == f"{stack.pip} install torch"


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


@pytest.mark.parametrize("library", ["torch/lib/libc10.so", "nvidia/cuda_runtime/lib/libcudart.so.12"])
@pytest.mark.parametrize(
    ("at", "value", "is_for"),
    [(18, bytes([183 if MACHINE == 62 else 62]), "64, not "), (4, b"\1", "32 bits, not 64")],
)
def test_a_library_of_another_machine_is_passed_over(
    stack: Stack, library: str, at: int, value: bytes, is_for: str
) -> None:
    file = stack.library(library)
    data = file.read_bytes()
    stack.torch(file.name, rpath=f"$ORIGIN:{NVIDIA}", requires=[CUDART])
    stack.wheel("nvidia-cuda-runtime-cu12", "12.8.90")
    file.write_bytes(data[:at] + value + data[at + len(value) :])
    finding = one(look(stack), Severity.ERROR)
    assert f"{file}: the loader looks there and passes it over: it is for " in shown(finding)
    assert is_for in shown(finding)
    again = "torch==2.9.0" if "torch" in library else "nvidia-cuda-runtime-cu12==12.8.90"
    assert finding.remedies[0].summary.endswith(f"--force-reinstall --no-deps {again}")


def test_a_damaged_library_of_ld_library_path_is_taken_out(stack: Stack, tmp_path: Path) -> None:
    stack.torch("libcudart.so.12", rpath=None, runpath=NVIDIA)
    stack.library("nvidia/cuda_runtime/lib/libcudart.so.12")
    bad, good = tmp_path / "bad", tmp_path / "good"
    for folder in (bad, good):
        folder.mkdir()
    (bad / "libcudart.so.12").write_text("garbage" * 99)
    finding = one(look(stack, LD_LIBRARY_PATH=f"{bad}:{good}"), Severity.ERROR)
    assert "LD_LIBRARY_PATH leads there" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("library-path", {"LD_LIBRARY_PATH": str(good)})
    assert isinstance(look(stack, **remedy.values), Passed)


def test_a_damaged_library_stays_in_ld_library_path_where_there_is_no_other(
    stack: Stack, tmp_path: Path
) -> None:
    stack.torch("libcudart.so.12", requires=[CUDART])
    (tmp_path / "libcudart.so.12").write_text("garbage" * 99)
    finding = one(look(stack, LD_LIBRARY_PATH=str(tmp_path)), Severity.ERROR)
    assert "LD_LIBRARY_PATH leads there" in shown(finding) and not finding.remedies


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


def test_a_damaged_file_that_needs_hundreds_of_libraries_fills_no_book(stack: Stack) -> None:
    stack.torch(*(f"libodd{chr(97 + n // 26)}{chr(97 + n % 26)}.so" for n in range(300)))
    ended = look(stack)
    assert isinstance(ended, Failed) and len(ended.findings) == 21
    assert ended.findings[-1].summary == "280 more libraries are missing or cannot be loaded"


def test_a_library_that_is_named_in_hundreds_of_versions_is_one_short_sentence(stack: Stack) -> None:
    stack.torch(*(f"libcudart.so.{n}" for n in range(500, 800)))
    finding = one(look(stack), Severity.ERROR)
    assert "libcudart.so.500 and libcudart.so.501 and libcudart.so.502 and 297 more, which" in finding.summary
    assert len(finding.summary) < 200
