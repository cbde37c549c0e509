"""What a fix takes from a remedy: each value is looked at first, for a replayed report may hold anything.

Whatever is missing or odd raises ValueError with one line that names the fix and the value.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from cudadoctor.actions import Export
from cudadoctor.exports import toward
from cudadoctor.facts import Environ, Facts, Unknown
from cudadoctor.findings import Remedy

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_LIMIT = 1 << 15
#: As an installer takes them; what starts with a dash would be one of its options.
_REQUIREMENTS = {
    "conda": re.compile(r"[A-Za-z0-9_][\w.-]*(=[\w.*+]+){0,2}"),
    "pip": re.compile(r"[A-Za-z0-9][\w.-]*(?:(?:[=!~<>]=|[<>])[\w.*+!]+(?:,(?:[=!~<>]=|[<>])[\w.*+!]+)*)?"),
}


def text(remedy: Remedy, name: str) -> str:
    """Return the value called `name`: one line, not empty."""
    value = remedy.values.get(name, "")
    if not value:
        raise ValueError(f"{remedy.fix}: no {name} is given")
    return _plain(value, name, remedy)


def only(remedy: Remedy, names: Iterable[str]) -> dict[str, str]:
    """Return the values, at least one and none but these; "" is a value too."""
    if not remedy.values:
        raise ValueError(f"{remedy.fix}: no value is given")
    known = set(names)
    for name, value in remedy.values.items():
        if name not in known:
            raise ValueError(f"{remedy.fix}: it has nothing to do with {name!r}")
        _plain(value, name, remedy)
    return dict(remedy.values)


def path(remedy: Remedy, name: str) -> str:
    """Return the value called `name`, an absolute path without a detour."""
    return absolute(text(remedy, name), remedy)


def absolute(value: str, remedy: Remedy) -> str:
    """Return a path that starts at the root and takes no detour; a list of folders could not hold a colon."""
    if not value.startswith("/") or ".." in value.split("/") or ":" in value:
        raise ValueError(f"{remedy.fix}: {value!r} is no absolute path")
    return _plain(value, "path", remedy)


def relative(remedy: Remedy, name: str) -> str:
    """Return the value called `name`, the text of a link that leads on from its own folder."""
    value = text(remedy, name)
    if posixpath.isabs(value) or posixpath.normpath(value) != value:
        raise ValueError(f"{remedy.fix}: {value!r} is no relative path")
    return value


def packages(remedy: Remedy, installer: str) -> tuple[str, ...]:
    """Return the packages, as conda or pip takes them."""
    wanted = tuple(text(remedy, "packages").split())
    for package in wanted:
        if _REQUIREMENTS[installer].fullmatch(package) is None:
            raise ValueError(f"{remedy.fix}: {package!r} is no package that {installer} could install")
    if not wanted:
        raise ValueError(f"{remedy.fix}: no packages are given")
    return wanted


def appended(remedy: Remedy, names: Iterable[str], addition: str, facts: Facts) -> dict[str, str]:
    """Return values that are the user's own flags and, behind them, what matches `addition` and nothing else.

    Compilers obey these variables: a value that could bring in a plug-in of somebody else's is refused.
    """
    variables = environ(remedy, facts)
    values = only(remedy, names)
    for name, value in values.items():
        own = variables.get(name) or ""
        if not value.startswith(own) or re.fullmatch(addition, value[len(own) :].strip()) is None:
            raise ValueError(f"{remedy.fix}: {name} is not what it was with such a flag behind it: {value!r}")
    return values


def folders(remedy: Remedy, name: str, facts: Facts) -> Export:
    """Return the change that leads from a list of folders as it is to the value called `name`.

    What is added must be an absolute path; "" takes everything out.
    """
    entries, value = environ(remedy, facts).entries(name), only(remedy, remedy.values)[name]
    export = toward(name, entries, value)
    for entry in export.add:
        absolute(entry, remedy)
    if not export.add and not set(export.remove) & set(entries):
        raise ValueError(f"{remedy.fix}: {name} holds just that already: {value!r}")
    return export


def environ(remedy: Remedy, facts: Facts) -> Environ:
    """Return the variables that are judged."""
    if isinstance(facts.environ, Unknown):
        raise ValueError(f"{remedy.fix}: the variables are not known ({facts.environ.reason})")
    return facts.environ


def _plain(value: str, name: str, remedy: Remedy) -> str:
    if _CONTROL.search(value) or len(value) > _LIMIT:
        raise ValueError(f"{remedy.fix}: {name} holds what no value should: {value[:80]!r}")
    return value
