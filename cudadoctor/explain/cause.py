"""Chooses the root among the lines that fit: what comes first, and is no consequence of another."""

from __future__ import annotations

import string
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from msgspec import structs

from cudadoctor.explain.model import Explanation, Kind, Seen, Signature
from cudadoctor.explain.scan import Found, Hit, Tally

#: Sorted behind every other where two begin on one line.
_ORDER = {Kind.CAUSE: 0, Kind.HINT: 1}


def explain(found: Found, name: str) -> Explanation:
    """Return what a log tells; `name` is what it is called."""
    seen = [_seen(tally, hit) for tally, hit in _in_place(found)]
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


def _in_place(found: Found) -> list[tuple[Tally, Hit]]:
    """Return each row but the signs with its first line that stands where the row asks for."""
    chosen = []
    for tally in found.tallies.values():
        signature = tally.row.signature
        if signature.kind is Kind.SIGN:
            continue
        hit = next((hit for hit in tally.hits if _is_placed(hit.line, signature, found)), None)
        if hit is None:
            hit = _beyond(tally, found)
        if hit is not None:
            chosen.append((tally, hit))
    return chosen


def _beyond(tally: Tally, found: Found) -> Hit | None:
    """Return the first line with its signs among those whose text is not kept: told by the last that is."""
    for line in tally.places[len(tally.hits) :]:
        if _is_placed(line, tally.row.signature, found):
            return structs.replace(tally.hits[-1], line=line, around=())
    return None


def _is_placed(line: int, signature: Signature, found: Found) -> bool:
    """Return whether a line stands where its row asks for: by its signs, and near the log's end."""

    def near(sign: str) -> bool:
        tally = found.tallies.get(sign)
        if tally is None or not signature.within:
            return tally is not None
        at = bisect_left(tally.places, line - signature.within)
        return at < len(tally.places) and tally.places[at] <= line + signature.within

    if signature.last and line <= found.lines - signature.last:
        return False
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
        _about(signature, hit),
    )


def _about(signature: Signature, hit: Hit) -> tuple[str, ...]:
    """Return what a finding has to name, with the groups of the line; one that took no part names nothing."""
    filled = (each.format_map(_Groups(hit.groups)) for each in signature.about if _is_whole(each, hit))
    return tuple(filled)


def _is_whole(text: str, hit: Hit) -> bool:
    return all(not name or name in hit.groups for _, name, _, _ in string.Formatter().parse(text))


class _Groups(dict[str, str]):
    """The groups of a match; one that took no part reads as what it stands for."""

    def __missing__(self, key: str) -> str:
        return f"the {key}"


def _is_cause(seen: Seen) -> bool:
    return seen.kind in (Kind.CAUSE, Kind.HINT)


def _roots(seen: Sequence[Seen], signatures: Mapping[str, Signature]) -> list[Seen]:
    """Return the causes that are no consequence of another one, in the order of the log, each cause once."""
    candidates = [each for each in seen if _is_cause(each)]

    def gives_way(at: int, each: Seen) -> bool:
        wanted = {*signatures[each.signature].yields} - {each.cause}
        # Of two that give way to each other the first stands.
        return any(
            other.cause in wanted and (place < at or each.cause not in signatures[other.signature].yields)
            for place, other in enumerate(candidates)
        )

    standing = [each for at, each in enumerate(candidates) if not gives_way(at, each)] or candidates[:1]
    sure = [each for each in standing if each.kind is Kind.CAUSE]
    first: dict[str, Seen] = {}
    for each in sure or standing:
        first.setdefault(each.cause, each)
    return list(first.values())
