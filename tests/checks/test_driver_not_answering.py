from cudadoctor.facts import Driver, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown
from .gpus import NOTHING, driver, gpu, refused


def outcome(seen: Driver, **variables: str) -> Outcome:
    return judge(
        "driver-not-answering", driver=seen, environ=environ(**variables), packages=packages()
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


def test_leaves_to_others_what_they_explain() -> None:
    for error in ("DRIVER_NOT_LOADED", "LIB_RM_VERSION_MISMATCH", "NO_PERMISSION"):
        assert isinstance(outcome(driver(nvml=refused(error), gpus=())), Skipped)


def test_an_odd_library_is_no_verdict() -> None:
    assert isinstance(outcome(driver(nvml=refused("FUNCTION_NOT_FOUND"), gpus=())), Inconclusive)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(NOTHING), Skipped)
    assert isinstance(outcome(Driver(nvml=refused("DRIVER_NOT_LOADED"))), Skipped), "a library and no GPU"
