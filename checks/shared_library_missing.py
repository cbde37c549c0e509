"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.knowledge import wheels
from cudadoctor.loading import install_wheel, loaded_extensions, short, wheel_of
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
    file is gone or damaged, it has to be installed again.
    """
    failed: dict[str, list[Problem]] = {}
    for one in loaded_extensions(objects, environ):
        for problem in one.problems:
            if problem.path or not DRIVER.match(problem.name):
                key = problem.path or wheels.stem(problem.name) or problem.name
                failed.setdefault(key, []).append(problem)
    for problems in failed.values():
        yield _finding(problems, objects, packages)


def _finding(problems: list[Problem], objects: SharedObjects, packages: Packages) -> Finding:
    first = problems[0]
    names = " and ".join(dict.fromkeys(problem.name for problem in problems))
    needers = list(dict.fromkeys(short(problem.by.path, packages) for problem in problems))
    if first.path:
        summary = f"{short(first.path, packages)} cannot be loaded: {first.reason}"
    else:
        who = f"{needers[0]} and {len(needers) - 1} more need" if needers[1:] else f"{needers[0]} needs"
        summary = f"{names}, which {who}, cannot be found by the loader"
    evidence = [Evidence(problem.by.path, f"needs {problem.name}") for problem in _once(problems)[:3]]
    if first.path:
        evidence.append(Evidence(first.path, first.reason))
    for name in dict.fromkeys(problem.name for problem in problems):
        there = objects.elsewhere.get(name, ())
        evidence += [Evidence(path, "is there, where nothing makes the loader look") for path in there[:2]]
    wheel = wheel_of(first.name, packages)
    if wheel.installed:
        evidence.append(Evidence(wheel.name, f"{wheel.installed} is installed, and brings {first.name}"))
    remedy = None if first.name in objects.elsewhere else install_wheel(wheel)
    return Finding(summary, Severity.ERROR, tuple(evidence), (remedy,) if remedy else ())


def _once(problems: list[Problem]) -> list[Problem]:
    return list({problem.by.file: problem for problem in reversed(problems)}.values())[::-1]
