"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Card, DeviceNode, Driver, Environ, Launch, Machine, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.devices import Visible, visible
from cudadoctor.verdicts import severity_without_gpu

_START = {
    "docker": "docker run --gpus all ...",
    "podman": "podman run --device nvidia.com/gpu=all ...",
    "kubernetes": "resources: {limits: {nvidia.com/gpu: 1}} in the pod's specification",
    "apptainer": "apptainer exec --nv ...",
}
_MISMATCH = "NVML_ERROR_LIB_RM_VERSION_MISMATCH"


@check
def gpu_not_visible(
    driver: Driver,
    environ: Environ,
    machine: Machine,
    packages: Packages,
    launch: Launch | None = None,
    card: Card | None = None,
) -> Iterator[Finding]:
    """A GPU is here that the launch will not see, or may not use.

    ## What it means
    CUDA reports `no CUDA-capable device is detected` (100), and vLLM finds no device, where
    `CUDA_VISIBLE_DEVICES` hides all of them: the list ends at the first entry that names no GPU, so `all`,
    `-1` and an empty value leave none: a launch of vLLM stops with `Failed to infer device type`. A container
    sees the GPUs that it was started with, and of the driver only what `NVIDIA_DRIVER_CAPABILITIES` names:
    `compute` is libcuda, `utility` is NVML. Where nothing but the image's own `NVIDIA_VISIBLE_DEVICES=all`
    speaks for a GPU, that is a note. Elsewhere the device files /dev/nvidia* are missing, or closed to this
    user. A GPU in MIG mode without a MIG device can be listed and not used.

    ## How to tell
    `nvidia-smi -L; ls -l /dev/nvidia*; echo "$CUDA_VISIBLE_DEVICES"`

    ## What helps
    `unset CUDA_VISIBLE_DEVICES`, or numbers that exist; a container started with its GPUs; membership of the
    group that the device files belong to.
    """
    severity = severity_without_gpu(packages)
    if not driver.signs() and not driver.gpus:
        raise Skip("no NVIDIA GPU is evident here")
    outside = _out_of_reach(driver, environ, machine, packages, severity)
    if outside is not None:
        yield outside
        return
    found_none = driver.nvml.ended == "answered" or driver.nvml.error == "NVML_ERROR_GPU_NOT_FOUND"
    if found_none and not driver.gpus:
        evidence = [Evidence("NVML", "the driver has no GPU"), *_signs(driver)]
        remedy = Remedy("show", {}, "sudo dmesg | grep -i nvrm  # says why the driver left the GPU alone")
        yield Finding("the driver is at work and drives no GPU", severity, tuple(evidence), (remedy,))
    here = launch is not None and launch.kind != "other" and not (card and card.source.startswith("--"))
    yield from _hidden(visible(driver.gpus, environ), driver, environ, severity, wanted=here)
    yield from _without_mig_device(driver, severity)


_WITH_BOTH = "start the container with NVIDIA_DRIVER_CAPABILITIES=compute,utility"


def _signs(driver: Driver) -> list[Evidence]:
    return [Evidence(source, detail) for source, detail in driver.signs()]


def _out_of_reach(
    driver: Driver, environ: Environ, machine: Machine, packages: Packages, severity: Severity
) -> Finding | None:
    """Return what keeps every GPU, or a part of the driver, from this process, or None."""
    nvml, closed = driver.nvml, driver.closed_nodes
    there = bool(driver.gpu_nodes or driver.wsl) or nvml.ended == "answered"
    if nvml.error == _MISMATCH:
        return None  # it has spoken with the kernel module: a container that it was let into
    if machine.container and (not there or driver.library is None):
        return _container(driver, environ, machine, severity, there)
    if closed or nvml.error == "NVML_ERROR_NO_PERMISSION":
        return _closed(closed, severity)
    if machine.container and nvml.error == "NVML_ERROR_LIBRARY_NOT_FOUND":
        return _without_nvml(driver, environ, packages)
    if driver.module and not there:
        evidence = (*_signs(driver), Evidence("/dev", "no nvidia0, no nvidiactl, no nvidia-uvm"))
        remedy = Remedy("show", {}, "sudo nvidia-modprobe -c 0 -u")
        return Finding("the driver's device files are missing", severity, evidence, (remedy,))
    return None


def _closed(closed: tuple[DeviceNode, ...], severity: Severity) -> Finding:
    evidence = tuple(Evidence(node.path, "this user may not read and write it") for node in closed)
    return Finding(
        "this user may not use the GPU: its device files are closed",
        severity,
        evidence or (Evidence("NVML", "NVML_ERROR_NO_PERMISSION"),),
        (Remedy("show", {}, "ls -l /dev/nvidia*  # the group that may, for: sudo usermod -aG GROUP $USER"),),
    )


