"""What the installed libraries ask for by name, distribution by distribution."""

from __future__ import annotations

import re

from cudadoctor.facts import BitsAndBytes, Distribution, SharedObjects
from cudadoctor.versions import numbers

_CUDART = re.compile(r"libcudart\.so\.(\d+)(?:\.\d+)*")


def required(distribution: Distribution) -> set[str]:
    """Return the projects that a distribution requires, normalised."""
    names = (re.match(r"[\w.-]+", line) for line in distribution.requires)
    return {re.sub(r"[-_.]+", "-", match[0]).lower() for match in names if match}


def needs(objects: SharedObjects, distribution: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the compiled extensions of a distribution: the path, and the libraries that it names."""
    found = []
    for extension in objects.extensions:
        file = objects.files.get(objects.paths.get(extension.path, extension.path))
        if extension.distribution == distribution and file is not None and not file.problem:
            found.append((extension.path, file.needed))
    return found


def runtimes(objects: SharedObjects, distribution: str) -> dict[str, tuple[str, str]]:
    """Return the CUDA majors whose runtime its extensions need: "12", with the path and the library."""
    found: dict[str, tuple[str, str]] = {}
    for path, needed in needs(objects, distribution):
        for name in needed:
            if match := _CUDART.fullmatch(name):
                found.setdefault(match[1], (path, name))
    return found


def is_there(objects: SharedObjects, soname: str) -> bool:
    """Return whether a library of that name is anywhere that the loader was seen to look."""
    if soname in objects.cached:
        return bool(objects.cached[soname])
    places = [*objects.files, *(path for path, real in objects.paths.items() if real)]
    return any(path.rpartition("/")[2] == soname for path in places)


def library_for(found: BitsAndBytes, cuda: str, override: str = "") -> str:
    """Return the CUDA of the library that bitsandbytes opens for torch's: "12.8"; "" where it has none.

    That is the one for this very release. Since 0.50 another one of its major does as well: the next lower,
    or else the lowest. What BNB_CUDA_VERSION names, "128", has to be there. tests/real/test_builds.py asks
    the cextension.py of 0.49.2 and 0.50.2.
    """
    if override:
        return next((each for each in found.cuda if each.replace(".", "") == override), "")
    if cuda in found.cuda or not found.falls_back:
        return cuda if cuda in found.cuda else ""
    near = sorted((each for each in found.cuda if numbers(each)[:1] == numbers(cuda)[:1]), key=numbers)
    lower = [each for each in near if numbers(each) <= numbers(cuda)]
    return (lower[-1:] or near[:1] or [""])[0]
