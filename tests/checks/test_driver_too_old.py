from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Driver, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkit, toolkits
from .gpus import NO_NVML, NOTHING, driver, gpu, host, library, refused


def outcome(
    seen: Driver, cuda: str = "12.8", nvcc: str = "", variables: dict[str, str] | None = None, **machine: Any
) -> Outcome:
    kits = toolkits(toolkit(version=nvcc), headers=nvcc.rpartition(".")[0]) if nvcc else no_toolkits()
    held = environ(**(variables or {}))
    return judge(
        "driver-too-old",
        driver=seen, toolkits=kits, environ=held, machine=host(**machine), packages=packages(cuda=cuda),
    )  # fmt: skip


def test_reports_a_driver_of_an_older_major() -> None:
    finding = one(outcome(driver(), "13.0"), Severity.ERROR)
    assert "the driver 550.54.14 (CUDA 12.4) is too old" in finding.summary
    assert "580.65.06 or newer" in finding.summary and "as the distribution or NVIDIA packages it" in shown(
        finding
    )
    assert "a build for CUDA 12" in shown(finding)


def test_a_container_gets_its_driver_from_the_host() -> None:
    finding = one(outcome(driver(), "13.0", container="docker"))
    assert "on the host of this container" in shown(finding) and "sudo" not in shown(finding)


@pytest.mark.parametrize(
    ("version", "cuda"), [("525.60.13", "12.0"), ("550.54.14", "12.4"), ("575.57.08", "12.9")]
)
def test_any_driver_of_the_major_runs_any_torch_of_it(version: str, cuda: str) -> None:
    for built in ("12.1", "12.4", "12.8", "12.9"):
        assert isinstance(outcome(driver(version=version, cuda=cuda), built), Passed)


def test_a_newer_driver_runs_what_is_older() -> None:
    for built in ("11.8", "12.8", "13.0", "13.2"):
        assert isinstance(outcome(driver(version="610.43.02", cuda="13.3"), built), Passed)


@pytest.mark.parametrize(
    ("version", "built", "runs"),
    [("525.60.13", "12.8", True), ("520.61.05", "12.8", False), ("580.65.06", "13.2", True),
     ("575.57.08", "13.0", False), ("700.10", "13.0", True)],
)  # fmt: skip
def test_goes_by_the_version_where_the_driver_does_not_answer(version: str, built: str, runs: bool) -> None:
    silent = driver(version=version, nvml=Nvml("timeout", reason="hung"), gpus=())
    assert isinstance(outcome(silent, built), Passed) == runs


def test_nvcc_of_a_newer_major_makes_what_does_not_run() -> None:
    seen, older = driver(), packages(cuda="")
    assert older.torch is not None
    kits = toolkits(toolkit(version="13.0.88"), headers="13.0")
    held = structs.replace(older, torch=structs.replace(older.torch, cuda="12.8"))
    ended = judge(
        "driver-too-old",
        driver=seen, toolkits=kits, environ=environ(), machine=host(), packages=held,
    )  # fmt: skip
    finding = one(ended, Severity.WARNING)
    assert "nvcc 13.0.88" in finding.summary


def test_reports_a_build_that_leaves_this_gpu_to_ptx() -> None:
    seen = driver(gpu("NVIDIA H100 80GB HBM3", "9.0"))
    finding = one(outcome(seen, nvcc="12.8.93", variables={"TORCH_CUDA_ARCH_LIST": "8.0;8.6+PTX"}))
    assert "PTX of CUDA 12.8" in finding.summary and 'TORCH_CUDA_ARCH_LIST="9.0"' in shown(finding)


def test_where_the_launch_may_see_either_gpu_the_build_is_not_judged() -> None:
    either = {"TORCH_CUDA_ARCH_LIST": "8.0;8.6+PTX", "CUDA_VISIBLE_DEVICES": "0"}
    h100, ampere = gpu("NVIDIA H100", "9.0"), gpu()
    assert isinstance(outcome(driver(h100, ampere), nvcc="12.8.93", variables=either), Inconclusive)
    hopper = driver(h100, gpu("NVIDIA H200", "9.0"))
    one(outcome(hopper, nvcc="12.8.93", variables=either), Severity.WARNING)


@pytest.mark.parametrize("archs", ["", "8.0", "8.6+PTX", "7.5 8.0+PTX", "Ampere+PTX", "9.0+PTX", "8.9;x"])
def test_is_silent_where_the_build_has_machine_code_for_this_gpu(archs: str) -> None:
    variables = {"TORCH_CUDA_ARCH_LIST": archs} if archs else {}
    assert isinstance(outcome(driver(), nvcc="12.8.93", variables=variables), Passed)


def test_ptx_of_the_drivers_own_cuda_is_translated() -> None:
    seen = driver(gpu("NVIDIA H100 80GB HBM3", "9.0"), version="570.26", cuda="12.8")
    variables = {"TORCH_CUDA_ARCH_LIST": "8.0+PTX"}
    assert isinstance(outcome(seen, nvcc="12.8.93", variables=variables), Passed)


def compat(version: str, cuda: str) -> Outcome:
    """Return how the check ends behind a forward-compatibility library, with no NVML to ask."""
    path = "/usr/local/cuda/compat/libcuda.so.1"
    ahead = library(version, path, found_by="LD_LIBRARY_PATH", compat=True)
    return outcome(driver(libraries=(ahead, library()), nvml=NO_NVML, gpus=()), cuda)


def test_how_far_forward_compatibility_reaches_is_not_guessed() -> None:
    for version in ("590.44.01", ""):
        ended = compat(version, "13.0")
        assert isinstance(ended, Inconclusive) and "/compat/libcuda.so.1" in ended.reason
    assert isinstance(compat("590.44.01", "12.8"), Passed)
    one(compat("575.51.03", "13.0"), Severity.ERROR)
    told = driver(libraries=(library("590.44.01", compat=True),), cuda="13.1")
    assert isinstance(outcome(told, "13.0"), Passed)


def test_leaves_halves_of_different_versions_to_the_check_that_knows_them() -> None:
    seen = driver(libraries=(), gpus=(), nvml=refused("LIB_RM_VERSION_MISMATCH"))
    assert isinstance(outcome(seen, "13.0"), Skipped)


def test_does_not_guess_for_a_driver_it_does_not_know() -> None:
    odd = driver(version="304.137", nvml=Nvml("timeout", reason="hung"), gpus=())
    assert isinstance(outcome(odd), Inconclusive)


def test_is_silent_when_absent() -> None:
    assert isinstance(outcome(NOTHING), Skipped)
    assert isinstance(outcome(driver(), ""), Skipped)


@pytest.mark.parametrize("cuda", ["abc", "cu", "\u00b2"])
def test_a_torch_whose_cuda_is_no_version_cannot_be_judged(cuda: str) -> None:
    assert isinstance(outcome(driver(), cuda), Inconclusive)
