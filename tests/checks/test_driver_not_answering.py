from typing import Any

import pytest

from cudadoctor.facts import DeviceNode, Driver, DriverLibrary, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, severities, shown
from .gpus import NOTHING, VERSION, driver, gpu, host, library, refused


def outcome(seen: Driver, container: str = "", **variables: str) -> Outcome:
    return judge(
        "driver-not-answering",
        driver=seen, environ=environ(**variables), machine=host(container=container), packages=packages(),
    )  # fmt: skip


def test_a_hanging_driver_is_named_and_not_judged() -> None:
    hangs = Nvml("timeout", reason="NVML did not answer within 5 s")
    ended = outcome(driver(nvml=hangs, gpus=()))
    assert isinstance(ended, Inconclusive) and "did not answer within 5 s: the driver hangs" in ended.reason


def test_a_crash_is_named_and_not_judged() -> None:
    crashed = Nvml("crashed", reason="the process that asked NVML crashed (SIGSEGV)")
    ended = outcome(driver(nvml=crashed, gpus=()))
    assert isinstance(ended, Inconclusive) and "SIGSEGV" in ended.reason


def test_reports_a_driver_that_does_not_start_up() -> None:
    finding = one(outcome(driver(nvml=refused("UNKNOWN", "Unknown Error"), gpus=())), Severity.ERROR)
    assert "Unknown Error" in finding.summary and "NVML_ERROR_UNKNOWN" in shown(finding)


def test_reports_a_gpu_that_fell_off_the_bus() -> None:
    finding = one(outcome(driver(gpu(problem="NVML_ERROR_GPU_IS_LOST"))), Severity.ERROR)
    assert "gpu is lost" in finding.summary and "gpu-reset" in shown(finding)


def test_a_lost_gpu_that_the_launch_does_not_see_is_a_note() -> None:
    seen = driver(gpu(), gpu(problem="NVML_ERROR_RESET_REQUIRED"))
    one(outcome(seen, CUDA_VISIBLE_DEVICES="0"), Severity.NOTE)


def test_where_the_launch_may_see_either_gpu_a_lost_one_is_a_warning() -> None:
    seen = driver(gpu("NVIDIA H100", "9.0"), gpu(problem="NVML_ERROR_GPU_IS_LOST"))
    ended = outcome(seen, CUDA_VISIBLE_DEVICES="0")
    assert severities(ended) == ["warning"]


def test_leaves_to_others_what_they_explain() -> None:
    for error in ("LIBRARY_NOT_FOUND", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION"):
        assert isinstance(outcome(driver(nvml=refused(error), gpus=())), Skipped)


REFUSALS = ("DRIVER_NOT_LOADED", "LIBRARY_NOT_FOUND", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION",
            "GPU_NOT_FOUND", "UNKNOWN")  # fmt: skip


@pytest.mark.parametrize("container", ["", "docker"])
@pytest.mark.parametrize("error", REFUSALS)
@pytest.mark.parametrize("module", [VERSION, ""])
@pytest.mark.parametrize("libraries", [(library(),), ()])
@pytest.mark.parametrize("nodes", ["open", "closed", "none", "wsl"])
def test_every_refusal_ends_in_a_finding(
    container: str, error: str, module: str, libraries: tuple[DriverLibrary, ...], nodes: str
) -> None:
    """Each check may leave a case to another, and all of them together leave none."""
    files = () if nodes in ("none", "wsl") else (DeviceNode("/dev/nvidia0", nodes == "open"),)
    wsl = "/usr/lib/wsl/lib" if nodes == "wsl" else ""
    seen = driver(
        nvml=refused(error), gpus=(), module=module, module_source="/proc" if module else "", nodes=files,
        libraries=libraries, wsl=wsl,
    )  # fmt: skip
    held: dict[str, Any] = {
        "driver": seen, "environ": environ(), "machine": host(container=container), "packages": packages(),
        "toolkits": no_toolkits(),
    }  # fmt: skip
    names = ("driver-not-answering", "driver-missing", "driver-library-mismatch", "gpu-not-visible")
    ended = {name: judge(name, **held) for name in names}
    told = [finding for each in ended.values() for finding in each.findings]
    assert told, {name: each.reason for name, each in ended.items()}
    for each in ended.values():
        other = each.reason.rpartition("see ")[2]
        assert other not in ended or ended[other].findings, (each, ended[other])
    if error == "LIB_RM_VERSION_MISMATCH" and container:
        assert len(told) == 1 and "--gpus" not in shown(told[0])


def test_a_driver_that_is_not_loaded_on_the_containers_host_is_named() -> None:
    gone = refused("DRIVER_NOT_LOADED", "Driver Not Loaded")
    seen = driver(nvml=gone, gpus=(), module="", module_source="")
    finding = one(outcome(seen, "docker"), Severity.ERROR)
    assert "Driver Not Loaded" in finding.summary and "on the host of this container" in shown(finding)


def test_many_lost_gpus_are_one_finding() -> None:
    lost = [gpu(problem="NVML_ERROR_GPU_IS_LOST") for _ in range(300)]
    finding = one(outcome(driver(*lost)), Severity.ERROR)
    assert finding.summary == "300 GPUs do not work: gpu is lost" and "292 more" in shown(finding)


def test_gpus_with_different_problems_are_told_apart() -> None:
    seen = driver(gpu(problem="NVML_ERROR_GPU_IS_LOST"), gpu(problem="NVML_ERROR_RESET_REQUIRED"))
    assert [finding.summary[:5] for finding in outcome(seen).findings] == ["GPU 0", "GPU 1"]


def test_what_went_wrong_with_the_asking_is_no_verdict() -> None:
    odd = Nvml("refused", error="NVMLLibraryMismatchError", reason="two of them")
    assert isinstance(outcome(driver(nvml=odd, gpus=())), Inconclusive)


def test_an_odd_library_is_no_verdict() -> None:
    assert isinstance(outcome(driver(nvml=refused("FUNCTION_NOT_FOUND"), gpus=())), Inconclusive)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(NOTHING), Skipped)
    assert isinstance(outcome(Driver(nvml=refused("DRIVER_NOT_LOADED"))), Skipped), "a library and no GPU"
