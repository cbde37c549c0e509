"""Which checks end otherwise in one look than in the other."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Literal, cast

from cudadoctor.compare.model import Ended, Seen, Turned
from cudadoctor.declare import Check
from cudadoctor.facts import Facts, Target, Unknown
from cudadoctor.findings import Finding
from cudadoctor.outcomes import Failed, Outcome, Passed


def turned(
    first: Seen, second: Seen, checks: Mapping[str, Check], fixes: Collection[str]
) -> tuple[Turned, ...]:
    """Return the checks that changed: those that fail in B only, then in A only, then those left undecided.

    A check that passes on one side and does not apply on the other has nothing to say.
    """
    before = {outcome.check: outcome for outcome in first.outcomes}
    found = []
    for after in second.outcomes:
        was = before.get(after.check)
        if was is None or ended(was) == ended(after) or {ended(was), ended(after)} == {"passed", "skipped"}:
            continue
        counts = _looked(after.check, checks, first.facts) and _looked(after.check, checks, second.facts)
        found.append(_turn(was, after, counts, second, fixes))
    return tuple(sorted(found, key=_weight))


def failing(seen: Seen) -> list[str]:
    """Return the names of the checks that fail."""
    return [outcome.check for outcome in seen.outcomes if ended(outcome) == "failed"]


def ended(outcome: Outcome) -> Ended:
    """Return how a check ended; what the configuration accepts is passed."""
    if isinstance(outcome, Failed):
        return "failed" if counting(outcome) else "passed"
    return cast(Ended, type(outcome).__name__.lower())


def counting(outcome: Outcome) -> list[Finding]:
    """Return the findings that count, the worst first."""
    found = [finding for finding in outcome.findings if not finding.suppressed]
    return sorted(found, key=lambda finding: -finding.severity.rank)


def worse(turn: Turned) -> bool:
    """Return whether it fails in B, and it is known that it did not in A."""
    return turn.second == "failed" and turn.first in _SETTLED


def better(turn: Turned) -> bool:
    """Return whether it failed in A, and it is known that it does not in B."""
    return turn.first == "failed" and turn.second in _SETTLED


_SETTLED = ("passed", "skipped")


def basis(turns: Sequence[Turned]) -> tuple[Literal["", "A", "B"], frozenset[str]]:
    """Return the side whose failures say what matters, and the checks that fail there only.

    What was passed in A and fails in B comes before all else; where there is nothing of the kind, what has
    been mended is asked, and then what one side could not judge.
    """
    for side, counts in (("B", worse), ("A", better), ("B", _in_second), ("A", _in_first)):
        if names := frozenset(turn.check for turn in turns if counts(turn)):
            return cast(Literal["A", "B"], side), names
    return "", frozenset()


def _in_second(turn: Turned) -> bool:
    return turn.second == "failed"


def _in_first(turn: Turned) -> bool:
    return turn.first == "failed"


def _weight(turn: Turned) -> tuple[int, bool, str]:
    kinds = (worse, _in_second, better, _in_first)
    kind = next((place for place, counts in enumerate(kinds) if counts(turn)), len(kinds))
    return kind, turn.severity != "error", turn.check


def _looked(name: str, checks: Mapping[str, Check], facts: Facts) -> bool:
    check = checks.get(name)
    needs = check.required if check is not None else ()
    return not any(isinstance(getattr(facts, need), Unknown) for need in needs)


def _turn(was: Outcome, after: Outcome, counts: bool, second: Seen, fixes: Collection[str]) -> Turned:
    failed = after if ended(after) == "failed" else was
    findings = counting(failed)
    repairs = {remedy.fix for finding in findings for remedy in finding.remedies} - {"show"}
    fix = _repair(after.check, second) if failed is after and repairs & set(fixes) else ""
    undecided = [each.reason for each in (was, after) if not isinstance(each, (Passed, Failed))]
    return Turned(
        after.check,
        ended(was),
        ended(after),
        findings[0].severity.value if findings else "",
        tuple(finding.summary for finding in findings),
        fix,
        undecided[0] if undecided else "",
        counts,
    )


def _repair(check: str, second: Seen) -> str:
    """Return the command that plans the repair; it changes nothing without --apply."""
    target = second.real.target if second.real is not None else None
    named = ""
    if isinstance(target, Target) and (target.chosen_by.startswith("-") or not target.active):
        named = f" --prefix {shlex.quote(target.prefix)}"
    return f"cudadoctor fix {check}{named}"
