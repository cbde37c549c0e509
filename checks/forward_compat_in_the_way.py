"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, DriverLibrary, Environ
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.versions import numbers

#: Cards for which NVIDIA offers no forward compatibility; of professional RTX ones some have it.
_NEVER = re.compile(r"GeForce|TITAN")
_PERHAPS = re.compile(r"RTX|Quadro|GB10|Orin|Thor")


@check
def forward_compat_in_the_way(driver: Driver, environ: Environ) -> Iterator[Finding]:
    """A forward-compatibility libcuda comes before the driver's own, and cannot work here.

    ## What it means
    The packages cuda-compat bring a newer `libcuda.so.1` to an older kernel module. That works on data-centre
    GPUs alone, and only as long as the library is newer than the module. On a GeForce, or once the host's
    driver has become the newer one, CUDA does not start: `system has unsupported display driver / cuda driver
    combination` (803) or `forward compatibility was attempted on non supported HW` (804). Images put the
    folder on `LD_LIBRARY_PATH` or into the loader's cache, vLLM's own among them.

    ## How to tell
    `LD_DEBUG=libs python -c "import ctypes; ctypes.CDLL('libcuda.so.1')" 2>&1 | grep 'init: .*libcuda'` names
    a file below `compat`.

    ## What helps
    The loader's path without that folder; a newer driver where the library was there to make up for one.
    """
    library, module = driver.library, driver.version
    if library is None:
        raise Skip("the loader finds no libcuda.so.1")
    if not library.compat or library.version == module:
        return
    if not library.version or not module:
        raise CannotTell(f"{library.path}: its version, or that of the kernel module, is not known")
    older = numbers(library.version) < numbers(module)
    card = next((gpu.name for gpu in driver.gpus if _NEVER.search(gpu.name)), "")
    if not older and not card:
        if not driver.gpus or any(_PERHAPS.search(gpu.name) for gpu in driver.gpus):
            raise CannotTell(f"whether this GPU may use {library.path} is not known")
        return
    what = f"older than the kernel module {module}" if older else f"not for a {card.removeprefix('NVIDIA ')}"
    evidence = [
        Evidence(library.path, f"is found by {library.found_by}, and is of {library.version}"),
        Evidence(driver.module_source or "NVML", f"the driver is {module}"),
    ]
    if library.found_by == "LD_LIBRARY_PATH":
        held = f"LD_LIBRARY_PATH={environ.get('LD_LIBRARY_PATH')}"
        evidence.append(Evidence(environ.where("LD_LIBRARY_PATH"), held))
    summary = f"CUDA will take the forward-compatibility library {library.path}, which is {what}"
    yield Finding(summary, Severity.ERROR, tuple(evidence), (_remedy(library, driver, environ),))


def _remedy(library: DriverLibrary, driver: Driver, environ: Environ) -> Remedy:
    if library.found_by != "LD_LIBRARY_PATH":
        folder = library.path.rpartition("/")[0]
        text = f"take {folder} out of the files in /etc/ld.so.conf.d, then: sudo ldconfig"
        return Remedy("show", {}, text)
    compat = {lib.path.rpartition("/")[0] for lib in driver.libraries if lib.compat}
    kept = [entry for entry in environ.entries("LD_LIBRARY_PATH") if entry.rstrip("/") not in compat]
    return export("library-path", LD_LIBRARY_PATH=":".join(kept))
