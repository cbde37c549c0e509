"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Machine
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.verdicts import answered


@check
def fabric_manager_not_running(driver: Driver, machine: Machine) -> Iterator[Finding]:
    """The GPUs are wired by NVSwitch, and nobody has set that fabric up.

    ## What it means
    On HGX and DGX boards the GPUs talk through NVSwitches, which the service nvidia-fabricmanager sets up
    when the machine starts. Until it has, CUDA does not start on any of these GPUs: `system not yet
    initialized` (802, cudaErrorSystemNotReady), while nvidia-smi looks healthy. The service stops at once
    where its version is not the driver's, as after an update of the driver alone.

    ## How to tell
    `nvidia-smi -q | grep -A3 Fabric` and `systemctl status nvidia-fabricmanager`

    ## What helps
    The fabric manager of exactly the driver's version, started on the host: containers cannot do that.
    """
    switches = [node.path for node in driver.nodes if "nvswitch" in node.path]
    states = {gpu.index: gpu.fabric for gpu in driver.gpus if gpu.fabric}
    if not switches and not states:
        raise Skip("no NVSwitch is evident here")
    answered(driver)
    if not states:
        raise CannotTell("this driver does not tell whether the NVSwitch fabric is set up")
    bad = {index: state for index, state in states.items() if state != "completed"}
    if not bad:
        return
    waits = set(bad.values()) == {"in-progress"}
    evidence = [Evidence("NVML", f"GPU {index}: fabric {state}") for index, state in bad.items()]
    evidence += [Evidence(path, "exists") for path in switches[:1]]
    summary = "the NVLink fabric is still being set up" if waits else "the NVLink fabric is not set up"
    where = "on the host; " if machine.container else ""
    command = f"sudo systemctl restart nvidia-fabricmanager  # {where}its version must be the driver's"
    remedy = Remedy("show", {}, f"{command}, {driver.version}" if driver.version else command)
    yield Finding(
        f"{summary}: CUDA will fail with error 802 (system not yet initialized)",
        Severity.WARNING if waits else Severity.ERROR,
        tuple(evidence),
        (remedy,),
    )
