"""See the check's own page."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.loading import found_by, loaded_extensions, short
from cudadoctor.simulate.imports import driver
from cudadoctor.simulate.loader import Loaded


@check
def stub_loaded_as_driver(objects: SharedObjects, environ: Environ, packages: Packages) -> Iterator[Finding]:
    """The loader takes a stub for the driver, whatever LD_LIBRARY_PATH is.

    ## What it means
    The `libcuda.so` of a toolkit's `stubs` folder is there to be linked against. It can end up as the
    `libcuda.so.1` of a process where a stubs folder is in the loader's configuration (`/etc/ld.so.conf.d`) or
    in a library's own RPATH, or where a link to it stands among an environment's libraries. Then every call
    fails with error 34, `CUDA driver is a stub library`. A stub that `LD_LIBRARY_PATH` leads to has a check
    of its own: stub-on-loader-path.

    ## How to tell
    `LD_DEBUG=libs python -c "import torch; torch.cuda.init()" 2>&1 | grep 'init: .*libcuda'` names a file
    below `stubs`, or a link to one.

    ## What helps
    The stubs folder out of `/etc/ld.so.conf.d`, and `ldconfig`; or the link removed.
    """
    found: dict[str, tuple[Loaded, str]] = {}
    for one in loaded_extensions(objects, environ):
        taken = driver(one.process)
        if taken is not None and taken.rule != "LD_LIBRARY_PATH" and _is_stub(taken):
            found.setdefault(taken.file, (taken, one.extension.path))
    for taken, extension in found.values():
        yield _finding(taken, short(extension, packages), environ)


def _is_stub(taken: Loaded) -> bool:
    return _real(taken).rpartition("/")[0].endswith("/stubs")


def _real(taken: Loaded) -> str:
    return taken.object.real or posixpath.normpath(taken.path)


def _finding(taken: Loaded, extension: str, environ: Environ) -> Finding:
    real = _real(taken)
    evidence = [Evidence(taken.path, f"is a link to {real}" if real != taken.path else "is a stub library")]
    evidence.append(Evidence(extension, f"needs libcuda.so.1; {found_by(taken, environ)}"))
    remedies: tuple[Remedy, ...] = ()
    if taken.rule == "cache":
        folder = posixpath.dirname(taken.path)
        said = f"sudo ldconfig  # once {folder} is out of /etc/ld.so.conf and /etc/ld.so.conf.d"
        remedies = (Remedy("show", {}, said),)
    return Finding(
        f"{extension} gets the stub {taken.path} for the driver: every CUDA call will fail (error 34)",
        Severity.ERROR,
        tuple(evidence),
        remedies,
    )
