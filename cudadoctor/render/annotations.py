"""Findings as the annotations of a GitHub Actions run: commands to the runner, a line each."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.findings import Finding, Severity
from cudadoctor.render import common, located
from cudadoctor.report import Report
from cudadoctor.show import visible

_COMMANDS = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTE: "notice"}
_MOST = 10  #: of one kind; the log and the summary have them all


def render(report: Report, fail_on: Severity | None = Severity.ERROR, started_in: str = "") -> str:
    """Return an annotation for each finding at or above `fail_on`; "" for none.

    One that names a file below `started_in`, or by a relative path, is shown at its line.
    """
    return "".join(_lines(report, fail_on, started_in))


def _lines(report: Report, fail_on: Severity | None, started_in: str) -> Iterator[str]:
    told: dict[str, int] = {}
    for name, finding in report.findings():
        if fail_on is None or finding.severity.rank < fail_on.rank:
            continue
        command = _COMMANDS[finding.severity]
        told[command] = told.get(command, 0) + 1
        if told[command] > _MOST:
            continue
        about = {**_where(finding, report, started_in), "title": f"cudadoctor: {name}"}
        properties = ",".join(f"{key}={_property(value)}" for key, value in about.items())
        said = "%0A".join(map(_data, (finding.summary, *common.details(finding))))
        yield f"::{command} {properties}::{said}\n"


def _where(finding: Finding, report: Report, started_in: str) -> dict[str, str]:
    found = located.first(finding, report, started_in)
    if found is None or found.path.startswith("/"):
        return {}  # the runner knows the files of the repository only
    return {"file": found.path, "line": str(found.line or 1)}


def _data(text: str) -> str:
    """Return a text as the data of a command: the runner reads %, and a line's end ends the command."""
    return visible(text).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