def _unasked(capability: str, environ: Environ) -> Evidence | None:
    """Return what shows that the container was not to have a part of the driver, or None."""
    asked = environ.get("NVIDIA_DRIVER_CAPABILITIES")
    if asked is None or {capability, "all"} & {each.strip() for each in asked.split(",")}:
        return None
    held = f"NVIDIA_DRIVER_CAPABILITIES={asked}: no `{capability}` in it"
    return Evidence(environ.where("NVIDIA_DRIVER_CAPABILITIES"), held)


def _without_nvml(driver: Driver, environ: Environ, packages: Packages) -> Finding:
    """Return that the other half of the driver's libraries is missing: torch does without, vLLM does not."""
    asks = packages.find("vllm") is not None
    unasked = _unasked("utility", environ)
    evidence = [*_signs(driver), Evidence("libnvidia-ml.so.1", driver.nvml.reason)]
    summary = "the container has the driver's libcuda.so.1 and not its libnvidia-ml.so.1"
    summary += ": it was not asked for" if unasked else ""
    evidence += [unasked] if unasked else []
    severity = Severity.ERROR if asks else Severity.NOTE
    return Finding(summary, severity, tuple(evidence), (Remedy("show", {}, _WITH_BOTH),))


def _container(
    driver: Driver, environ: Environ, machine: Machine, severity: Severity, there: bool
) -> Finding:
    evidence, away = _signs(driver), next(iter(driver.libraries), None)
    unasked = _unasked("compute", environ) if there and away is None else None
    if unasked is not None:
        summary = "the container has the GPU and not its libcuda.so.1: it was not asked for"
        return Finding(summary, severity, (*evidence, unasked), (Remedy("show", {}, _WITH_BOTH),))
    if there and away is not None:
        evidence.append(Evidence(away.path, "is there, where the loader does not look"))
        summary = "the container has the GPU, and the loader does not find its libcuda.so.1"
        return Finding(summary, severity, tuple(evidence), (Remedy("show", {}, "ldconfig  # as root"),))
    if there:
        evidence.append(Evidence("/etc/ld.so.cache", "no libcuda.so.1"))
        what = "its libcuda.so.1" if driver.nvml.ended == "answered" else "the driver's libraries"
        summary = f"the container has the GPU and not {what}"
    else:
        evidence.append(Evidence("/dev", "no nvidia0, no nvidiactl, no nvidia-uvm"))
        summary = "this container was started without a GPU"
    remedy = _START.get(machine.container, "start the container with its GPUs")
    if not there and not driver.is_evident:
        # Images ask for all GPUs wherever they are started, on a machine that builds and tests them too.
        summary, severity = f"{summary}, which its image asks for", Severity.NOTE
    return Finding(summary, severity, tuple(evidence), (Remedy("show", {}, remedy),))


def _hidden(
    seen: Visible, driver: Driver, environ: Environ, severity: Severity, wanted: bool
) -> Iterator[Finding]:
    """Yield what CUDA_VISIBLE_DEVICES hides against its own words; a number less than all is meant so."""
    if not seen.why or not driver.gpus:
        return
    value, where = environ.get("CUDA_VISIBLE_DEVICES"), environ.where("CUDA_VISIBLE_DEVICES")
    evidence = (
        Evidence(where, f"CUDA_VISIBLE_DEVICES={value}"),
        *(
            Evidence("NVML", f"GPU {gpu.index}: {gpu.name or 'of unknown name'} {gpu.uuid}")
            for gpu in driver.gpus
        ),
    )
    remedy = Remedy("show", {}, "unset CUDA_VISIBLE_DEVICES")
    if seen.gpus:
        summary = f"CUDA_VISIBLE_DEVICES ends early: {seen.why}"
        yield Finding(summary, Severity.WARNING, evidence, (remedy,))
    else:
        # Emptied or -1 it is mostly meant: a launch on the GPU fails, one on the CPU is what was wanted.
        meant = (value or "").strip() in ("", "-1") and not wanted
        summary = f"CUDA_VISIBLE_DEVICES hides every GPU: {seen.why}"
        yield Finding(summary, Severity.WARNING if meant else severity, evidence, (remedy,))


def _without_mig_device(driver: Driver, severity: Severity) -> Iterator[Finding]:
    for gpu in driver.gpus:
        if gpu.mig and not gpu.mig_devices:
            others = len(driver.gpus) > 1
            yield Finding(
                f"GPU {gpu.index} ({gpu.name}) is in MIG mode and has no MIG device: CUDA cannot use it",
                Severity.WARNING if others else severity,
                (Evidence("NVML", f"GPU {gpu.index}: MIG mode is on, MIG devices: none"),),
                (
                    Remedy(
                        "show",
                        {},
                        f"sudo nvidia-smi mig -i {gpu.index} -cgi 0 -C  # or -mig 0: one whole GPU",
                    ),
                ),
            )
