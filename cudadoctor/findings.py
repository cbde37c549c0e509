"""What a check reports: a finding, its evidence, and the remedies that would clear it."""

from __future__ import annotations

import shlex
from enum import Enum

from msgspec import Struct


class Severity(Enum):
    """How bad a finding is, whatever its check's outcome."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """Return 0 for a note, 1 for a warning, 2 for an error."""
        return _RANKS[self]


_RANKS = {Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 2}


class Evidence(Struct, frozen=True):
    """One thing that shows the finding: the file, line, variable or command, and what it says."""

    source: str
    detail: str


class Remedy(Struct, frozen=True):
    """A fix by name, with the values it needs; `summary` says in one line what it would do."""

    fix: str
    values: dict[str, str] = {}
    summary: str = ""
    instead: tuple[
        Remedy, ...
    ] = ()  #: what would do as well where this cannot be done, the least change first


def export(fix: str, **values: str) -> Remedy:
    """Return the remedy that sets variables, with the shell command for it; "" unsets one."""
    commands = [
        f"export {name}={shlex.quote(value)}" if value else f"unset {name}" for name, value in values.items()
    ]
    return Remedy(fix, values, "; ".join(commands))


class Finding(Struct, frozen=True):
    """One thing that is wrong."""

    summary: str
    severity: Severity
    evidence: tuple[Evidence, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    suppressed: str = ""  #: the reason a configuration file gives for not counting it
