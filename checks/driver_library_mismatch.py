"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Driver, DriverLibrary, Environ, Machine, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, export
from cudadoctor.verdicts import severity_without_gpu

_MISMATCH = "NVML_ERROR_LIB_RM_VERSION_MISMATCH"


@check
def driver_library_mismatch(
    driver: Driver, environ: Environ, machine: Machine, packages: Packages
) -> Iterator[Finding]:
    """The driver's kernel module and its libraries are of different versions.

    ## What it means
    The two halves of the driver work together only in the same version. After an update the new libraries are
    on disk while the kernel still runs the old module, until the machine is restarted: nvidia-smi says
    `Driver/library version mismatch`, CUDA `system has unsupported display driver / cuda driver combination`
    (803). In a container the libraries are those that the host had when it was started; an image may bring
    a copy of its own, which is wrong on every other host.

    ## How to tell
    `cat /proc/driver/nvidia/version` against the file that `ldconfig -p | grep libcuda.so.1` leads to

    ## What helps
    After an update: a restart. A library from elsewhere: out of the loader's way.
    """
    severity = severity_without_gpu(packages)
    module = driver.module
    told = driver.nvml.error == _MISMATCH  # a module is loaded then, whether its file is seen here or not
    if not told and not (driver.signs() and module):
        raise Skip("no NVIDIA kernel module is loaded")
    wrong = _wrong(driver) if module else None
    if not told and wrong is None:
        return
    version = wrong.version if wrong else driver.nvml.version
    where = wrong.path if wrong else driver.nvml.library or "libnvidia-ml.so.1"
    evidence = [Evidence(driver.module_source, f"the kernel module is {module}")] if module else []
    if version:
        evidence.append(Evidence(where, f"is of {version}"))
    if told:
        evidence.append(Evidence("NVML", f"{_MISMATCH}: {driver.nvml.reason}"))
    runs = module or "of another version"
    of = f"of {version}" if version else "of another version" if module else "not of that"
    summary = f"the kernel runs the driver {runs}, and its libraries are {of}"
    yield Finding(summary, severity, tuple(evidence), (_remedy(wrong, environ, machine),))


def _wrong(driver: Driver) -> DriverLibrary | None:
    """Return the libcuda.so.1 of another version: the one that comes first by LD_LIBRARY_PATH, or all."""
    reached = [library for library in driver.libraries if library.reached]
    if not reached or reached[0].compat:
        return None
    first, *others = reached
    own = [first] if first.found_by == "LD_LIBRARY_PATH" else [first, *others]
    return first if all(lib.version not in ("", driver.module) and not lib.compat for lib in own) else None


def _remedy(wrong: DriverLibrary | None, environ: Environ, machine: Machine) -> Remedy:
    if wrong is not None and wrong.found_by == "LD_LIBRARY_PATH":
        folder = wrong.path.rpartition("/")[0]
        kept = [entry for entry in environ.entries("LD_LIBRARY_PATH") if entry.rstrip("/") != folder]
        return export("library-path", LD_LIBRARY_PATH=":".join(kept))
    if machine.container:
        text = "start the container again, without driver libraries of its own: the host's driver has changed"
        return Remedy("show", {}, text)
    return Remedy(
        "show", {}, "restart the machine: the kernel then loads the module that belongs to the libraries"
    )
