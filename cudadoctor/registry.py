"""Finds the checks: our own in `checks/`, then those that plug-ins offer by entry point.

A plug-in that cannot be loaded is an outcome, never silence.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import Check
from cudadoctor.outcomes import Crashed

GROUP = "cudadoctor.checks"
LOAD_TIMEOUT_S = 5.0


class Registry(Struct, frozen=True):
    """Every check by name, who brought it, and the plug-ins that could not be loaded."""

    checks: dict[str, Check]
    origins: dict[str, str]  #: "cudadoctor", or the plug-in's distribution
    failures: tuple[Crashed, ...]

    def own(self) -> set[str]:
        """Return the names of the checks that come with this program."""
        return {name for name, origin in self.origins.items() if origin == "cudadoctor"}


def load() -> Registry:
    """Load every check; a name that is taken, and anything that is no check, is a failure."""
    checks: dict[str, Check] = {}
    origins: dict[str, str] = {}
    failures: list[Crashed] = []
    for name, found in _own():
        checks[name], origins[name] = found, "cudadoctor"
    for label, origin, found_or_reason in _plugins():
        if isinstance(found_or_reason, str):
            failures.append(Crashed(label, f"plug-in {origin}: {found_or_reason}"))
        elif found_or_reason.name in checks:
            taken = origins[found_or_reason.name]
            failures.append(
                Crashed(label, f"plug-in {origin}: the name {found_or_reason.name} is taken by {taken}")
            )
        else:
            checks[found_or_reason.name], origins[found_or_reason.name] = found_or_reason, origin
    return Registry(checks, origins, tuple(failures))


def _own() -> Iterator[tuple[str, Check]]:
    package = importlib.import_module("cudadoctor.checks")
    for folder in package.__path__:
        for file in sorted(os.listdir(folder)):
            name = file.removesuffix(".py")
            if name == file or name.startswith("_"):
                continue
            found = getattr(importlib.import_module(f"cudadoctor.checks.{name}"), name)
            if not isinstance(found, Check):
                raise TypeError(f"checks/{file} has no check called {name}")
            yield found.name, found


def _plugins() -> Iterator[tuple[str, str, Check | str]]:
    """Yield label, distribution, and the check or the reason why there is none."""
    if not _any_offered():
        return
    from importlib import metadata

    for point in metadata.entry_points(group=GROUP):
        origin = point.dist.name if point.dist else point.value
        yield point.name, origin, _load(point)


def _load(point: object) -> Check | str:
    from importlib import metadata

    from cudadoctor.bounded import Overdue, bounded

    assert isinstance(point, metadata.EntryPoint)
    try:
        found = bounded(point.load, LOAD_TIMEOUT_S)
    except Overdue:
        return f"loading {point.value} took longer than {LOAD_TIMEOUT_S:g} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return found if isinstance(found, Check) else f"{point.value} is no check"


def _any_offered() -> bool:
    """Return whether any distribution beside us offers checks.

    A look at the files costs a twentieth of importing importlib.metadata, which is done only on a hit.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and _offers(f"{folder}/{name}/entry_points.txt"):
                return True
    return False


def _offers(file: str) -> bool:
    try:
        with open(file, "rb") as stream:
            return f"[{GROUP}]".encode() in stream.read(1 << 20).replace(b" ", b"")
    except OSError:
        return False
