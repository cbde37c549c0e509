from typing import Any

import pytest

from cudadoctor.facts import Driver, Gpu, Kernels, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, severities, shown, toolkit, toolkits
from .gpus import NOTHING, driver, gpu, kernels


def outcome(seen: Driver, code: Kernels, nvcc: str = "", **variables: str) -> Outcome:
    kits = toolkits(toolkit(version=nvcc), headers=nvcc.rpartition(".")[0]) if nvcc else no_toolkits()
    return judge(
        "gpu-architecture-unsupported",
        driver=seen, kernels=code, packages=packages(), toolkits=kits, environ=environ(**variables),
    )  # fmt: skip


def card(name: str, capability: str) -> Any:
    return gpu(f"NVIDIA {name}", capability, 16)


@pytest.mark.parametrize(
    ("name", "capability", "says"),
    [("GeForce RTX 5090", "12.0", "CUDA 12.8 or newer"), ("GeForce GTX 1080 Ti", "6.1", "CUDA 12.6"),
     ("Tesla V100-SXM2-16GB", "7.0", "CUDA 12.6"), ("B200", "10.0", "CUDA 12.8 or newer")],
)  # fmt: skip
def test_reports_a_gpu_that_torch_has_no_code_for(name: str, capability: str, says: str) -> None:
    finding = one(
        outcome(driver(card(name, capability)), kernels("7.5", "8.0", "8.6", "9.0")), Severity.ERROR
    )
    assert f"torch has no code for NVIDIA {name} (compute capability {capability})" in finding.summary
    assert says in shown(finding)


@pytest.mark.parametrize("capability", ["7.5", "8.0", "8.6", "8.7", "8.9", "9.0", "10.0", "10.3", "12.0"])
def test_is_silent_where_code_of_an_older_minor_runs(capability: str) -> None:
    assert isinstance(outcome(driver(card("GPU", capability)), kernels()), Passed)


def test_names_torchs_warning_about_a_gb10_as_cosmetic() -> None:
    ended = outcome(driver(gpu("NVIDIA GB10", "12.1", None)), kernels())
    assert severities(ended) == ["note"] and "cosmetic" in ended.findings[0].summary


def test_code_for_one_gpu_alone_serves_no_other() -> None:
    one(outcome(driver(card("GPU", "12.0")), kernels("8.0", "9.0a", "10.0a")), Severity.ERROR)
    assert isinstance(outcome(driver(card("H100", "9.0")), kernels("8.0", "9.0a")), Passed)


def test_ptx_serves_where_the_driver_knows_it() -> None:
    seen, code = card("H100", "9.0"), kernels("8.0", ptx=("8.0",))
    assert isinstance(outcome(driver(seen, version="570.26", cuda="12.8"), code), Passed)
    one(outcome(driver(seen, cuda="12.4"), code), Severity.ERROR)


def test_with_another_gpu_that_is_served_it_is_a_warning() -> None:
    both = driver(card("GeForce RTX 3090", "8.6"), card("GeForce RTX 5090", "12.0"))
    old = kernels("8.0", "9.0")
    one(outcome(both, old), Severity.WARNING)
    assert isinstance(outcome(both, old, CUDA_VISIBLE_DEVICES="0", CUDA_DEVICE_ORDER="PCI_BUS_ID"), Passed)


def test_where_the_launch_may_see_either_gpu_only_what_holds_for_both_is_said() -> None:
    """Without CUDA_DEVICE_ORDER number 0 is the fastest GPU, and which one that is nobody here knows."""
    ada, pascal = card("GeForce RTX 4090", "8.9"), card("GeForce GTX 1080 Ti", "6.1")
    either = {"CUDA_VISIBLE_DEVICES": "0"}
    unsure = outcome(driver(ada, pascal), kernels(), "13.0.48", **either)
    assert isinstance(unsure, Inconclusive) and not unsure.findings
    assert "CUDA_DEVICE_ORDER=PCI_BUS_ID" in unsure.reason
    newest = outcome(driver(ada, gpu("NVIDIA GB10", "12.1", None)), kernels(), **either)
    assert isinstance(newest, Passed), "a note on one of them is left out"
    lost = outcome(driver(pascal, Gpu(1, "", problem="NVML_ERROR_GPU_IS_LOST")), kernels(), **either)
    assert isinstance(lost, Inconclusive), "of what does not answer nothing is known"
    both = outcome(driver(pascal, card("Tesla V100", "7.0")), kernels(), **either)
    assert isinstance(both, Failed) and severities(both) == ["error", "error"]


@pytest.mark.parametrize(
    ("capability", "nvcc"), [("12.0", "12.6.85"), ("12.1", "12.8.93"), ("10.0", "12.4.131")]
)
def test_reports_an_nvcc_older_than_the_gpu(capability: str, nvcc: str) -> None:
    ended = outcome(driver(card("GPU", capability)), kernels(), nvcc)
    finding = next(f for f in ended.findings if f.severity is Severity.ERROR)
    assert f"nvcc {nvcc} cannot compile" in finding.summary and "or newer" in shown(finding)


@pytest.mark.parametrize(
    ("capability", "nvcc"),
    [("12.0", "12.8.93"), ("8.9", "12.0.140"), ("7.5", "12.9.86"), ("9.0", "12.4.131")],
)
def test_is_silent_about_an_nvcc_that_knows_the_gpu(capability: str, nvcc: str) -> None:
    assert isinstance(outcome(driver(card("GPU", capability)), kernels(), nvcc), Passed)


def test_says_what_could_not_be_read() -> None:
    ended = outcome(driver(), kernels(problem="No such file or directory"))
    assert isinstance(ended, Inconclusive) and "libtorch_cuda.so" in ended.reason


def test_what_could_not_be_read_hides_nothing_of_what_was() -> None:
    unread = kernels(problem="No such file or directory").files
    both = Kernels((*kernels("8.0", "9.0").files, *unread))
    one(outcome(driver(card("GeForce RTX 5090", "12.0")), both), Severity.ERROR)


def test_is_silent_without_a_gpu_or_an_answer() -> None:
    assert isinstance(outcome(NOTHING, Kernels()), Skipped)
    silent = driver(gpus=(), nvml=Nvml("timeout", reason="NVML did not answer within 5 s"))
    assert isinstance(outcome(silent, Kernels()), Inconclusive)
    assert isinstance(outcome(driver(), kernels(), CUDA_VISIBLE_DEVICES=""), Skipped)
