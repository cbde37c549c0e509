"""Finds the checks and the fixes: our own in `checks/` and `fixes/`, then those that plug-ins offer by entry
point. The fixes are loaded only by the commands that need them, and the checks in `checks/launch/` only where
there is a launch to be judged.

A plug-in that cannot be loaded is an outcome, never silence.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from typing import TypeVar

from msgspec import Struct

from cudadoctor.declare import Check, Fix
from cudadoctor.outcomes import Crashed

CHECKS, FIXES = "cudadoctor.checks", "cudadoctor.fixes"
LAUNCH_CHECKS = f"{CHECKS}.launch"
LOAD_TIMEOUT_S = 5.0


class Registry(Struct, frozen=True):
    """Every check by name, who brought it, and the plug-ins that could not be loaded."""

    checks: dict[str, Check]
    origins: dict[str, str]  #: "cudadoctor", or the plug-in's distribution
    failures: tuple[Crashed, ...]
    left_out: tuple[str, ...] = ()  #: our own checks that were not loaded: they judge launches

    @property
    def names(self) -> list[str]:
        """Return every name that a user may give, of checks that were loaded and that were not."""
        return [*self.checks, *self.left_out, *(failure.check for failure in self.failures)]

    def own(self) -> set[str]:
        """Return the names of the checks that come with this program."""
        return {name for name, origin in self.origins.items() if origin == "cudadoctor"}


class Fixes(Struct, frozen=True):
    """Every fix by name, who brought it, and the plug-ins that could not be loaded."""

    fixes: dict[str, Fix]
    origins: dict[str, str]  #: "cudadoctor", or the plug-in's distribution
    failures: tuple[Crashed, ...]


def load(launch: bool = True) -> Registry:
    """Load every check, those of launches only if asked; a name that is taken, or no check, is a failure."""
    if launch:
        return Registry(*_all((CHECKS, LAUNCH_CHECKS), Check))
    return Registry(*_all((CHECKS,), Check), launch_checks())


def launch_checks() -> tuple[str, ...]:
    """Return the names of our own checks that judge launches."""
    return tuple(name.replace("_", "-") for name in _modules(LAUNCH_CHECKS))


def load_fixes() -> Fixes:
    """Load every fix; a name that is taken, and anything that is no fix, is a failure."""
    return Fixes(*_all((FIXES,), Fix))


T = TypeVar("T", Check, Fix)


def _all(groups: tuple[str, ...], kind: type[T]) -> tuple[dict[str, T], dict[str, str], tuple[Crashed, ...]]:
    all_found: dict[str, T] = {}
    origins: dict[str, str] = {}
    failures: list[Crashed] = []
    for found in sorted((each for group in groups for each in _own(group, kind)), key=lambda each: each.name):
        all_found[found.name], origins[found.name] = found, "cudadoctor"
    for label, origin, found_or_reason in _plugins(groups[0], kind):
        if isinstance(found_or_reason, str):
            failures.append(Crashed(label, f"plug-in {origin}: {found_or_reason}"))
        elif found_or_reason.name in all_found:
            taken = origins[found_or_reason.name]
            failures.append(
                Crashed(label, f"plug-in {origin}: the name {found_or_reason.name} is taken by {taken}")
            )
        else:
            all_found[found_or_reason.name], origins[found_or_reason.name] = found_or_reason, origin
    return all_found, origins, tuple(failures)


def _own(group: str, kind: type[T]) -> Iterator[T]:
    for name in _modules(group):
        found = getattr(importlib.import_module(f"{group}.{name}"), name)
        if not isinstance(found, kind):
            raise TypeError(f"{group}/{name}.py has no {kind.__name__.lower()} called {name}")
        yield found


def _modules(group: str) -> list[str]:
    """Return the names of a package's modules."""
    folders = importlib.import_module(group).__path__
    files = [file for folder in folders for file in os.listdir(folder)]
    return sorted(file[:-3] for file in files if file.endswith(".py") and not file.startswith("_"))


def _plugins(group: str, kind: type[T]) -> Iterator[tuple[str, str, T | str]]:
    """Yield label, distribution, and what it offers or the reason why there is none."""
    if not _any_offered(group):
        return
    from importlib import metadata

    for point in metadata.entry_points(group=group):
        origin = point.dist.name if point.dist else point.value
        yield point.name, origin, _load(point, kind)


def _load(point: object, kind: type[T]) -> T | str:
    from importlib import metadata

    from cudadoctor.bounded import Overdue, bounded

    assert isinstance(point, metadata.EntryPoint)
    try:
        found = bounded(point.load, LOAD_TIMEOUT_S)
    except Overdue:
        return f"loading {point.value} took longer than {LOAD_TIMEOUT_S:g} s"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return found if isinstance(found, kind) else f"{point.value} is no {kind.__name__.lower()}"


def _any_offered(group: str) -> bool:
    """Return whether any distribution beside us offers something of this kind.

    A look at the files costs a twentieth of importing importlib.metadata, which is done only on a hit.
    """
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")) and _offers(
                group, f"{folder}/{name}/entry_points.txt"
            ):
                return True
    return False


def _offers(group: str, file: str) -> bool:
    try:
        with open(file, "rb") as stream:
            return f"[{group}]".encode() in stream.read(1 << 20).replace(b" ", b"")
    except OSError:
        return False
