"""A report as SARIF 2.1.0, the form in which forges take the results of analysers.

Each result has the file that it is shown best at: the line of a launch script, else a file that was seen,
else the environment's own folder, because a forge takes no result without a file. Variables and commands are
logical locations.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from cudadoctor.declare import HEADINGS, Check
from cudadoctor.facts import Target
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.outcomes import Crashed, Inconclusive
from cudadoctor.render import common, located
from cudadoctor.report import Report, encode
from cudadoctor.show import visible

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_ROOT = "%SRCROOT%"
_MOST_CHARACTERS = 1000  #: of a rule's description; GitHub takes 1024


def render(
    report: Report,
    checks: Iterable[Check] = (),
    fail_on: Severity | None = Severity.ERROR,
    started_in: str = "",
) -> bytes:
    """Return the report as JSON that ends with a newline.

    `checks` are those that were run, whose pages become rules. Paths below `started_in` are relative: a forge
    finds them in the repository. `fail_on` is for the exit code that is told.
    """
    checks = sorted(checks, key=lambda check: check.name)
    rules = {check.name: index for index, check in enumerate(checks)}
    run = {
        "tool": {
            "driver": {
                "name": report.tool.name,
                "version": report.tool.version,
                "rules": [_rule(check) for check in checks],
            }
        },
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {_ROOT: {"description": {"text": "the folder that cudadoctor was started in"}}},
        "invocations": [_invocation(report, rules, fail_on)],
        "results": list(_results(report, rules, started_in)),
    }
    return encode({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}) + b"\n"


def _rule(check: Check) -> dict[str, Any]:
    """Return a check's page as a rule."""
    meaning = check.doc.partition(HEADINGS[0])[2].strip().partition("\n\n")[0]
    full = " ".join(meaning.split()) or check.title
    return {
        "id": check.name,
        "shortDescription": {"text": _cut(check.title)},
        "fullDescription": {"text": _cut(full)},
        "help": {"text": check.doc, "markdown": check.doc},
    }


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]} ..."


def _invocation(report: Report, rules: Mapping[str, int], fail_on: Severity | None) -> dict[str, Any]:
    """Return how the run ended; checks without a verdict are notifications, which are no results."""
    notifications = [
        {
            "level": "error" if isinstance(outcome, Crashed) else "note",
            "message": _message(f"{outcome.check}: no verdict: {outcome.reason}"),
            **({"associatedRule": _reference(outcome.check, rules)} if outcome.check in rules else {}),
        }
        for outcome in report.outcomes
        if isinstance(outcome, (Crashed, Inconclusive))
    ]
    return {
        "executionSuccessful": not any(isinstance(outcome, Crashed) for outcome in report.outcomes),
        "exitCode": report.exit_code(fail_on),
        "endTimeUtc": report.created,
        "toolExecutionNotifications": notifications,
    }


def _reference(name: str, rules: Mapping[str, int]) -> dict[str, Any]:
    return {"id": name, "index": rules[name]}


def _results(report: Report, rules: Mapping[str, int], started_in: str) -> Iterator[dict[str, Any]]:
    seen: dict[str, int] = {}
    for name, finding in (*report.findings(), *common.suppressed(report)):
        lines = (finding.summary, *common.details(finding))
        print_ = _fingerprint(name, finding)
        seen[print_] = seen.get(print_, 0) + 1
        result = {
            "ruleId": visible(name),
            **({"ruleIndex": rules[name]} if name in rules else {}),
            "level": finding.severity.value,
            "message": _message(*lines),
            "locations": [_primary(finding, report, started_in)],
            "partialFingerprints": {"primaryLocationLineHash": f"{print_}:{seen[print_]}"},
        }
        if related := list(_related(finding, started_in)):
            result["relatedLocations"] = related
        if finding.suppressed:
            result["suppressions"] = [{"kind": "external", "justification": visible(finding.suppressed)}]
        yield result


def _fingerprint(name: str, finding: Finding) -> str:
    """Return what is the same for a finding as long as it is about the same things."""
    import hashlib

    about = "\0".join((name, *(evidence.source for evidence in finding.evidence)))
    return hashlib.sha256(about.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def _message(*lines: str) -> dict[str, str]:
    """Return a message; what was seen makes no link in it."""
    return {"text": "\n".join(visible(line).replace("](", "] (") for line in lines if line) or "-"}


def _primary(finding: Finding, report: Report, started_in: str) -> dict[str, Any]:
    found = located.first(finding, report, started_in)
    # A forge takes no result without a line.
    physical = _physical(found, 1) if found else _environment(report)
    location: dict[str, Any] = {"physicalLocation": physical}
    variables = [name for each in finding.evidence if (name := located.variable(each.source))]
    if variables:
        kinds = [{"name": name, "kind": "variable"} for name in dict.fromkeys(variables)]
        location["logicalLocations"] = kinds
    return location


def _related(finding: Finding, started_in: str) -> Iterator[dict[str, Any]]:
    """Yield each piece of evidence with its file, or with the name of what it was seen in."""
    for number, evidence in enumerate(finding.evidence, 1):
        where = located.place(evidence.source, started_in)
        if where is None and not evidence.source:
            continue
        place = (
            {"physicalLocation": _physical(where)} if where else {"logicalLocations": [_logical(evidence)]}
        )
        yield {"id": number, **place, "message": _message(evidence.detail or evidence.source)}


def _logical(evidence: Evidence) -> dict[str, str]:
    name = located.variable(evidence.source)
    return {"name": visible(name or evidence.source), "kind": "variable" if name else "resource"}


def _physical(place: located.Place, line: int = 0) -> dict[str, Any]:
    """Return a file as a location, at `line` where the place has none."""
    artifact = {"uri": _uri(place.path)}
    if not place.path.startswith("/"):
        artifact["uriBaseId"] = _ROOT
    region = {"region": {"startLine": place.line or line}} if place.line or line else {}
    return {"artifactLocation": artifact, **region}


def _environment(report: Report) -> dict[str, Any]:
    """Return the folder of the environment that was looked at; where there is none, where we were started."""
    prefix = report.target.prefix if isinstance(report.target, Target) else ""
    if not prefix.startswith("/"):
        return {"artifactLocation": {"uri": "./", "uriBaseId": _ROOT}, "region": {"startLine": 1}}
    return {"artifactLocation": {"uri": _uri(prefix.rstrip("/") + "/")}, "region": {"startLine": 1}}


def _uri(path: str) -> str:
    """Return a path as a URI, relative where the path is; a name that is no UTF-8 keeps its bytes."""
    from urllib.parse import quote

    try:
        plain = path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        plain = path.encode("utf-8", "backslashreplace")
    return f"file://{quote(plain)}" if path.startswith("/") else quote(plain)
