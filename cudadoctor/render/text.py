"""A report as text. Without colours each finding says its severity in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from cudadoctor.findings import Evidence, Finding, Remedy
from cudadoctor.outcomes import Crashed, Inconclusive, Outcome, Passed
from cudadoctor.planning import evidence_of
from cudadoctor.render import common
from cudadoctor.render.page import COLOURS, Page, cells
from cudadoctor.report import Report

_LABEL = 9  #: columns of "Toolkit  "


def render(
    report: Report,
    *,
    stream: TextIO,
    width: int | None = None,
    color: bool | None = None,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Write the report to `stream`.

    `width` is the number of columns to wrap at (None: the terminal's, elsewhere none) and `color` whether to
    colour (None: as the stream and the variables tell). `verbose` adds every check that passed or was
    skipped, with the reason and its time. `quiet` leaves one line for each finding and
    each undecided check, and the counts; nothing where all is well.
    """
    page = Page(stream, width, color, common.home_of(report))
    if quiet:
        _quiet(page, report)
        return
    for head in common.heads(report):
        _head(page, head)
    _memory(page, report)
    page.blank()
    column = 2 + max((cells(page.command(name)) for name in _names(report, verbose)), default=0) + 2
    remedies = common.Remedies()
    # What the picture shows is not said again.
    drawn = evidence_of(report.plan) if report.plan is not None and not verbose else ()
    for name, finding in report.findings():
        _finding(page, column, name, finding, remedies, drawn)
    _others(page, column, report)
    if verbose:
        _uneventful(page, column, report)
    if page.last_was_text:
        page.blank()
    _summary(page, report)


def _names(report: Report, verbose: bool) -> list[str]:
    """Return the names that stand in the first column."""
    shown = [name for name, _ in (*report.findings(), *common.suppressed(report))]
    outcomes = common.undecided(report) + (common.uneventful(report) if verbose else [])
    return shown + [outcome.check for outcome in outcomes]


def _quiet(page: Page, report: Report) -> None:
    undecided = [o for o in report.outcomes if isinstance(o, (Crashed, Inconclusive))]
    if not undecided and not any(report.findings()):
        return
    for name, finding in report.findings():
        kind = finding.severity.value
        page.row(page.mark(kind), kind, page.shown(name), f"{kind}: {page.shown(finding.summary)}")
    for outcome, more in common.by_reason(undecided):
        kind = "crashed" if isinstance(outcome, Crashed) else "inconclusive"
        said = _undecided(page, kind, outcome, more)
        page.row(page.marks.unclear, kind, page.shown(outcome.check), said)
    _summary(page, report)


def _head(page: Page, head: common.Head) -> None:
    text = f" {page.marks.dot} ".join(map(page.shown, head.parts))
    found = f"({page.shown(head.found)})" if head.found else ""
    page.text([(f"{head.label:<{_LABEL}}", "bold")], text, "", _LABEL, found)
    for note in head.notes:
        page.text([(" " * _LABEL, "")], page.shown(note), "yellow", _LABEL)


def _memory(page: Page, report: Report) -> None:
    """Write how a launch will use the GPU's memory, where there is one to judge."""
    if report.plan is None:
        return
    from cudadoctor.render import memory

    told = memory.picture(report.plan)
    head, rows, profiles = told
    page.text([("GPU memory   ", "bold")], page.shown(head), "", 13)
    bar = page.mark("bar")
    longest = max(row.columns for row in rows)
    for row in rows:
        drawn = f"{bar * row.columns:<{longest}}"
        page.line(
            [(f"  {row.label:<8} ", "dim"), (drawn, "cyan"), (f"  {row.size:<16} {row.remark}".rstrip(), "")]
        )
    for line in profiles:
        page.line([(f"  {page.shown(line)}", "dim")])


def _finding(
    page: Page, column: int, name: str, finding: Finding, remedies: common.Remedies,
    drawn: Sequence[Evidence] = (),
) -> None:  # fmt: skip
    kind = finding.severity.value
    word = "" if page.colours else f"{kind}: "
    page.entry(column, page.mark(kind), kind, name, word + page.shown(finding.summary))
    for evidence in finding.evidence:
        if evidence not in drawn:
            page.labelled("seen", page.shown(common.seen(evidence.source, evidence.detail)))
    advice = [remedy for remedy in finding.remedies if common.advice(remedy) is not None]
    _advice(page, advice)
    for remedy in finding.remedies:
        if remedy in advice:
            continue
        label = "help" if remedy.fix == "show" else "fix"
        if before := remedies.shown_with(name, remedy):
            page.labelled(label, "same as above" if before == name else f"same as for {page.shown(before)}")
        else:
            page.labelled(label, page.command(common.remedy_text(remedy)), whole=True)


def _advice(page: Page, remedies: list[Remedy]) -> None:
    """Write what would fit, with what it holds in a column of its own where there is room for one."""
    told = [each for each in map(common.advice, remedies) if each is not None]
    column = max((cells(options) for _, options, _ in told), default=0) + 5
    for label, options, holds in told:
        start = [(f"    {label:<12}", "dim"), (page.command(options), "green")]
        if page.width and 16 + column + cells(holds) > page.width:
            page.line(start)
            page.text([(" " * 16, "")], page.shown(holds), "", 16)
        else:
            gap = " " * (column - cells(options)) if options else ""
            page.line([*start, (f"{gap}{page.shown(holds)}", "")])


def _others(page: Page, column: int, report: Report) -> None:
    for outcome, more in common.by_reason(common.undecided(report)):
        kind = "crashed" if isinstance(outcome, Crashed) else "inconclusive"
        page.entry(column, page.marks.unclear, kind, outcome.check, _undecided(page, kind, outcome, more))
    for name, finding in common.suppressed(report):
        what = f"{finding.severity.value}: {page.shown(finding.summary)}"
        text = f"suppressed: {page.shown(finding.suppressed)} ({what})"
        page.entry(column, page.marks.idle, "suppressed", name, text)


def _undecided(page: Page, kind: str, outcome: Outcome, more: int) -> str:
    others = f" (and {more} more checks for the same reason)" if more else ""
    return f"{kind}: {page.shown(outcome.reason)}{others}"


def _uneventful(page: Page, column: int, report: Report) -> None:
    for outcome in common.uneventful(report):
        kind = "passed" if isinstance(outcome, Passed) else "skipped"
        reason = f": {page.shown(outcome.reason)}" if outcome.reason else ""
        mark = page.marks.passed if kind == "passed" else page.marks.idle
        page.entry(column, mark, kind, outcome.check, f"{kind}{reason}  {outcome.duration_ms:.2f} ms")


def _summary(page: Page, report: Report) -> None:
    """Write the counts and the time, in as many lines as they need."""
    items = [(f"{page.marks.passed} no problems", "green")] if common.all_well(report) else []
    for count in common.counts(report):
        items.append((f"{count.number} {count.words}", COLOURS.get(count.kind, "") if count.number else ""))
    dot = f" {page.marks.dot} "
    spaced = [
        *((dot, text, style) for text, style in items),
        (" " * 8, f"{report.elapsed_ms / 1000:.2f} s", "dim"),
    ]
    segments: list[tuple[str, str]] = []
    used = 0
    for gap, text, style in spaced:
        if used and page.width and used + len(gap) + len(text) > page.width:
            page.line(segments)
            segments, used = [], 0
        elif used:
            segments.append((gap, ""))
            used += len(gap)
        segments.append((text, style))
        used += len(text)
    page.line(segments)
