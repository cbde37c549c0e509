"""What the installed libraries ask for by name, distribution by distribution."""

from __future__ import annotations

import re

from cudadoctor.facts import Distribution, SharedObjects

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
