"""A report as GitHub-flavoured Markdown, to paste into a ticket.

Whatever is not plainly a word or a number stands in a code span, where Markdown, HTML and a forge's own
@mentions and #references have no meaning. What is plain needs no escaping. Nothing else is trusted: a folder
may be called `</details>` or @everyone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.findings import Finding
from cudadoctor.outcomes import Crashed, Outcome, Passed
from cudadoctor.render import common
from cudadoctor.report import Report
from cudadoctor.show import visible

_SIGNS = {"error": "❌", "warning": "⚠️", "note": "ℹ️"}
#: Words of letters, and numbers. A word with a digit in it may be a reference (GH-12), one with a dot a link.
_PLAIN = re.compile(r"[(]?(?:[^\W\d_]+(?:['-][^\W\d_]+)*|\d+(?:\.\d+)*)[),.;:!?]*")
_ENDS = "),.;:!?"
_WORD = re.compile(r"""'[^']*'[),.;:!?]*|"[^"]*"[),.;:!?]*|\S+""")


def render(report: Report) -> str:
    """Return the report as Markdown that ends with a newline."""
    return "\n".join([*verdicts(report), *folded(report), "", foot(report)]) + "\n"


def verdicts(report: Report) -> Iterator[str]:
    """Yield the lines that one reads: what was looked at, the findings, and what reached no verdict."""
    home = common.home_of(report)
    said = ", ".join(
        f"{c.number} {c.words}" for c in common.counts(report) if c.kind not in ("passed", "skipped")
    )
    yield f"## cudadoctor: {said or ('no problems' if common.all_well(report) else 'no check applied')}"
    yield ""
    for head in common.heads(report):
        parts = ", ".join(prose(common.tilde(part, home)) for part in head.parts)
        found = f" ({prose(common.tilde(head.found, home))})" if head.found else ""
        yield f"- **{head.label}**: {parts}{found}"
        for note in head.notes:
            yield f"  - note: {prose(common.tilde(note, home))}"
    yield from _findings(report, home)
    yield from _others(report, home)


def foot(report: Report) -> str:
    """Return the line that says which program made it, and when."""
    tool = f"{report.tool.name} {report.tool.version}"
    return f"{code(tool)}, {code(report.created)}, {report.elapsed_ms / 1000:.2f} s"


def _findings(report: Report, home: str) -> Iterator[str]:
    remedies = common.Remedies()
    for number, (name, finding) in enumerate(report.findings()):
        if number == 0:
            yield from ("", "### Findings", "")
        kind = finding.severity.value
        yield f"- {_SIGNS[kind]} **{kind}** {code(name)}: {prose(common.tilde(finding.summary, home))}"
        yield from _details(name, finding, remedies, home)


def _details(name: str, finding: Finding, remedies: common.Remedies, home: str) -> Iterator[str]:
    for evidence in finding.evidence:
        source = common.tilde(evidence.source, home)
        yield f"  - seen: {code(common.seen(source, common.tilde(evidence.detail, home)))}"
    for remedy in finding.remedies:
        if told := common.advice(remedy):
            label, options, holds = told
            yield f"  - {label}: {', '.join(filter(None, (options and code(options), prose(holds))))}"
            continue
        label = "help" if remedy.fix == "show" else "fix"
        if before := remedies.shown_with(name, remedy):
            yield f"  - {label}: same as {'above' if before == name else f'for {code(before)}'}"
        else:
            yield f"  - {label}: {code(common.remedy_text(remedy))}"


def _others(report: Report, home: str) -> Iterator[str]:
    undecided, suppressed = common.undecided(report), list(common.suppressed(report))
    if undecided:
        yield from ("", "### No verdict", "")
    for outcome in undecided:
        kind = "crashed" if isinstance(outcome, Crashed) else "inconclusive"
        yield f"- **{kind}** {code(outcome.check)}: {prose(common.tilde(outcome.reason, home))}"
    if suppressed:
        yield from ("", "### Suppressed", "")
    for name, finding in suppressed:
        summary = prose(common.tilde(finding.summary, home))
        reason = prose(common.tilde(finding.suppressed, home))
        yield f"- {finding.severity.value} {code(name)}: {summary} (accepted: {reason})"


def folded(report: Report) -> Iterator[str]:
    """Yield the checks that passed or were skipped, folded away."""
    home = common.home_of(report)
    outcomes = common.uneventful(report)
    if not outcomes:
        return
    passed = sum(isinstance(outcome, Passed) for outcome in outcomes)
    yield from ("", "<details>")
    yield from (f"<summary>{passed} passed, {len(outcomes) - passed} skipped</summary>", "")
    for outcome in outcomes:
        yield _uneventful_line(outcome, home)
    yield from ("", "</details>")


def _uneventful_line(outcome: Outcome, home: str) -> str:
    kind = "passed" if isinstance(outcome, Passed) else "skipped"
    reason = f" ({prose(common.tilde(outcome.reason, home))})" if outcome.reason else ""
    return f"- {code(outcome.check)} {kind}{reason}, {outcome.duration_ms:.2f} ms"


def prose(text: str) -> str:
    """Return a sentence with every word that is not plain, and every quotation, in a code span."""
    words = _WORD.findall(visible(text))
    return " ".join(word if _PLAIN.fullmatch(word) else _span(word) for word in words)


def _span(word: str) -> str:
    """Return a word in a code span, a bracket before it and the punctuation after it outside."""
    start = "(" if word.startswith("(") else ""
    bare = word[len(start) :].rstrip(_ENDS)
    return f"{start}{code(bare)}{word[len(start) + len(bare) :]}" if bare else code(word)


def code(text: str) -> str:
    """Return a code span that shows exactly `text`, whatever backticks it holds."""
    text = visible(text)
    if not text:
        return "-"
    longest = max(map(len, re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"
