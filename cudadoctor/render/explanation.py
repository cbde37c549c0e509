"""What a log tells, as text: the cause with its line, whether it is so here, and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from cudadoctor.explain.model import Explanation, Seen
from cudadoctor.render.page import Page, cells

_LABEL = 12  #: columns of "  cause     "
_COLOURS = {"confirmed": "bold red", "contradicted": "green", "unknown": "magenta"}
_MOST = 6  #: consequences, or harmless lines, that are named


def render(
    told: Explanation, home: str, *, stream: TextIO, width: int | None = None, color: bool | None = None
) -> None:
    """Write the explanation to `stream`: paths under `home` with ~; `width` and `color` as for a report."""
    page = Page(stream, width, color, home)
    if told.root is None:
        _without(page, told)
    else:
        _cause(page, told.log, told.root)
        if told.others:
            page.line([("other causes in this log:", "bold")])
        for other in told.others:
            _cause(page, told.log, other)
    named = {each.cause for each in (told.root, *told.others) if each is not None}
    _list(page, "also seen (consequences)", [each for each in told.consequences if each.cause not in named])
    _list(page, "harmless", told.harmless)
    for note in told.notes:
        page.text([("note: ", "yellow")], page.shown(note), "", 6)


def _without(page: Page, told: Explanation) -> None:
    lines = f"{told.lines} line{'' if told.lines == 1 else 's'}"
    page.text([], f"{page.shown(told.log)}: no cause that is known here, in {lines}", "", 0)
    if told.last_error:
        _labelled(page, "error", page.shown(told.last_error))
        _labelled(page, "help", "what the environment itself is short of: cudadoctor check")
    elif told.consequences:
        _labelled(page, "help", "it only says that something before it failed: give the log from its start")


def _cause(page: Page, log: str, seen: Seen) -> None:
    place = f"{page.shown(log)}:{seen.line}"
    times = f"   ({seen.count} times)" if seen.count > 1 else ""
    page.text([(place, "bold"), ("   ", "")], page.shown(seen.text) + times, "", 4)
    here = seen.here
    name = here.check if here and here.check else seen.cause
    _labelled(page, "cause", page.shown(seen.title), name)
    if here is not None:
        says = f"{here.verdict}: {page.shown(here.says)}" if here.says else here.verdict
        _labelled(page, "here", says, style=_COLOURS.get(here.verdict, ""))
        for each in here.evidence:
            _labelled(page, "seen", page.shown(each))
    fix = here.fix if here else seen.remedy
    if fix:
        _labelled(page, "fix" if fix.startswith("cudadoctor ") else "help", page.command(fix))
    if seen.is_not:
        _labelled(page, "not", page.shown(seen.is_not))


def _labelled(page: Page, label: str, text: str, aside: str = "", style: str = "") -> None:
    page.text([(f"  {label:<{_LABEL - 2}}", "dim")], text, style, _LABEL, page.shown(aside))


def _list(page: Page, label: str, seen: Sequence[Seen]) -> None:
    """Write what else was seen in one paragraph, each once."""
    if not seen:
        return
    titles = list(dict.fromkeys(each.title for each in seen))
    said = [page.shown(title) for title in titles[:_MOST]]
    if len(titles) > _MOST:
        said.append(f"{len(titles) - _MOST} more")
    head = f"{label}: "
    page.text([(head, "dim")], f" {page.marks.dot} ".join(said), "", min(4, cells(head)))
