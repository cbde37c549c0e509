"""A plan and what came of it, as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from cudadoctor.facts import Target
from cudadoctor.render import common
from cudadoctor.render.page import COLOURS, Page, cells
from cudadoctor.repair import Line, Repair
from cudadoctor.report import Report

_WIDEST = 64  #: columns that what a line does may push the words behind it to


def render(
    repair: Repair, report: Report, *, stream: TextIO, width: int | None = None, color: bool | None = None
) -> None:
    """Write a repair to `stream`; `report` is the last one, for the home folder of its paths."""
    page = Page(stream, width, color, common.home_of(report))
    _head(page, repair)
    column = _column(page, repair)
    for line in repair.lines:
        _planned(page, column, line, done=bool(repair.run))
    if repair.held:
        page.line([("not done here (shown only)", "bold")])
        for line in repair.held:
            _held(page, line)
    if repair.run:
        _result(page, repair)
    else:
        _prospect(page, repair)


def _head(page: Page, repair: Repair) -> None:
    target = repair.target
    where = (
        f"{page.shown(target.prefix)} ({page.shown(target.kind)})"
        if isinstance(target, Target)
        else "an unknown target"
    )
    if not repair.lines and not repair.held:
        return
    said = f"clears {len(repair.predicted_cleared)} of {_findings(repair.found)} (predicted)"
    if repair.replayed:
        said = f"for {_findings(repair.found)}; from a saved report, so nothing is predicted"
    page.line([("Plan for ", "bold"), (where, ""), (f"     {said}", "dim")])


def _findings(number: int) -> str:
    return f"{number} finding" if number == 1 else f"{number} findings"


def _column(page: Page, repair: Repair) -> int:
    """Return where the words behind what is done begin."""
    widths = [cells(_what(page, line)) for line in repair.lines]
    return min(max(widths, default=0), _WIDEST)


def _what(page: Page, line: Line) -> str:
    return f"{line.verb:<6} {page.shown(line.what)}"


def _planned(page: Page, column: int, line: Line, *, done: bool) -> None:
    what = _what(page, line)
    words = "   ".join(filter(None, [page.shown(line.detail), _clears(line)]))
    mark = (f"{page.marks.passed} ", COLOURS["passed"]) if done else ("  ", "")
    gap = " " * (max(column - cells(what), 0) + 3) if words else ""
    page.line([mark, (f"{line.number}  ", "bold"), (what, ""), (gap + words, "dim")])
    for note in (line.refused, *line.notes) if line.refused else line.notes:
        page.labelled("left", page.shown(note))


def _clears(line: Line) -> str:
    if line.clears:
        return f"clears {', '.join(line.clears)}"
    return f"for {', '.join(line.checks)}" if line.checks else ""


def _held(page: Page, line: Line) -> None:
    """Write what is not done: the command that would do it, for which check, and why not."""
    command = {"": line.what, "install": line.detail}.get(line.verb, "")
    what = page.command(command) if command else f"{_what(page, line)}   {page.shown(line.detail)}".rstrip()
    why = line.refused if line.refused != "shown only" else ""
    said = ": ".join(filter(None, [", ".join(line.checks), page.shown(why)]))
    page.line([("  ", ""), (f"{line.number}  ", "bold"), (what, "green" if command else "")])
    if said:
        page.text([(" " * 5, "")], said, "dim", 5)


def _prospect(page: Page, repair: Repair) -> None:
    if repair.lines and repair.replayed:
        page.line([("A saved report is of another machine: apply there.", "")])
    elif repair.lines:
        page.line([("Nothing was changed. Apply with: ", ""), (page.command(repair.apply_with), "green")])
    elif any(line.checks for line in repair.held):
        page.line([("Nothing of this is done by cudadoctor itself.", "")])
    elif not repair.found:
        page.line([(f"{page.marks.passed} nothing to fix", "green")])
    elif repair.asked:
        page.line([(f"Nothing to do for {', '.join(repair.asked)}.", "")])
    else:
        page.line([(f"{_findings(repair.found)}, and nothing here that cudadoctor could do about them.", "")])


def _result(page: Page, repair: Repair) -> None:
    marks = "  ".join(f"{page.marks.passed} {line.number}" for line in repair.lines)
    gone = f"checked again: {_findings(len(repair.cleared))} gone, {repair.left} left"
    undo = page.command(repair.undo_with)
    page.line(
        [(marks, COLOURS["passed"]), (f"   {gone}", ""), ("          undo with: ", "dim"), (undo, "green")]
    )
    for surprise in repair.surprises:
        page.labelled("odd", page.shown(f"{surprise} (please report this: it is a bug of cudadoctor)"))
    if any(line.verb == "write" for line in repair.lines):
        page.text(
            [],
            f"An open shell does not know them yet: activate again, or run there: {_evaluated(page, repair)}",
            "yellow",
            0,
        )


def _evaluated(page: Page, repair: Repair) -> str:
    return f'eval "$({page.command(repair.env_with)})"'


def render_runs(rows: Sequence[tuple[str, str, str, str]], *, stream: TextIO, home: str) -> None:
    """Write one line a run: its name, when, what became of it, and what it did."""
    page = Page(stream, None, None, home)
    for name, created, status, what in rows:
        style = COLOURS["error"] if status.endswith("interrupted") else ""
        page.line(
            [
                (f"{name:<14}", "bold"),
                (f"{created}  ", "dim"),
                (f"{status:<17}", style),
                (page.shown(what), ""),
            ]
        )
