"""Lines for a terminal, a pipe or a log, within what it can show: its width, its characters, its colours.

On a terminal, prose wraps with a hanging indent; a path, and any command that one would copy, stays in one
piece for the terminal itself to wrap. Elsewhere no line is ever broken, so that grep finds what it looks for.
Colours follow rich's rules (a terminal, FORCE_COLOR), and a NO_COLOR that is not empty always wins. `rich` is
imported here only, and only for colours: importing it takes longer than a check of a machine.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, NamedTuple, TextIO

from cudadoctor.render import common
from cudadoctor.show import visible

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {
    "error": "bold red", "warning": "yellow", "note": "cyan", "inconclusive": "magenta",
    "crashed": "bold magenta", "passed": "green",
}  # fmt: skip
_LEAST_ROOM = 36  #: columns that the text beside a check's name needs; with fewer it goes below the name


class _Marks(NamedTuple):
    error: str
    warning: str
    note: str
    unclear: str
    passed: str
    idle: str
    dot: str
    bar: str


_MARKS = _Marks("✗", "!", "·", "?", "✓", "-", "·", "█")
_ASCII_MARKS = _Marks("x", "!", "-", "?", "+", "-", "-", "#")


class Page:
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
        style = COLOURS.get(kind, "dim")
        name = self.command(name)
        head = [(f"{mark} ", style), (name, "bold" if style != "dim" else "dim")]
        if self.width and self.width - column < _LEAST_ROOM:
            self.line(head)
            self.text([(" " * 4, "")], text, "", 4)
        else:
            self.text([*head, (" " * max(1, column - 2 - cells(name)), "")], text, "", column)

    def row(self, mark: str, kind: str, name: str, text: str) -> None:
        """Write one line, however long."""
        self.line([(f"{mark} ", COLOURS.get(kind, "")), (name, "bold"), (f"  {text}", "")])

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
        beside = not aside or room is None or cells(lines[-1]) + 3 + cells(aside) <= room
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
        segments = _uncommanding(segments)
        if self._console is None:
            self._stream.write("".join(text for text, _ in segments) + "\n")
            return
        from rich.text import Text

        self._console.print(Text.assemble(*segments), soft_wrap=True)


def _uncommanding(segments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return a line that GitHub's runner takes for text: one with `::` behind blanks it would obey."""
    if not "".join(text for text, _ in segments).lstrip().startswith("::"):
        return segments
    at = next(number for number, (text, _) in enumerate(segments) if text.strip())
    text, style = segments[at]
    return [*segments[:at], (text.replace(":", "\\x3a", 1), style), *segments[at + 1 :]]


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
    # Blanks at the end, which no word follows, would be looked through once for each of them.
    for word in re.findall(r"\s*\S+", text.rstrip()):
        width = cells(word)
        if used and used + width > room:
            word = word.lstrip()
            width = cells(word)
            lines.append("")
            used = 0
        lines[-1] += word
        used += width
    return lines


def cells(text: str) -> int:
    """Return how many columns a text takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)
