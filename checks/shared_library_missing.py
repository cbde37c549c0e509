"""See the check's own page."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import wheels
from cudadoctor.loading import (
    Wheel,
    found_by,
    install_wheel,
    loaded_extensions,
    short,
    take_out,
    wheel_of,
)
from cudadoctor.simulate.imports import DRIVER
from cudadoctor.simulate.loader import Problem


@check
def shared_library_missing(objects: SharedObjects, environ: Environ, packages: Packages) -> Iterator[Finding]:
    """A compiled extension of the stack needs a library that the loader does not find, or cannot load.

    ## What it means
    An extension names the libraries that it needs, and the loader looks for each in the folders that the
    extension names itself (RPATH, RUNPATH), in `LD_LIBRARY_PATH`, in its cache and in the system's folders.
    torch's own libraries need not be found there: they are loaded before the others. What is missing after
    all that ends the import: `ImportError: libcudart.so.12: cannot open shared object file`. So does a file
    that is there and damaged. The driver's own libraries are not judged here.

    ## How to tell
    `python -c "import torch, vllm._C"`; `ldd FILE` for one file, which knows nothing of what torch loaded.

    ## What helps
    The package that brings the library, in the version that torch asks for. Where it is installed and the
    file is gone, damaged or of another machine, it has to be installed again; where `LD_LIBRARY_PATH` leads
    to a damaged one, that folder is taken out.
    """
    failed: dict[str, list[Problem]] = {}
    for one in loaded_extensions(objects, environ):
        for problem in one.problems:
            if problem.path or not DRIVER.match(problem.name):
                key = problem.path or wheels.stem(problem.name) or problem.name
                failed.setdefault(key, []).append(problem)
    told = list(failed.values())
    for problems in told[:_TOLD]:
        yield _finding(problems, objects, packages, environ)
    if rest := [problems[0] for problems in told[_TOLD:]]:
        evidence = tuple(Evidence(problem.by.path, f"needs {problem.name}") for problem in rest[:_NAMED])
        yield Finding(f"{len(rest)} more libraries are missing or cannot be loaded", Severity.ERROR, evidence)


_TOLD = 20  #: findings: a damaged file may name hundreds of libraries
_NAMED = 3  #: libraries, and files that need them, that one finding names


def _finding(
    problems: list[Problem], objects: SharedObjects, packages: Packages, environ: Environ
) -> Finding:
    first = problems[0]
    missing = list(dict.fromkeys(problem.name for problem in problems))
    more = [f"{len(missing) - _NAMED} more"] if missing[_NAMED:] else []
    names = " and ".join([*missing[:_NAMED], *more])
    needers = list(dict.fromkeys(short(problem.by.path, packages) for problem in problems))
    if first.path:
        summary = f"{short(first.path, packages)} cannot be loaded: {first.reason}"
    else:
        who = f"{needers[0]} and {len(needers) - 1} more need" if needers[1:] else f"{needers[0]} needs"
        summary = f"{names}, which {who}, cannot be found by the loader"
    evidence = [Evidence(problem.by.path, f"needs {problem.name}") for problem in _once(problems)[:_NAMED]]
    if first.path:
        evidence.append(Evidence(first.path, f"{first.reason}; {found_by(first, environ)}"))
    for name in missing[:_NAMED]:
        there = objects.elsewhere.get(name, ())
        evidence += [Evidence(path, _not_taken(path, objects)) for path in there[:2]]
    wheel = wheel_of(first.name, packages)
    if wheel.instead:
        is_there = f"{wheel.installed} is installed, and" if wheel.installed else "which torch asks for,"
        evidence.append(Evidence(wheel.name, f"{is_there} brings {wheel.instead}, which is of another CUDA"))
    elif wheel.installed:
        evidence.append(Evidence(wheel.name, f"{wheel.installed} is installed, and brings {first.name}"))
    remedy = _remedy(first, wheel, objects, packages, environ)
    return Finding(summary, Severity.ERROR, tuple(evidence), (remedy,) if remedy else ())


def _remedy(
    first: Problem, wheel: Wheel, objects: SharedObjects, packages: Packages, environ: Environ
) -> Remedy | None:
    """Return what brings the library; None where one is there that could be loaded."""
    if first.rule == "LD_LIBRARY_PATH" and short(first.path, packages) == first.path:
        return take_out({first.folder}, objects, environ, first.name)
    if any(not _foreign(path, objects) for path in objects.elsewhere.get(first.name, ())):
        return None
    return install_wheel(wheel, packages)


def _not_taken(path: str, objects: SharedObjects) -> str:
    if of := _foreign(path, objects):
        return f"the loader looks there and passes it over: it is for {of}"
    return "is there, where nothing makes the loader look"


def _foreign(path: str, objects: SharedObjects) -> str:
    """Return what a library that the loader came by is for, where that is not this machine; else ""."""
    keys = [key for key in (*objects.files, *objects.paths) if posixpath.normpath(key) == path]
    real = (objects.paths.get(key, key) for key in keys)
    file = next((objects.files[key] for key in real if key in objects.files), None)
    loader = objects.loader
    if file is None or loader is None:
        return ""
    if file.bits not in (0, loader.bits):
        return f"{file.bits} bits, not {loader.bits}"
    return f"{file.machine}, not {loader.machine}" if file.machine not in ("", loader.machine) else ""


def _once(problems: list[Problem]) -> list[Problem]:
    return list({problem.by.file: problem for problem in reversed(problems)}.values())[::-1]
