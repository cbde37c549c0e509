"""Chooses the root among the lines that fit: what comes first, and is no consequence of another."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence

from cudadoctor.explain.model import Explanation, Kind, Seen, Signature
from cudadoctor.explain.scan import Found, Hit, Tally

#: Sorted behind every other where two begin on one line.
_ORDER = {Kind.CAUSE: 0, Kind.HINT: 1}


def explain(found: Found, name: str) -> Explanation:
    """Return what a log tells; `name` is what it is called."""
    seen = [_seen(tally, hit) for tally, hit in _in_place(found.tallies)]
    seen.sort(key=lambda each: (each.line, _ORDER.get(each.kind, 2)))
    signatures = {name: tally.row.signature for name, tally in found.tallies.items()}
    causes = _roots(seen, signatures)
    beside = [each for each in seen if _is_cause(each) and each not in causes]
    return Explanation(
        log=name,
        lines=found.lines,
        size_bytes=found.size,
        root=causes[0] if causes else None,
        others=tuple(causes[1:]),
        consequences=tuple(each for each in seen if each.kind is Kind.CONSEQUENCE or each in beside),
        harmless=tuple(each for each in seen if each.kind is Kind.HARMLESS),
        last_error="" if causes else found.last_error,
        sites=found.sites,
        notes=(_TIRED,) if found.tired else (),
    )


_TIRED = "some messages are so frequent in this log that not every line with them was looked at"


def _in_place(tallies: Mapping[str, Tally]) -> list[tuple[Tally, Hit]]:
    """Return each row but the signs with its first line that has around it what the row asks for."""
    chosen = []
    for tally in tallies.values():
        signature = tally.row.signature
        if signature.kind is Kind.SIGN:
            continue
        hit = next((hit for hit in tally.hits if _has_signs(hit.line, signature, tallies)), None)
        if hit is None and any(
            _has_signs(line, signature, tallies) for line in tally.places[len(tally.hits) :]
        ):
            hit = tally.hits[-1]
        if hit is not None:
            chosen.append((tally, hit))
    return chosen


def _has_signs(line: int, signature: Signature, tallies: Mapping[str, Tally]) -> bool:
    def near(sign: str) -> bool:
        tally = tallies.get(sign)
        if tally is None or not signature.within:
            return tally is not None
        at = bisect_left(tally.places, line - signature.within)
        return at < len(tally.places) and tally.places[at] <= line + signature.within

    return (not signature.beside or any(map(near, signature.beside))) and not any(
        map(near, signature.not_beside)
    )


def _seen(tally: Tally, hit: Hit) -> Seen:
    signature = tally.row.signature
    return Seen(
        signature.id,
        signature.cause,
        signature.kind,
        hit.line,
        hit.text,
        signature.title.format_map(_Groups(hit.groups)),
        tally.count,
        hit.around,
        None,
        signature.remedy,
        signature.is_not,
    )


class _Groups(dict[str, str]):
    """The groups of a match; one that took no part reads as what it stands for."""

    def __missing__(self, key: str) -> str:
        return f"the {key}"


def _is_cause(seen: Seen) -> bool:
    return seen.kind in (Kind.CAUSE, Kind.HINT)


def _roots(seen: Sequence[Seen], signatures: Mapping[str, Signature]) -> list[Seen]:
    """Return the causes that are no consequence of another one, in the order of the log, each cause once."""
    candidates = [each for each in seen if _is_cause(each)]
    present = {each.cause for each in candidates}
    standing = [
        each for each in candidates if present.isdisjoint({*signatures[each.signature].yields} - {each.cause})
    ]
    # Two that give way to each other: the first stands.
    standing = standing or candidates[:1]
    sure = [each for each in standing if each.kind is Kind.CAUSE]
    return list({each.cause: each for each in reversed(sure or standing)}.values())[::-1]
