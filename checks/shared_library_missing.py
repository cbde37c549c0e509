"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import check
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge import wheels
from cudadoctor.loading import loaded_extensions, short
from cudadoctor.simulate.imports import DRIVER
from cudadoctor.simulate.loader import Problem
from cudadoctor.verdicts import pip_install


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
    wheel = _wheel(first.name, packages)
    if wheel.installed:
        evidence.append(Evidence(wheel.name, f"{wheel.installed} is installed, and brings {first.name}"))
    remedy = None if first.name in objects.elsewhere else _remedy(wheel)
    return Finding(summary, Severity.ERROR, tuple(evidence), (remedy,) if remedy else ())


def _once(problems: list[Problem]) -> list[Problem]:
    return list({problem.by.file: problem for problem in reversed(problems)}.values())[::-1]


class _Wheel(Struct, frozen=True):
    """What brings a library: the name is empty where that is not known."""

    name: str
    version: str = ""  #: that torch asks for
    installed: str = ""


def _wheel(soname: str, packages: Packages) -> _Wheel:
    """Return the wheel that brings a library, as torch or CUDA's metapackage asks for it."""
    stem = wheels.stem(soname)
    if stem in ("", "torch"):
        found = packages.find(stem)
        return _Wheel(stem, "", found.version if found else "")
    named = re.compile(rf"(nvidia-{stem}(?:-cu\d+)?)\s*\(?==\s*([\w.]+)")
    for owner in ("torch", "cuda-toolkit"):
        distribution = packages.find(owner)
        for match in map(named.match, distribution.requires if distribution else ()):
            if match:
                there = packages.find(match[1])
                return _Wheel(match[1], match[2].removesuffix("."), there.version if there else "")
    return _Wheel("")


def _remedy(wheel: _Wheel) -> Remedy | None:
    if not wheel.name:
        return None
    if wheel.installed:
        said = f"pip install --force-reinstall --no-deps {wheel.name}=={wheel.installed}"
        return Remedy("show", {}, said)
    return pip_install(f"{wheel.name}=={wheel.version}" if wheel.version else wheel.name)
