"""The branches of a shell script: what is known behind them, and which are taken."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from cudadoctor.facts import Variable
from cudadoctor.launch.draft import Draft
from cudadoctor.launch.expansion import Scope, Value
from cudadoctor.launch.shell import Step, Token
from cudadoctor.launch.texts import Word

_INTEGER = re.compile(r"-?[0-9]{1,15}")
_GLOB = frozenset("*?[\\")
_ONE: dict[str, bool] = {"-n": True, "-z": False}


class State(Struct):
    """What a script has set so far. `ended`: the commands that follow are not run."""

    values: dict[str, Value]
    arrays: dict[str, list[Word]]
    exported: set[str]
    gone: set[str]
    variables: dict[str, Variable]
    unset: dict[str, None]
    doubtful: dict[str, str]
    folder: str
    activated: str
    exports_all: bool
    ended: bool


class Frame(Struct):
    """A block that is open: of `if`, a loop, `case`, brackets, or the whole text."""

    kind: str
    base: State | None = None  #: where a branch that is not taken goes on
    ends: list[State] = []
    whole: bool = False  #: one of its branches is taken in any case
    decided: bool | None = None  #: whether the branch at hand is taken
    taken: bool = False  #: a branch before was taken for certain
    unsure: bool = False  #: which branch is taken is not known
    negated: bool = False
    waits: bool = False  #: of `case`: a pattern comes
    subject: Value | None = None
    matched: bool | None = False  #: of `case`: whether one of the patterns so far fits
    joined: str = ""  #: the last `&&` or `||` of the list that is being run
    left: list[State] = []  #: where the list may have been left
    skipped: State | None = None  #: the state in front of a command that is not run


def snapshot(scope: Scope, draft: Draft, exports_all: bool, ended: bool) -> State:
    """Return the state as it is, to be gone back to."""
    return State(
        dict(scope.values), {name: list(words) for name, words in scope.arrays.items()},
        set(scope.exported), set(scope.gone), dict(draft.variables), dict(draft.unset),
        dict(draft.doubtful), draft.folder, draft.activated, exports_all, ended,
    )  # fmt: skip


def restore(state: State, scope: Scope, draft: Draft) -> tuple[bool, bool]:
    """Go back to a state; return its `exports_all` and `ended`."""
    scope.values, scope.exported, scope.gone = dict(state.values), set(state.exported), set(state.gone)
    scope.arrays = {name: list(words) for name, words in state.arrays.items()}
    draft.variables, draft.unset = dict(state.variables), dict(state.unset)
    draft.doubtful, draft.folder, draft.activated = dict(state.doubtful), state.folder, state.activated
    return state.exports_all, state.ended


def merged(states: Sequence[State], line: int) -> State:
    """Return what is known where several ways meet: what they agree in. Those that have ended do not come."""
    live = [state for state in states if not state.ended]
    if len(live) < 2:
        return live[0] if live else states[-1]
    found = live[0]
    for other in live[1:]:
        found = _both(found, other, line)
    return found


def _both(one: State, two: State, line: int) -> State:
    values, arrays = dict[str, Value](), dict[str, list[Word]]()
    for name in {**one.values, **one.arrays, **two.values, **two.arrays}:
        reason = f"{name} is set in a branch, at line {_line(name, one, two) or line}"
        if name in one.arrays or name in two.arrays:
            arrays[name] = _common(_elements(name, one), _elements(name, two), name, reason)
            continue
        left, right = one.values.get(name), two.values.get(name)
        values[name] = _agreed(name, left, right, reason)
    doubtful = {**two.doubtful, **one.doubtful}
    variables = dict[str, Variable]()
    for name in {**one.variables, **two.variables}:
        left_set, right_set = one.variables.get(name), two.variables.get(name)
        if left_set is not None and right_set is not None and left_set.value == right_set.value:
            variables[name] = left_set
        elif name not in doubtful:
            origin = (right_set or left_set or Variable("", "")).origin
            doubtful[name] = f"{name} is set in a branch, at line {origin.rpartition(':')[2] or line}"
    return State(
        values, arrays, one.exported | two.exported, one.gone & two.gone,
        {name: held for name, held in variables.items() if name not in doubtful},
        {name: None for name in one.unset if name in two.unset}, doubtful,
        one.folder if one.folder == two.folder else "",
        one.activated if one.activated == two.activated else "",
        one.exports_all and two.exports_all, False,
    )  # fmt: skip


def _line(name: str, one: State, two: State) -> str:
    """Return the line at which a branch sets a variable: of two the one that is not the same in both."""
    left, right = one.values.get(name), two.values.get(name)
    for held, other in ((left, right), (right, left)):
        if held is not None and (other is None or held.origin != other.origin):
            return held.origin.rpartition(":")[2]
    words = [*one.arrays.get(name, ()), *two.arrays.get(name, ())]
    origins = {word.origin for word in one.arrays.get(name, ())} ^ {
        word.origin for word in two.arrays.get(name, ())
    }
    return next((word.origin.rpartition(":")[2] for word in words if word.origin in origins), "")


def _elements(name: str, state: State) -> list[Word]:
    if name in state.arrays:
        return state.arrays[name]
    held = state.values.get(name)
    return [Word(held.text, held.origin, held.reason, prefix=held.prefix)] if held is not None else []


def _common(one: list[Word], two: list[Word], name: str, reason: str) -> list[Word]:
    """Return the elements that two arrays begin with, and one for all that is not known behind them."""
    at = 0
    while at < min(len(one), len(two)) and _same(one[at], two[at]):
        at += 1
    rest = (*one[at:], *two[at:])
    return [*one[:at], Word(f"${{{name}[@]}}", rest[0].origin, reason, many=True)] if rest else one


def _same(one: Word | Value, two: Word | Value) -> bool:
    return (one.text, one.reason) == (two.text, two.reason)


def _agreed(name: str, one: Value | None, two: Value | None, reason: str) -> Value:
    if one is not None and two is not None and _same(one, two):
        return one
    known = [held.prefix if held.reason else held.text for held in (one, two) if held is not None]
    prefix = _begin(*known) if len(known) == 2 else ""
    held = two or one
    assert held is not None
    return Value(f"${name}", held.origin, reason, prefix)


def _begin(one: str, two: str) -> str:
    """Return the text that two texts begin with, with a blank behind it where a word ends there in both."""
    at = 0
    while at < min(len(one), len(two)) and one[at] == two[at]:
        at += 1
    ends = all(at == len(text) or text[at].isspace() for text in (one, two))
    return one[:at] + (" " if ends and at else "")


# --- conditions ---------------------------------------------------------------------------------------------


def holds(scope: Scope, step: Step, tokens: list[Token]) -> bool | None:
    """Return how `test`, `[` and `[[` end where all that they look at is known, else None."""
    name, *rest = tokens
    ends = {"[": "]", "[[": "]]"}.get(name.plain(), "")
    if step.redirected or (ends and (not rest or rest[-1].plain() != ends)):
        return None
    rest = rest[:-1] if ends else rest
    unset, scope.empty = scope.empty, {}  # to ask for a variable is not to use it
    try:
        if ends == "]]":
            words = [Word(value.text, value.origin, value.reason) for value in map(scope.one, rest)]
            pattern = len(rest) > 2 and any(
                part.kind == "text" and not part.quoted and _GLOB & set(part.text) for part in rest[-1].parts
            )
            if pattern or (len(rest) > 2 and any(p.kind != "text" and not p.quoted for p in rest[-1].parts)):
                return None  # what stands there is a pattern
        else:
            words = [word for token in rest for word in scope.words(token)]
    finally:
        scope.empty = unset
    return None if any(word.reason for word in words) else _tested([word.text for word in words])


def _tested(words: list[str]) -> bool | None:
    if words[:1] == ["!"] and len(words) > 1:
        inner = _tested(words[1:])
        return None if inner is None else not inner
    if len(words) < 2:
        return bool(words and words[0])
    if len(words) == 2:
        wanted = _ONE.get(words[0])
        return None if wanted is None else bool(words[1]) is wanted
    if len(words) != 3:
        return None
    left, sign, right = words
    if sign in ("=", "==", "!="):
        return (left == right) is (sign != "!=")
    if not (_INTEGER.fullmatch(left) and _INTEGER.fullmatch(right)):
        return None
    difference = int(left) - int(right)
    signs = {"-eq": difference == 0, "-ne": difference != 0, "-gt": difference > 0, "-lt": difference < 0,
             "-ge": difference >= 0, "-le": difference <= 0}  # fmt: skip
    return signs.get(sign)


def fits(subject: Value, pattern: str) -> bool | None:
    """Return whether a word of `case` fits a pattern, None where that is not known."""
    if pattern == "*":
        return True
    if subject.reason or _GLOB & set(pattern):
        return None
    return subject.text == pattern
