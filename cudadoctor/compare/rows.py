"""A section of facts as rows that can be compared with those of another machine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct

from cudadoctor.compare.roots import Roots


class Row(Struct, frozen=True):
    """One fact, in the words of the field."""

    key: str  #: what it is a fact of, without places of this machine
    value: Any  #: what is compared, without them too
    shown: str
    what: str  #: the key as it is told
    names: tuple[str, ...] = ()  #: evidence that has one of these in it names this fact
    group: str = ""  #: what it is one of, where there may be many: packages
    absent: str = "none"  #: what is said where the other side has no such fact
    after: str = ""  #: the key of another fact, or a group of some, of which this one is only a consequence
    asked: bool = False  #: is seen only where one asks for it: nothing is known where it is not in the facts
    item: str = ""  #: the key as it is told in a list of its group, where that is shorter
    volatile: bool = False  #: differs from one minute to the next: counts only where a check names it


#: Between a folder and a name in it: evidence must hold both.
BOTH = "\0"


def listed(values: Iterable[str]) -> str:
    """Return values as one text."""
    return ", ".join(values)


def size(count_bytes: int) -> str:
    """Return a size as people say it: "24 GiB", "64 MiB"."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count_bytes >= 1 << power:
            return f"{count_bytes / (1 << power):.1f}".removesuffix(".0") + f" {unit}"
    return f"{count_bytes} bytes"


#: Fields that tell where a fact was read, or that differ from one minute to the next, or from user to user.
_NOISE = frozenset((
    "source", "origin", "rule", "why", "notes", "seconds", "free_bytes", "free_files", "device", "pid",
    "user", "count", "file", "journal", "runs", "detail", "spelled", "sizes", "spares", "stderr",
    "command", "traced",
))  # fmt: skip
#: What one of several is known by.
_TITLES = ("name", "path", "distribution", "capability", "extension", "port", "consumer", "text")
_DEPTH = 8  #: of a model's config, which may hold anything


def walked(about: str, section: Struct, roots: Roots, skip: Iterable[str] = ()) -> Iterator[Row]:
    """Yield every field of a section that tells two machines apart, with the field's name for a label."""
    yield from _Walk(roots, _NOISE | frozenset(skip)).fields(about, section)


class _Walk(Struct, frozen=True):
    roots: Roots
    skip: frozenset[str]

    def fields(
        self, about: str, value: Struct, title: str = "", after: str = "", depth: int = 0
    ) -> Iterator[Row]:
        """Yield the fields of a struct, but for the one that is its title."""
        for field in value.__struct_fields__:
            if field not in self.skip and field != title and not field.endswith("_source"):
                label = f"{about}: {field.removesuffix('_bytes').replace('_', ' ')}"
                yield from self.leaves(label, getattr(value, field), field, after, depth)

    def leaves(self, about: str, value: Any, field: str, after: str, depth: int) -> Iterator[Row]:
        """Yield what a field holds: one row, or those of each thing in it. What is empty is not there."""
        if value is None or (not isinstance(value, (bool, int, float)) and not value):
            return
        inner = value if isinstance(value, (list, tuple)) else ()
        if depth < _DEPTH and isinstance(value, Struct):
            yield from self._thing(about, value, after, depth)
        elif depth < _DEPTH and isinstance(value, dict):
            for key, item in value.items():
                yield from self.leaves(f"{about} {key}", item, field, after, depth + 1)
        elif depth < _DEPTH and any(isinstance(item, Struct) for item in inner):
            for item in inner:
                yield from self.leaves(about, item, field, after, depth + 1)
        else:
            yield self._row(about, value, _said(value, field), "no" if value is True else "none", after)

    def _thing(self, about: str, value: Struct, after: str, depth: int) -> Iterator[Row]:
        """Yield one thing with a name: that it is there, and what is known of it."""
        title = _title(value)
        if title:
            about = f"{about.rpartition(': ')[0] or about}: {getattr(value, title)}"
            there = self._row(about, "there", "there", "missing", after)
            yield there
            after = there.key
        yield from self.fields(about, value, title, after, depth + 1)

    def _row(self, about: str, value: Any, shown: str, absent: str, after: str) -> Row:
        compared = value if isinstance(value, (bool, int, float)) else self.roots.plain(shown)
        key = self.roots.plain(about)
        paths = tuple(part for part in key.split(": ")[1:] if "/" in part)
        return Row(key, compared, shown, about, paths, "", absent, after)


def _title(value: Struct) -> str:
    return next((field for field in _TITLES if getattr(value, field, "") not in ("", 0)), "")


def _said(value: Any, field: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and field.endswith("_bytes"):
        return size(value)
    if isinstance(value, (list, tuple)):
        return listed(map(str, value))
    return str(value)
