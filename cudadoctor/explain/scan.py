"""Looks through a log for the lines that fit the rows: once, in constant memory, however large it is.

A matcher of many fixed strings runs over whole blocks; an expression is searched only in lines that hold a
string of its row.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence

from msgspec import Struct

from cudadoctor.explain.lines import WINDOW, clean, excerpt
from cudadoctor.explain.model import Kind
from cudadoctor.explain.signatures import Row

#: Lines that fit one row and are looked at; further ones are only taken for the same.
ENOUGH = 500
#: Lines that hold a row's string and do not fit: after so many, they are passed over.
PATIENCE = 20_000
SHOWN = 8  #: lines of one row that are kept with their text
SIGNS = 100_000  #: places of a sign that are remembered
LONGEST = 1 << 20  #: bytes of a line that are looked at together; of a longer one each such part
OVERLAP = 8192  #: bytes of one part that are looked at again with the next
CONTEXT = 3  #: lines kept before and after a line that fits
_SHOWN = 600  #: bytes of a line that is only context
#: What a line with an error of Python's, of a compiler, a linker, or of most programs, holds.
ERRORS = (
    b"Error: ", b"error: ", b"Exception: ", b"ERROR: ", b"fatal: ", b"fatal   : ", b": cannot find -l",
    b"undefined reference to ",
)  # fmt: skip
_BACK = 32  #: errors of one block that are asked whether they only follow from another
#: What is in the path of every file of an environment.
_PACKAGES = b"-packages/"
_SITE = re.compile(rb"""(/[^\s:'"()\0]{1,300}/lib(?:64)?/python3[\d.]*/(?:site|dist)-packages)/$""")
#: Where vLLM prints what its clients say, and what the model answers: no state of its own.
_QUOTED = re.compile(
    rb"(?:Received request|Request|Generated response) \S+(?: \([\w ]+\))?(?: details)?: (?:prompt|output): "
)
_QUOTED_HEAD, _QUOTED_LONGEST = 400, 1 << 16  #: bytes in which it begins, and up to which it is followed
_SITES, _SITE_LINES = 8, 2000  #: environments that are remembered, and lines that are asked for one


class Hit(Struct, frozen=True):
    """One line that fits a row."""

    line: int
    text: str
    groups: dict[str, str]
    around: tuple[str, ...]


class Tally(Struct):
    """What was found of one row."""

    row: Row
    hits: list[Hit]  #: the first few; none of a sign
    places: array[int]  #: line numbers
    count: int = 0


class Found(Struct):
    """What a whole log holds."""

    tallies: dict[str, Tally]  #: by the row's name
    lines: int
    size: int
    last_error: str  #: the last one that is not known to follow from another
    sites: tuple[str, ...]  #: the first folders of Python packages that are named
    tired: bool  #: a string was so frequent that not every line with it was looked at


class Scanner:
    """Takes blocks of bytes; knows at the end which rows fit, and where."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._of: dict[bytes, list[Row]] = {}
        for row in rows:
            for needle in row.signature.find:
                self._of.setdefault(needle.encode(), []).append(row)
        self._follow = [
            (needle.encode(), row)
            for row in rows
            if row.signature.kind in (Kind.CONSEQUENCE, Kind.HARMLESS)
            for needle in row.signature.find
        ]
        self._left = {row.id: PATIENCE for row in rows}
        self._tallies: dict[str, Tally] = {}
        self._told: dict[str, int] = {}  #: of a row, the line that was looked at last
        self._rest = b""
        self._looked = 0  #: bytes at the start of the rest that were looked at before
        self._line = 1
        self._size = 0
        self._last_error = b"", 0
        self._sites: dict[str, None] = {}
        self._site_lines = 0
        self._tired = False
        self._done: set[str] = set()  #: rows that nothing more is asked of
        self._build()

    def _build(self) -> None:
        """Make the matcher of the strings that still tell something."""
        import ahocorasick_rs

        wanted = [each for each, rows in self._of.items() if any(self._left[row.id] > 0 for row in rows)]
        more = [_PACKAGES] if self._site_lines < _SITE_LINES and _PACKAGES not in self._of else []
        self._needles = [*wanted, *more]
        self._matcher = ahocorasick_rs.BytesAhoCorasick(
            self._needles, implementation=ahocorasick_rs.Implementation.ContiguousNFA
        )
        self._asked = len(self._done), self._site_lines < _SITE_LINES

    def feed(self, block: bytes) -> None:
        """Look through the next bytes."""
        self._size += len(block)
        data = self._rest + block if self._rest else block
        cut = data.rfind(b"\n") + 1
        if cut:
            self._look(data, cut)
            self._rest, self._looked = data[cut:], 0
        elif len(data) >= LONGEST:
            self._look(data, len(data))
            self._rest = data[-OVERLAP:]
            self._looked = len(self._rest)
        else:
            self._rest = data

    def end(self) -> Found:
        """Look at the last line, and return what was found."""
        lines = self._line - 1 + bool(self._rest)
        if self._rest:
            self._look(self._rest, len(self._rest))
        raw, at = self._last_error
        return Found(
            self._tallies, lines, self._size, clean(raw, at) if raw else "", tuple(self._sites), self._tired
        )

    def _look(self, data: bytes, end: int) -> None:
        """Look through data up to `end`, and count its lines."""
        counted = 0
        for index, start, stop in self._matcher.find_matches_as_indexes(
            data if end == len(data) else memoryview(data)[:end], overlapping=True
        ):
            if stop <= self._looked:
                continue
            needle = self._needles[index]
            if needle == _PACKAGES and self._site_lines < _SITE_LINES:
                self._note_site(data[max(0, start - 400) : stop])
            for row in self._of.get(needle, ()):
                if self._left[row.id] <= 0:
                    continue
                self._line += data.count(b"\n", counted, start)
                counted = start
                if self._told.get(row.id) != self._line and self._fits(row, data, start, end, needle):
                    self._told[row.id] = self._line
        self._note_error(data, end)
        self._line += data.count(b"\n", counted, end)
        self._looked = 0
        if (len(self._done), self._site_lines < _SITE_LINES) != self._asked:
            self._build()

    def _note_error(self, data: bytes, end: int) -> None:
        """Keep the last line that looks like an error and is not known to follow from another."""
        for _ in range(_BACK):
            error = max(data.rfind(each, 0, end) for each in ERRORS)
            if error < 0:
                return
            first = data.rfind(b"\n", max(0, error - WINDOW), error) + 1 or max(0, error - WINDOW)
            until = data.find(b"\n", error, error + WINDOW)
            line = data[first : until if until >= 0 else error + WINDOW]
            if not _is_quoted(data, error) and not any(
                needle in line and _fit(row, line, needle) for needle, row in self._follow
            ):
                self._last_error = line, error - first
                return
            end = first

    def _note_site(self, before: bytes) -> None:
        self._site_lines += 1
        found = _SITE.search(before)
        if found and len(self._sites) < _SITES:
            self._sites[found[1].decode("utf-8", "replace")] = None

    def _fits(self, row: Row, data: bytes, at: int, end: int, needle: bytes) -> bool:
        """Note the line around `at` where it fits a row."""
        tally = self._tallies.get(row.id)
        if row.signature.kind is Kind.SIGN and row.match is None and row.unless is None:
            self._note(row, None)
            return True
        low = max(0, at - 2 * WINDOW)
        first = data.rfind(b"\n", low, at) + 1 or low
        until = data.find(b"\n", at, min(end, at + 2 * WINDOW))
        raw = data[first : until if until >= 0 else min(end, at + 2 * WINDOW)]
        text = clean(raw, at - first)
        found = row.match.search(text) if row.match else None
        if (row.match and found is None) or (row.unless and row.unless.search(text)) or _is_quoted(data, at):
            self._left[row.id] -= 1
            if self._left[row.id] <= 0:
                self._done.add(row.id)
                self._tired = True
            return False
        groups = {k: v for k, v in found.groupdict().items() if v is not None} if found else {}
        full = tally is not None and len(tally.hits) >= SHOWN
        self._note(
            row,
            None
            if full
            else Hit(self._line, excerpt(text, needle.decode()), groups, _around(data, first, end)),
        )
        return True

    def _note(self, row: Row, hit: Hit | None) -> None:
        tally = self._tallies.get(row.id)
        if tally is None:
            tally = self._tallies[row.id] = Tally(row, [], array("Q"))
        tally.count += 1
        if hit is not None:
            tally.hits.append(hit)
        if len(tally.places) < (SIGNS if row.signature.kind is Kind.SIGN else ENOUGH):
            tally.places.append(self._line)
        else:
            self._left[row.id] = 0
            self._done.add(row.id)


def _is_quoted(data: bytes, at: int) -> bool:
    """Return whether what stands at `at` are the words of a client or of a model."""
    first = data.rfind(b"\n", max(0, at - _QUOTED_LONGEST), at) + 1
    return _QUOTED.search(data, first, min(at, first + _QUOTED_HEAD)) is not None


def _fit(row: Row, line: bytes, needle: bytes) -> bool:
    text = clean(line, line.find(needle))
    if row.unless and row.unless.search(text):
        return False
    return row.match is None or row.match.search(text) is not None


def _around(data: bytes, first: int, end: int) -> tuple[str, ...]:
    """Return the line that begins at `first` with those before and after it."""
    begin = first
    for _ in range(CONTEXT):
        begin = data.rfind(b"\n", max(0, begin - 1 - WINDOW), max(0, begin - 1)) + 1
        if not begin:
            break
    until = first
    for _ in range(CONTEXT + 1):
        until = data.find(b"\n", until, min(end, until + 2 * WINDOW)) + 1
        if not until:
            until = min(end, first + 2 * WINDOW)
            break
    lines = data[begin:until].split(b"\n")[: 2 * CONTEXT + 1]
    return tuple(line[:_SHOWN].decode("utf-8", "replace") for line in lines if line)


def scan(rows: Sequence[Row], blocks: Iterable[bytes]) -> Found:
    """Return what the blocks of a log hold."""
    scanner = Scanner(rows)
    for block in blocks:
        scanner.feed(block)
    return scanner.end()
