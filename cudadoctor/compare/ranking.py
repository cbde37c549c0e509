"""How much a difference matters: by what the failing checks name, and by what they look at."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from cudadoctor.compare.model import IDLE, NAMED, NEEDED, OPEN, Seen, Turned
from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import BOTH, Row
from cudadoctor.compare.turning import basis, counting, failing
from cudadoctor.declare import Check
from cudadoctor.outcomes import Outcome


class Interest:
    """What the checks that fail on one side only name, and what all that fail look at."""

    def __init__(
        self,
        first: Seen,
        second: Seen,
        checks: Mapping[str, Check],
        turns: Sequence[Turned],
        roots: tuple[Roots, Roots],
    ) -> None:
        self.side, names = basis(turns)
        seen, place = (second, roots[1]) if self.side == "B" else (first, roots[0])
        self._said = {
            outcome.check: _said(outcome, place) for outcome in seen.outcomes if outcome.check in names
        }
        self._turned = {name: checks[name].needs for name in self._said if name in checks}
        every = dict.fromkeys((*failing(second), *failing(first)))
        self._every = {name: checks[name].needs for name in every if name in checks}
        self._forms: dict[tuple[str, str], re.Pattern[str]] = {}

    def of(self, section: str, rows: Sequence[Row]) -> tuple[int, tuple[str, ...]]:
        """Return the rank of a difference, and the checks that give it that rank."""
        names = dict.fromkeys(name for row in rows for name in row.names if name)
        if naming := tuple(check for check in self._said if self._names(check, names)):
            return NAMED, naming
        for rank, needs in ((NEEDED, self._turned), (OPEN, self._every)):
            if looking := tuple(check for check, sections in needs.items() if section in sections):
                return rank, looking
        return IDLE, ()

    def _names(self, check: str, names: Iterable[str]) -> bool:
        """Return whether a check's evidence has one of these names in it, as a word or a whole path."""
        text = self._said[check]
        for name in names:
            parts = name.casefold().split(BOTH)
            if all(self._has(text, part, _ALONE if len(parts) == 1 else _TOGETHER) for part in parts):
                return True
        return False

    def _has(self, text: str, name: str, start: str) -> bool:
        if not name or name not in text:
            return False
        form = self._forms.get((start, name))
        if form is None:
            before = _OPTION if name[0] in "/{" else start
            after = "" if name.endswith("/") else r"(?![\w-]|[./]\w)"
            form = self._forms[start, name] = re.compile(f"{before}{re.escape(name)}{after}")
        return bool(form.search(text))


#: What may stand before a name: before one that stands alone no path, or half of all evidence names torch.
_ALONE, _TOGETHER = r"(?<![\w/.])", r"(?<![\w.])"
_OPTION = r"(?:(?<![\w/.])|(?<=-l)|(?<=-i))"


def _said(outcome: Outcome, roots: Roots) -> str:
    """Return all that the findings of a check name: evidence, and the values of remedies."""
    lines = []
    for finding in counting(outcome):
        lines += [f"{evidence.source}: {evidence.detail}" for evidence in finding.evidence]
        for remedy in finding.remedies:
            lines += [remedy.summary, *(f"{name} = {value}" for name, value in remedy.values.items())]
    return "\n".join(map(roots.plain, lines)).casefold()
