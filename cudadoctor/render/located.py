"""Where a finding is: the file, and the line, that a piece of evidence names."""

from __future__ import annotations

import re

from msgspec import Struct

from cudadoctor.facts import Unknown
from cudadoctor.findings import Finding
from cudadoctor.report import Report

_LINE = re.compile(r"(?P<path>.+?):(?P<line>[1-9]\d{0,8})")
_VARIABLE = re.compile(r"(?P<name>[A-Za-z_]\w*)(?: \((?P<origin>.+)\))?")
#: A name that is not a path from the root is a file's only if it can be nothing else: no host with its port.
_WRITTEN = (".sh", ".bash", ".py", ".yaml", ".yml", ".json", ".toml", ".env", ".service")


class Place(Struct, frozen=True):
    """A file, by the path that was seen, and a line in it from 1; 0 where none is named."""

    path: str
    line: int = 0


def place(source: str, started_in: str = "") -> Place | None:
    """Return the file that the source of a piece of evidence names; None where it is no file.

    A path below `started_in` is given from there, as one that was typed there is.
    """
    variable = _VARIABLE.fullmatch(source)
    text = (variable["origin"] or "") if variable else source
    text = text.partition(", service ")[0]
    if not text or "\n" in text or "\0" in text:
        return None
    numbered = _LINE.fullmatch(text)
    path = numbered["path"] if numbered else text
    if not path.startswith("/") and not _is_written(path):
        return None
    inside = f"{started_in.rstrip('/')}/"
    if len(inside) > 1 and path.startswith(inside) and path != inside:
        path = path[len(inside) :]
    return Place(path, int(numbered["line"]) if numbered else 0)


def variable(source: str) -> str:
    """Return the variable that the source of a piece of evidence names, or ""."""
    found = _VARIABLE.fullmatch(source)
    return found["name"] if found and (found["origin"] or found["name"].isupper()) else ""


def first(finding: Finding, report: Report, started_in: str = "") -> Place | None:
    """Return where a finding is shown best; None where it is about no file.

    That is a line that its reader wrote, else any file that was seen, else the file of the launch.
    """
    seen = [found for each in finding.evidence if (found := place(each.source, started_in))]
    seen.sort(key=lambda found: (found.path.startswith("/"), not found.line))
    if seen:
        return seen[0]
    launch = report.facts.launch
    return None if isinstance(launch, Unknown) else place(launch.source, started_in)


def _is_written(path: str) -> bool:
    name = path.rpartition("/")[2]
    return not re.search(r"[\s()]", path) and (name.endswith(_WRITTEN) or name.startswith("Dockerfile"))
