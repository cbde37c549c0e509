"""A report as text for a terminal, a pipe or a log.

On a terminal, prose wraps with a hanging indent; a path, and any command that one would copy, stays in one
piece for the terminal itself to wrap. Elsewhere no line is ever broken, so that grep finds what it looks for.
Colours follow rich's rules (a terminal, FORCE_COLOR), and a NO_COLOR that is not empty always wins; without
colours each finding says its severity in words. `rich` is imported here only, and only for colours: importing
it takes longer than a check of a machine.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, TextIO

from cudadoctor.findings import Finding
from cudadoctor.outcomes import Crashed, Inconclusive, Passed
from cudadoctor.render import common
from cudadoctor.report import Report
from cudadoctor.show import visible

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {
    "error": "bold red", "warning": "yellow", "note": "cyan", "inconclusive": "magenta",
    "crashed": "bold magenta", "passed": "green",
}  # fmt: skip
_LEAST_ROOM = 36  #: columns that the text beside a check's name needs; with fewer it goes below the name
_LABEL = 9  #: columns of "Toolkit  "


class _Marks(NamedTuple):
    error: str
    warning: str
    note: str
    unclear: str
    passed: str
    idle: str
    dot: str


_MARKS = _Marks("✗", "!", "·", "?", "✓", "-", "·")
_ASCII_MARKS = _Marks("x", "!", "-", "?", "+", "-", "-")


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
    page = _Page(stream, width, color, common.home_of(report))
    if quiet:
        _quiet(page, report)
        return
    for head in common.heads(report):
        _head(page, head)
    page.blank()
    column = 2 + max((_cells(page.command(name)) for name in _names(report, verbose)), default=0) + 2
    remedies = common.Remedies()
    for name, finding in report.findings():
        _finding(page, column, name, finding, remedies)
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


def _quiet(page: _Page, report: Report) -> None:
    undecided = [o for o in report.outcomes if isinstance(o, (Crashed, Inconclusive))]
    if not undecided and not any(report.findings()):
        return
    for name, finding in report.findings():
        kind = finding.severity.value
        page.row(page.mark(kind), kind, page.shown(name), f"{kind}: {page.shown(finding.summary)}")
    for outcome in undecided:
        kind = "crashed" if isinstance(outcome, Crashed) else "inconclusive"
        said = f"{kind}: {page.shown(outcome.reason)}"
        page.row(page.marks.unclear, kind, page.shown(outcome.check), said)
    _summary(page, report)


def _head(page: _Page, head: common.Head) -> None:
    text = f" {page.marks.dot} ".join(map(page.shown, head.parts))
    found = f"({page.shown(head.found)})" if head.found else ""
    page.text([(f"{head.label:<{_LABEL}}", "bold")], text, "", _LABEL, found)
    for note in head.notes:
        page.text([(" " * _LABEL, "")], page.shown(note), "yellow", _LABEL)


def _finding(page: _Page, column: int, name: str, finding: Finding, remedies: common.Remedies) -> None:
    kind = finding.severity.value
    word = "" if page.colours else f"{kind}: "
    page.entry(column, page.mark(kind), kind, name, word + page.shown(finding.summary))
    for evidence in finding.evidence:
        page.labelled("seen", page.shown(common.seen(evidence.source, evidence.detail)))
    for remedy in finding.remedies:
        label = "help" if remedy.fix == "show" else "fix"
        if before := remedies.shown_with(name, remedy):
            page.labelled(label, "same as above" if before == name else f"same as for {page.shown(before)}")
        else:
            page.labelled(label, page.command(common.remedy_text(remedy)), whole=True)


def _others(page: _Page, column: int, report: Report) -> None:
    for outcome in common.undecided(report):
        kind = "crashed" if isinstance(outcome, Crashed) else "inconclusive"
        page.entry(column, page.marks.unclear, kind, outcome.check, f"{kind}: {page.shown(outcome.reason)}")
    for name, finding in common.suppressed(report):
        what = f"{finding.severity.value}: {page.shown(finding.summary)}"
        text = f"suppressed: {page.shown(finding.suppressed)} ({what})"
        page.entry(column, page.marks.idle, "suppressed", name, text)


def _uneventful(page: _Page, column: int, report: Report) -> None:
    for outcome in common.uneventful(report):
        kind = "passed" if isinstance(outcome, Passed) else "skipped"
        reason = f": {page.shown(outcome.reason)}" if outcome.reason else ""
        mark = page.marks.passed if kind == "passed" else page.marks.idle
        page.entry(column, mark, kind, outcome.check, f"{kind}{reason}  {outcome.duration_ms:.2f} ms")


def _summary(page: _Page, report: Report) -> None:
    """Write the counts and the time, in as many lines as they need."""
    items = [(f"{page.marks.passed} no problems", "green")] if common.all_well(report) else []
    for count in common.counts(report):
        items.append((f"{count.number} {count.words}", _COLOURS.get(count.kind, "") if count.number else ""))
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


class _Page:
    """Writes lines to a stream within what it can show: its width, its characters, its colours."""

    def __init__(self, stream: TextIO, width: int | None, color: bool | None, home: str) -> None:
        self._stream, self._home = stream, home
        self._encoding = getattr(stream, "encoding", None) or "utf-8"
        self._console = _console(stream, color)
        self.width = width or (_columns(stream) if _is_terminal(stream) else None)
        self.colours = self._console is not None
        self.marks = _MARKS if self._can_show("".join(_MARKS)) else _ASCII_MARKS
        self.last_was_text = False

    def _can_show(self, text: str) -> bool:
        try:
            text.encode(self._encoding)
        except (UnicodeEncodeError, LookupError):
            return False
        return True

    def mark(self, severity: str) -> str:
        """Return the mark of a severity."""
        mark: str = getattr(self.marks, severity)
        return mark

    def shown(self, text: str) -> str:
        """Return a text of the report as this stream can show it, the home folder as ~."""
        return self.command(common.tilde(text, self._home))

    def command(self, text: str) -> str:
        """Return a text that one would copy as this stream can show it."""
        safe = visible(text)
        if self._can_show(safe):
            return safe
        return safe.encode("ascii", "backslashreplace").decode()

    def entry(self, column: int, mark: str, kind: str, name: str, text: str) -> None:
        """Write a check's name and what it says, from `column` on or, where that is narrow, below."""
        style = _COLOURS.get(kind, "dim")
        name = self.command(name)
        head = [(f"{mark} ", style), (name, "bold" if style != "dim" else "dim")]
        if self.width and self.width - column < _LEAST_ROOM:
            self.line(head)
            self.text([(" " * 4, "")], text, "", 4)
        else:
            self.text([*head, (" " * max(1, column - 2 - _cells(name)), "")], text, "", column)

    def row(self, mark: str, kind: str, name: str, text: str) -> None:
        """Write one line, however long."""
        self.line([(f"{mark} ", _COLOURS.get(kind, "")), (name, "bold"), (f"  {text}", "")])

    def labelled(self, label: str, text: str, *, whole: bool = False) -> None:
        """Write a line below an entry; a `whole` one is a command, and is never broken."""
        first = [(f"    {label:<7}", "dim")]
        if whole:
            self.line([*first, (text, "green")])
        else:
            self.text(first, text, "", 11)

    def text(self, first: list[tuple[str, str]], text: str, style: str, indent: int, aside: str = "") -> None:
        """Write `text` after `first`, further lines from column `indent` on; `aside` is a word beside it."""
        room = None if self.width is None else max(self.width - indent, 16)
        lines = [text] if room is None else _wrapped(text, room)
        beside = not aside or room is None or _cells(lines[-1]) + 3 + _cells(aside) <= room
        for number, line in enumerate(lines):
            start = first if number == 0 else [(" " * indent, "")]
            last = aside and beside and number == len(lines) - 1
            self.line([*start, (line, style), *([("   " + aside, "dim")] if last else [])])
        if not beside:
            self.text([(" " * indent, "")], aside, "dim", indent)

    def blank(self) -> None:
        """Write an empty line."""
        self.line([])
        self.last_was_text = False

    def line(self, segments: list[tuple[str, str]]) -> None:
        """Write one line of texts, each with its style."""
        self.last_was_text = True
        if self._console is None:
            self._stream.write("".join(text for text, _ in segments) + "\n")
            return
        from rich.text import Text

        self._console.print(Text.assemble(*segments), soft_wrap=True)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


def _console(stream: TextIO, color: bool | None) -> Console | None:
    """Return what writes colours, or None where there are to be none."""
    if color is False or os.environ.get("NO_COLOR"):
        return None
    forced = os.environ.get("FORCE_COLOR") or os.environ.get("TTY_COMPATIBLE") == "1"
    if not (color or forced or _is_terminal(stream)):
        return None
    from rich.console import Console

    console = Console(
        file=stream,
        force_terminal=color,
        color_system="standard" if color else "auto",
        highlight=False,
        markup=False,
        emoji=False,
    )
    return console if console.color_system else None


def _columns(stream: TextIO) -> int:
    """Return the columns of the terminal that `stream` is."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _wrapped(text: str, room: int) -> list[str]:
    """Break between words only: a path or a version that is longer than a line stays whole."""
    lines, used = [""], 0
    for word in re.findall(r"\s*\S+", text):
        cells = _cells(word)
        if used and used + cells > room:
            word = word.lstrip()
            cells = _cells(word)
            lines.append("")
            used = 0
        lines[-1] += word
        used += cells
    return lines


def _cells(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
