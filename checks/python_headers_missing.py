"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import BuildTools, Libraries, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def python_headers_missing(
    tools: BuildTools, target: Target, packages: Packages, libraries: Libraries
) -> Iterator[Finding]:
    """Python.h is missing, which Triton includes in the C launcher it compiles at its first kernel.

    ## What it means
    Triton compiles a small C extension when the first kernel starts. System Pythons come without headers
    unless the development package is installed: `fatal error: Python.h: No such file or directory`, minutes
    into the launch. Environments made from such a Python have none either.

    ## How to tell
    `python3 -c "import sysconfig; print(sysconfig.get_paths()['include'])"` prints a folder without Python.h.

    ## What helps
    The development package of that Python, or a Python that brings its headers (conda, uv, pyenv).
    """
    if packages.triton is None:
        raise Skip("Triton is not installed")
    if tools.python_header:
        return
    if tools.python_header_barred:
        raise CannotTell(f"whether there is a Python.h: this user may not enter {tools.python_header_barred}")
    if not target.version:
        raise CannotTell("the interpreter's version could not be told, so neither where its headers belong")
    minor = ".".join(target.version.split(".")[:2])
    severity = Severity.ERROR if libraries.driver else Severity.WARNING
    yield Finding(
        "Triton will stop at its first kernel: no Python.h",
        severity,
        tuple(Evidence(path, "no such file") for path in tools.python_header_looked),
        (Remedy("show", {}, _package(target, minor)),),
    )


def _package(target: Target, minor: str) -> str:
    if target.base_prefix in ("/usr", "/"):
        return f"the system package python{minor}-dev (Debian, Ubuntu) or python{minor}-devel (Fedora, RHEL)"
    return f"a Python {minor} that brings its headers: {target.base_prefix}/include/python{minor}/Python.h"
