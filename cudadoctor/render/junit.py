"""A report as JUnit XML: one test case a check, as CI systems read the results of tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree as xml

from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Crashed, Inconclusive, Outcome, Skipped
from cudadoctor.render import common
from cudadoctor.report import Report
from cudadoctor.show import visible

_NO_XML = re.compile("[\ufffe\uffff]")  #: XML 1.0 has no such characters, not even written as numbers


def render(report: Report, fail_on: Severity | None = Severity.ERROR) -> str:
    """Return the report as XML that ends with a newline.

    A finding at or above `fail_on` is a failure (None: none is), any other stands in the output of its case.
    A check that crashed is an error, one that reached no verdict is skipped.
    """
    suite = xml.Element("testsuite", _head(report))
    properties = xml.SubElement(suite, "properties")
    for head in common.heads(report):
        said = ", ".join((*head.parts, *((head.found,) if head.found else ()), *head.notes))
        xml.SubElement(properties, "property", {"name": head.label, "value": _text(said)})
    for outcome in sorted(report.outcomes, key=lambda outcome: outcome.check):
        suite.append(_case(outcome, fail_on))
    counted = _counts(suite)
    suite.attrib.update(counted)
    suites = xml.Element("testsuites", {"name": "cudadoctor", "time": suite.attrib["time"], **counted})
    suites.append(suite)
    xml.indent(suites)
    # In ASCII, which any stream can hold: every other character stands as its number.
    body = xml.tostring(suites, "us-ascii").decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}\n'


def _head(report: Report) -> dict[str, str]:
    return {
        "name": "cudadoctor",
        "timestamp": _text(report.created.rstrip("Z")),
        "time": f"{max(report.elapsed_ms, 0) / 1000:.3f}",
    }


def _counts(suite: xml.Element) -> dict[str, str]:
    cases = suite.findall("testcase")
    return {
        "tests": str(len(cases)),
        "failures": str(len(suite.findall("testcase/failure"))),
        "errors": str(len(suite.findall("testcase/error"))),
        "skipped": str(len(suite.findall("testcase/skipped"))),
    }


def _case(outcome: Outcome, fail_on: Severity | None) -> xml.Element:
    time = f"{max(outcome.duration_ms, 0) / 1000:.6f}"
    case = xml.Element(
        "testcase", {"name": _text(outcome.check), "classname": "cudadoctor.checks", "time": time}
    )
    if isinstance(outcome, Crashed):
        xml.SubElement(case, "error", {"message": _text(outcome.reason), "type": "crashed"})
    elif isinstance(outcome, (Skipped, Inconclusive)):
        said = "no verdict: " if isinstance(outcome, Inconclusive) else ""
        xml.SubElement(case, "skipped", {"message": _text(said + outcome.reason)})
    failing = [finding for finding in outcome.findings if _fails(finding, fail_on)]
    failing.sort(key=lambda finding: -finding.severity.rank)
    if failing:
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        worst = failing[0]
        about = {"message": _text(worst.summary + more), "type": worst.severity.value}
        xml.SubElement(case, "failure", about).text = "\n".join(_said(failing))
    if others := [finding for finding in outcome.findings if not _fails(finding, fail_on)]:
        xml.SubElement(case, "system-out").text = "\n".join(_said(others))
    return case


def _fails(finding: Finding, fail_on: Severity | None) -> bool:
    return fail_on is not None and not finding.suppressed and finding.severity.rank >= fail_on.rank


def _said(findings: list[Finding]) -> Iterator[str]:
    for finding in findings:
        accepted = f" (accepted: {finding.suppressed})" if finding.suppressed else ""
        yield _text(f"{finding.severity.value}: {finding.summary}{accepted}")
        yield from (_text(f"  {line}") for line in common.details(finding))


def _text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", visible(text))
