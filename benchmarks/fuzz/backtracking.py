"""Texts that keep a backtracking expression busy: what leads to a repetition, a long run, and no end."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import Struct

if sys.version_info >= (3, 11):
    from re import _constants as constants
    from re import _parser as parser
else:
    import sre_constants as constants
    import sre_parse as parser

LIMIT_S = 0.1
_MOST_RUNS = 4  #: different characters that a run is made of
_CATEGORIES = {
    constants.CATEGORY_DIGIT: "0", constants.CATEGORY_NOT_DIGIT: "a", constants.CATEGORY_SPACE: " ",
    constants.CATEGORY_NOT_SPACE: "a", constants.CATEGORY_WORD: "a", constants.CATEGORY_NOT_WORD: "-",
}  # fmt: skip


class Slow(Struct, frozen=True):
    """One text that takes an expression too long."""

    seconds: float
    size: int
    start: str  #: what stands before the run
    run: str  #: what is repeated
    end: str


def texts(pattern: str, flags: int = 0) -> Iterator[tuple[str, str, str]]:
    """Yield for each repetition of a pattern what stands before, is repeated in, and stands behind a run."""
    for before, runs, behind in _repeats(parser.parse(pattern, flags), ""):
        for run in dict.fromkeys(filter(None, runs)):
            for end in dict.fromkeys(("", "\n", behind)):
                yield before, run, end
                if before:
                    yield "", before + run, end


def worst(found: re.Pattern[str], size: int, limit_s: float = LIMIT_S) -> Slow | None:
    """Return the shortest text, of at most `size` characters, that keeps an expression busy for too long.

    Texts grow, so that one which would take for ever is noticed while it is short.
    """
    slowest: Slow | None = None
    for before, run, end in dict.fromkeys(texts(found.pattern, found.flags & ~re.UNICODE)):
        for length in _lengths(slowest.size if slowest else size):
            text = before + run * max(1, (length - len(before)) // len(run)) + end
            started = time.process_time()
            found.search(text)
            seconds = time.process_time() - started
            if seconds > limit_s:
                slowest = Slow(seconds, length, before, run, end)
                break
    return slowest


def _lengths(size: int) -> Iterator[int]:
    """Yield lengths up to `size`, at first in small steps: a character more may take twice the time."""
    length = 16
    while length < size:
        yield length
        length = length * 5 // 4 if length < 64 else length * 2
    yield size


def _repeats(items: Any, before: str) -> Iterator[tuple[str, list[str], str]]:
    """Yield for each long repetition: a text that leads to it, what it repeats, a text that follows."""
    rest = list(items)
    for index, (kind, value) in enumerate(rest):
        here = before + "".join(_shortest(item) for item in rest[:index])
        behind = "".join(_shortest(item) for item in rest[index + 1 :])
        if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT, *_POSSESSIVE):
            _, most, inside = value
            if most >= 10:
                yield here, _samples(inside), behind[:-1]
            yield from _repeats(inside, here)
        for each in _inside(kind, value):
            yield from _repeats(each, here)


_POSSESSIVE = tuple(filter(None, (getattr(constants, "POSSESSIVE_REPEAT", None),)))
_ATOMIC = getattr(constants, "ATOMIC_GROUP", None)


def _inside(kind: Any, value: Any) -> Sequence[Any]:
    """Return the patterns within one item that is no repetition."""
    if kind is constants.SUBPATTERN:
        return [value[-1]]
    if kind is constants.BRANCH:
        return list(value[1])
    if kind in (constants.ASSERT, constants.ASSERT_NOT):
        return [value[1]]
    if kind is constants.GROUPREF_EXISTS:
        return [each for each in value[1:] if each is not None]
    return [value] if _ATOMIC is not None and kind is _ATOMIC else []


def _samples(items: Any) -> list[str]:
    """Return some texts that a pattern fits, each made of other characters."""
    parsed = list(items)
    if len(parsed) == 1 and parsed[0][0] is constants.BRANCH:
        return ["".join(map(_shortest, each)) for each in parsed[0][1][1]][:_MOST_RUNS]
    if len(parsed) == 1 and parsed[0][0] is constants.IN:
        return _characters(parsed[0][1])[:_MOST_RUNS]
    if len(parsed) == 1 and parsed[0][0] is constants.SUBPATTERN:
        return _samples(parsed[0][1][-1])
    if len(parsed) == 1 and parsed[0][0] in (constants.ANY, constants.NOT_LITERAL):
        return ["a", " ", "0", "/"]
    text = "".join(map(_shortest, parsed))
    return [text] if text else [each for item in parsed for each in _deeper(item)][:_MOST_RUNS]


def _deeper(item: tuple[Any, Any]) -> list[str]:
    """Return what an item that may be empty fits when it is not."""
    kind, value = item
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT, *_POSSESSIVE):
        return _samples(value[2])
    return [text for each in _inside(kind, value) for text in _samples(each)]


def _characters(members: Any) -> list[str]:
    """Return some characters of a class."""
    members = list(members)
    if members[0][0] is constants.NEGATE:
        return [each for each in "a 0/:-.([\\" if not any(_has(member, each) for member in members[1:])] or [
            "\u00e9"
        ]
    return list(dict.fromkeys(map(_member, members)))


def _member(member: tuple[Any, Any]) -> str:
    kind, value = member
    if kind is constants.RANGE:
        return chr(value[0])
    if kind is constants.CATEGORY:
        return _CATEGORIES.get(value, "a")
    return chr(value) if kind is constants.LITERAL else "a"


def _has(member: tuple[Any, Any], character: str) -> bool:
    kind, value = member
    if kind is constants.RANGE:
        return bool(value[0] <= ord(character) <= value[1])
    if kind is constants.CATEGORY:
        expression = {
            constants.CATEGORY_DIGIT: r"\d", constants.CATEGORY_SPACE: r"\s", constants.CATEGORY_WORD: r"\w",
            constants.CATEGORY_NOT_DIGIT: r"\D", constants.CATEGORY_NOT_SPACE: r"\S",
            constants.CATEGORY_NOT_WORD: r"\W",
        }[value]  # fmt: skip
        return re.fullmatch(expression, character) is not None
    return kind is constants.LITERAL and chr(value) == character


def _shortest(item: tuple[Any, Any]) -> str:
    """Return a short text that an item fits."""
    kind, value = item
    if kind is constants.LITERAL:
        return chr(value)
    if kind in (constants.NOT_LITERAL, constants.ANY):
        return "a" if kind is constants.ANY or value != ord("a") else "b"
    if kind is constants.IN:
        return _characters(value)[0]
    if kind in (constants.MAX_REPEAT, constants.MIN_REPEAT, *_POSSESSIVE):
        return "".join(map(_shortest, value[2])) * min(int(value[0]), 50)
    if kind is constants.BRANCH:
        return "".join(map(_shortest, value[1][0]))
    if kind in (constants.ASSERT, constants.ASSERT_NOT, constants.AT):
        return ""
    return "".join(text for each in _inside(kind, value)[:1] for text in map(_shortest, each))
