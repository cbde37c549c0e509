"""From two looks to their difference."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Literal

from msgspec import Struct

from cudadoctor.compare.bringing import Bringing
from cudadoctor.compare.model import IDLE, NAMED, Difference, Different, Seen, Side, Unseen
from cudadoctor.compare.ranking import Interest
from cudadoctor.compare.roots import Roots, places
from cudadoctor.compare.rows import Row
from cudadoctor.compare.sections import rows
from cudadoctor.compare.turning import failing, turned
from cudadoctor.declare import Check
from cudadoctor.facts import SECTIONS, Packages, Unknown


def compare(first: Seen, second: Seen, checks: Iterable[Check], fixes: Collection[str]) -> Difference:
    """Return how two looks differ; `fixes` are the names of the repairs that there are."""
    by_name = {check.name: check for check in checks}
    roots = places(first.facts, second.facts)
    turns = turned(first, second, by_name, fixes)
    interest = Interest(first, second, by_name, turns, roots)
    bringing = Bringing(first, second, roots)
    found: list[Different] = []
    compared = 0
    for section in _both(first, second):
        pair = _pairs(section, first, second, roots)
        compared += len(pair)
        found += _told(section, _differing(pair), interest, bringing)
    return Difference(
        _side(first),
        _side(second),
        turns,
        tuple(name for name in failing(first) if name in set(failing(second))),
        tuple(sorted(found, key=lambda different: different.rank)),
        tuple(_unseen(first, second)),
        compared,
        interest.side,
    )


class _Pair(Struct, frozen=True):
    """One fact on both sides; None where one has no such fact."""

    first: Row | None
    second: Row | None

    @property
    def row(self) -> Row:
        row = self.second or self.first
        assert row is not None
        return row

    @property
    def equal(self) -> bool:
        if self.first is None or self.second is None:
            return False
        # What has one spelling on both machines is the same, wherever that leads.
        return self.first.value == self.second.value or self.first.shown == self.second.shown


def _both(first: Seen, second: Seen) -> Iterator[str]:
    for name in SECTIONS:
        if not any(isinstance(getattr(seen.facts, name), Unknown) for seen in (first, second)):
            yield name


def _pairs(section: str, first: Seen, second: Seen, roots: tuple[Roots, Roots]) -> dict[str, _Pair]:
    """Return the facts of a section by key, without those that one side was never asked for."""
    a = rows(section, getattr(first.facts, section), roots[0])
    b = rows(section, getattr(second.facts, section), roots[1])
    _join(a, b)
    pairs = {key: _Pair(a.get(key), b.get(key)) for key in {**a, **b}}
    unasked = {key for key, pair in pairs.items() if pair.row.asked and not (pair.first and pair.second)}
    return {key: pair for key, pair in pairs.items() if key not in unasked and pair.row.after not in unasked}


def _join(first: Mapping[str, Row], second: dict[str, Row]) -> None:
    """Give the second's rows the first's keys where both are told in the same words.

    /usr/local/cuda is CUDA 12.8 on one machine and 13.0 on the other: one place, for those who look there.
    """
    lonely = {row.what: key for key, row in first.items() if key not in second}
    for key in [key for key in second if key not in first]:
        if (other := lonely.pop(second[key].what, None)) is not None:
            second[other] = second.pop(key)


def _differing(pairs: Mapping[str, _Pair]) -> dict[str, _Pair]:
    """Return what is not equal, without what only follows from another difference."""
    different = {key: pair for key, pair in pairs.items() if not pair.equal}
    groups = {pair.row.group for pair in different.values()} - {""}
    return {
        key: pair
        for key, pair in different.items()
        if pair.row.after not in different and pair.row.after not in groups
    }


def _told(
    section: str, pairs: Mapping[str, _Pair], interest: Interest, bringing: Bringing
) -> Iterator[Different]:
    for key, pair in pairs.items():
        rank, checks = interest.of(section, [row for row in (pair.first, pair.second) if row is not None])
        if pair.row.volatile and (rank != NAMED or pair.first is None or pair.second is None):
            continue
        only: Literal["", "A", "B"] = "A" if pair.second is None else "B" if pair.first is None else ""
        told = rank < IDLE and interest.side != "A"  # nobody wants the broken state back
        command = bringing.command(section, key, pair.first, pair.second) if told else ""
        absent = pair.row.absent
        yield Different(
            rank,
            section,
            pair.row.what,
            pair.first.shown if pair.first else absent,
            pair.second.shown if pair.second else absent,
            only,
            checks,
            pair.row.group,
            pair.row.item or pair.row.what,
            command,
        )


def _unseen(first: Seen, second: Seen) -> Iterator[Unseen]:
    for name in SECTIONS:
        a, b = getattr(first.facts, name), getattr(second.facts, name)
        if isinstance(a, Unknown) and not isinstance(b, Unknown):
            yield Unseen(name, "A", a.reason)
        elif isinstance(b, Unknown) and not isinstance(a, Unknown):
            yield Unseen(name, "B", b.reason)


def _side(seen: Seen) -> Side:
    target, packages = seen.facts.target, seen.facts.packages
    if isinstance(target, Unknown):
        return Side(seen.name)
    stack = tuple(_stack(packages)) if isinstance(packages, Packages) else ()
    return Side(seen.name, target.prefix, target.kind, target.version, stack)


def _stack(packages: Packages) -> Iterator[str]:
    for label, name in (("torch", "torch"), ("vllm", "vllm"), ("flashinfer", "flashinfer-python")):
        found = packages.find(name)
        version = packages.torch.version if label == "torch" and packages.torch else found and found.version
        if version:
            yield f"{label} {version}"
