from cudadoctor.facts import DeviceNode, Driver, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, shown
from .gpus import NOTHING, driver, gpu, host

SWITCH = DeviceNode("/dev/nvidia-nvswitch0", True)


def outcome(seen: Driver, container: str = "") -> Outcome:
    return judge("fabric-manager-not-running", driver=seen, machine=host(container=container))


def board(*states: str) -> Driver:
    return driver(*(gpu("NVIDIA H100 80GB HBM3", "9.0", 80, fabric=state) for state in states))


def test_reports_a_fabric_that_nobody_set_up() -> None:
    finding = one(outcome(board("not-started", "not-started")), Severity.ERROR)
    assert (
        "802" in finding.summary
        and "nvidia-fabricmanager" in shown(finding)
        and "550.54.14" in shown(finding)
    )


def test_reports_one_that_failed() -> None:
    finding = one(outcome(board("completed", "failed: NVML_ERROR_UNKNOWN")), Severity.ERROR)
    assert "GPU 1" in shown(finding) and "GPU 0" not in shown(finding)


def test_one_that_is_being_set_up_is_a_warning() -> None:
    one(outcome(board("in-progress", "completed")), Severity.WARNING)


def test_in_a_container_it_is_the_hosts_to_start() -> None:
    assert "on the host" in shown(one(outcome(board("not-started"), "docker")))


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(board("completed", "completed")), Passed)
    assert isinstance(outcome(driver()), Skipped), "a GPU that belongs to no fabric"
    assert isinstance(outcome(NOTHING), Skipped)


def test_does_not_judge_what_the_driver_does_not_tell() -> None:
    nodes = (*driver().nodes, SWITCH)
    assert isinstance(outcome(driver(nodes=nodes)), Inconclusive)
    assert isinstance(
        outcome(driver(nodes=nodes, gpus=(), nvml=Nvml("timeout", reason="hung"))), Inconclusive
    )
