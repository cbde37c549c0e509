"""How two looks differ, as text or as Markdown: first what matters to the checks that fail."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, TextIO

from cudadoctor.compare import IDLE, NAMED, NEEDED, OPEN, Difference, Different, Side, Turned
from cudadoctor.render.markdown import code, prose
from cudadoctor.render.page import Page, cells

_MOST = 8  #: differences of one group that are told one by one, and names in a list, without -v
_COMMANDS = 3  #: more differences of one group than these are told without their commands
_FIRST = {
    "passed": "passed in A", "failed": "failed in A", "skipped": "did not apply in A",
    "inconclusive": "no verdict in A", "crashed": "crashed in A",
}  # fmt: skip
_SECOND = {
    "passed": "passes in B", "failed": "fails in B", "skipped": "does not apply in B",
    "inconclusive": "no verdict in B", "crashed": "crashes in B",
}  # fmt: skip


class _Line(NamedTuple):
    """One difference, or a list of some: "torch" and "2.9.0 -> 2.14.1"."""

    what: str
    said: tuple[str, ...]  #: both values, or one list
    aside: str = ""
    command: str = ""


class _Part(NamedTuple):
    heading: str
    lines: tuple[_Line, ...]


# --- what is told -------------------------------------------------------------------------------------------


def _parts(difference: Difference, verbose: bool) -> Iterator[_Part]:
    """Yield the differences by rank, under headings."""
    headings = _headings(difference)
    shown = [rank for rank in headings if rank != IDLE or verbose or _only_idle(difference)]
    for rank in shown:
        found = [each for each in difference.differences if each.rank == rank]
        if found:
            yield _Part(headings[rank], tuple(_lines(found, difference, verbose)))


def _headings(difference: Difference) -> dict[int, str]:
    those = "fails in B only" if difference.basis == "B" else "failed in A only"
    return {
        NAMED: f"Named by what {those}",
        NEEDED: f"What else is looked at by what {those}",
        OPEN: "What other failing checks look at" if difference.basis else "What the failing checks look at",
        IDLE: "What no failing check looks at",
    }


def _only_idle(difference: Difference) -> bool:
    """Return whether nothing that differs matters to any check: then it is all there is to tell."""
    return all(each.rank == IDLE for each in difference.differences)


def _rest(difference: Difference, verbose: bool) -> str:
    idle = sum(each.rank == IDLE for each in difference.differences)
    if verbose or not idle or _only_idle(difference):
        return ""
    differences = "difference" if idle == 1 else "differences"
    return f"{idle} more {differences} that no failing check looks at (-v)"


def _hidden(parts: Iterable[_Part], difference: Difference, verbose: bool) -> str:
    """Return that there are more commands than were told, where there are."""
    told = sum(bool(line.command) for part in parts for line in part.lines)
    some = any(each.command for each in difference.differences if each.rank in (NAMED, NEEDED))
    return "" if verbose or told or not some else "what would give B what A has: -v"


def _lines(found: Sequence[Different], difference: Difference, verbose: bool) -> Iterator[_Line]:
    """Yield each difference; below the first rank those of a group that only one side has in one line."""
    groups: dict[str, list[Different]] = {}
    for each in found:
        groups.setdefault(each.group or f"\0{each.section} {each.what}", []).append(each)
    turned = sum(_fails(turn, difference.basis) for turn in difference.checks)
    for group, members in groups.items():
        apart = members[0].rank == NAMED or group.startswith("\0")
        named = [each for each in members if apart or not each.only]
        most = len(named) if verbose else _MOST
        together = _together(named)
        commands = verbose or members[0].rank == NAMED or len(named) <= _COMMANDS
        for same in together[:most]:
            yield _line(same, group, turned, commands)
        if left := sum(map(len, together[most:])):
            yield _Line(f"{left} more {group} differ", ("-v",))
        for side in "AB":
            lonely = [] if apart else [each for each in members if each.only == side]
            if any(each.command for each in lonely) and (verbose or len(lonely) <= _COMMANDS):
                yield from (_line([each], group, turned, True) for each in lonely)
            elif lonely:
                yield _Line(f"{group} only in {side}", (_list(lonely, side, verbose),))


def _fails(turn: Turned, side: str) -> bool:
    return (turn.first if side == "A" else turn.second) == "failed"


def _together(found: Iterable[Different]) -> list[list[Different]]:
    """Return differences that are one, told of several things: of FlashInfer, torch and tvm-ffi."""
    by_values: dict[tuple[str, ...], list[Different]] = {}
    for each in found:
        key = each.what if not each.what.startswith(f"{each.group} ") or not each.group else ""
        by_values.setdefault((each.group, each.first, each.second, key), []).append(each)
    return list(by_values.values())


def _line(same: Sequence[Different], group: str, turned: int, commands: bool) -> _Line:
    first = same[0]
    what = first.what
    if len(same) > 1:
        what = f"{group} {', '.join(each.what.removeprefix(f'{group} ') for each in same)}"
    aside = ", ".join(first.checks) if first.rank == NAMED and turned > 1 else ""
    return _Line(what, (first.first, first.second), aside, first.command if commands else "")


def _list(lonely: Sequence[Different], side: str, verbose: bool) -> str:
    """Return names, each with what is known of it."""
    shown = lonely if verbose else lonely[:_MOST]
    names = []
    for each in shown:
        value = each.first if side == "A" else each.second
        names.append(each.item if value == "there" or "/" in value else f"{each.item} {value}")
    more = len(lonely) - len(shown)
    return ", ".join(names) + (f", and {more} more (-v)" if more else "")


def _ended(turn: Turned) -> str:
    return f"{_FIRST[turn.first]}, {_SECOND[turn.second]}"


def _notes(parts: Sequence[_Part], difference: Difference, verbose: bool) -> list[str]:
    """Return what was left out here, and what could not be compared."""
    notes = (_hidden(parts, difference, verbose), _rest(difference, verbose), *_unseen(difference))
    return [note for note in notes if note]


def _unseen(difference: Difference) -> Iterator[str]:
    """Yield what one side has not looked at, told together where the reason is one."""
    together: dict[tuple[str, str], list[str]] = {}
    for each in difference.unseen:
        together.setdefault((each.side, each.reason), []).append(each.section)
    for (side, reason), sections in together.items():
        yield f"{', '.join(sections)}: not looked at in {side} ({reason})"


def _summary(difference: Difference) -> str:
    facts = "1 fact" if difference.compared == 1 else f"{difference.compared} facts"
    if difference.same:
        return f"the same: {facts} compared"
    turned = sum(turn.counts for turn in difference.checks)
    checks = f"{turned} check{'s' if turned > 1 else ''} and " if turned else ""
    return f"different: {checks}{len(difference.differences)} of {facts}"


def _about(side: Side) -> list[str]:
    python = f"Python {side.python}" if side.python else ""
    return [part for part in (side.prefix, side.kind, python, *side.stack) if part]


# --- as text ------------------------------------------------------------------------------------------------


def text(
    difference: Difference,
    *,
    stream: TextIO,
    home: str = "",
    width: int | None = None,
    color: bool | None = None,
    verbose: bool = False,
) -> None:
    """Write a difference to `stream`; `width` and `color` are as in a report's text.

    `verbose` adds what matters to no check, and tells every list to its end.
    """
    page = Page(stream, width, color, home)
    names = max(cells(page.shown(side.name)) for side in (difference.first, difference.second))
    for label, side in (("A", difference.first), ("B", difference.second)):
        name = page.shown(side.name)
        about = f" {page.marks.dot} ".join(map(page.shown, _about(side)))
        page.text([(f"{label}  ", "bold"), (f"{name:<{names}}  ", "")], about, "", names + 5)
    page.blank()
    for turn in difference.checks:
        _turn(page, turn)
    if difference.failing:
        page.text([("  fail in both: ", "dim")], ", ".join(map(page.shown, difference.failing)), "", 16)
    if difference.checks or difference.failing:
        page.blank()
    parts = list(_parts(difference, verbose))
    for part in parts:
        page.line([(part.heading, "bold")])
        for line in part.lines:
            _text_line(page, line)
        page.blank()
    for note in _notes(parts, difference, verbose):
        page.text([], page.shown(note), "dim", 0)
    page.line([(_summary(difference), "green" if difference.same else "")])


def _turn(page: Page, turn: Turned) -> None:
    fails, mended = turn.second == "failed", turn.first == "failed" and turn.second in ("passed", "skipped")
    kind = (turn.severity or "error") if fails else "passed" if mended else "inconclusive"
    mark = page.mark(kind) if fails else page.marks.passed if mended else page.marks.unclear
    column = cells(turn.check) + 4
    page.entry(column, mark, kind, turn.check, page.shown(_ended(turn)))
    for summary in turn.summaries if fails else ():
        page.labelled("found", page.shown(summary))
    if turn.reason:
        page.labelled("why", page.shown(turn.reason))
    if turn.fix:
        page.labelled("fix", page.command(turn.fix), whole=True)


def _text_line(page: Page, line: _Line) -> None:
    what = page.shown(line.what)
    said = " -> ".join(map(page.shown, line.said)) if len(line.said) > 1 else page.shown(line.said[0])
    behind = "  " if len(line.said) > 1 else ": "
    aside = f"({page.shown(line.aside)})" if line.aside else ""
    page.text([(f"  {what}{behind}", "")], said, "", 6, aside)
    if line.command:
        page.labelled("A has", page.command(line.command), whole=True)


# --- as Markdown --------------------------------------------------------------------------------------------


def markdown(difference: Difference, *, verbose: bool = False) -> str:
    """Return a difference as Markdown that ends with a newline; whatever is not plain is in code spans."""
    return "\n".join(_markdown(difference, verbose)) + "\n"


def _markdown(difference: Difference, verbose: bool) -> Iterator[str]:
    yield f"## cudadoctor diff: {_summary(difference)}"
    yield ""
    for label, side in (("A", difference.first), ("B", difference.second)):
        yield f"- **{label}**: {', '.join(map(code, (side.name, *_about(side))))}"
    if difference.checks or difference.failing:
        yield from ("", "### Checks", "")
    for turn in difference.checks:
        yield from _markdown_turn(turn)
    if difference.failing:
        yield f"- fail in both: {', '.join(map(code, difference.failing))}"
    parts = list(_parts(difference, verbose))
    for part in parts:
        yield from ("", f"### {part.heading}", "")
        for line in part.lines:
            yield from _markdown_line(line)
    notes = _notes(parts, difference, verbose)
    if notes:
        yield ""
    yield from (f"- {prose(note)}" for note in notes)


def _markdown_turn(turn: Turned) -> Iterator[str]:
    mended = turn.first == "failed" and turn.second in ("passed", "skipped")
    sign = "❌" if turn.second == "failed" else "✅" if mended else "❔"
    yield f"- {sign} {code(turn.check)}: {prose(_ended(turn))}"
    for summary in turn.summaries if turn.second == "failed" else ():
        yield f"  - {turn.severity}: {prose(summary)}"
    if turn.reason:
        yield f"  - why: {prose(turn.reason)}"
    if turn.fix:
        yield f"  - fix: {code(turn.fix)}"


def _markdown_line(line: _Line) -> Iterator[str]:
    aside = f" ({', '.join(map(code, line.aside.split(', ')))})" if line.aside else ""
    if len(line.said) > 1:
        yield f"- {prose(line.what)}: {' → '.join(map(code, line.said))}{aside}"
    else:
        yield f"- {prose(line.what)}: {prose(line.said[0])}"
    if line.command:
        yield f"  - A has: {code(line.command)}"
