"""What the installed distributions require of each other, and which of it does not hold.

The judges are `pip check` (26.3) and `uv pip check` (0.13). Where both speak of the same they agree, but for
corners; so does this. Where they differ (tried with both, November 2026):

- Extras: neither asks what `pkg[extra]` adds, only for `pkg`. So here.
- Requires-Python is looked at by uv alone, and there only the lowest version: it uses what older ones lack,
  while an upper bound is a guess of the day it was written. As uv.
- `===1.0` is the same text for pip, the same version for uv. Silent where they are one version.
- Two metadata folders of one project in one folder: uv reports just that and judges neither; pip takes the
  first as the folder lists it, which is chance. As uv; but of two folders on the path the first counts, as
  for pip and for Python, where uv calls that a duplicate too.
- PYTHONPATH, the user's own folder and .pth files are on pip's path and on Python's, not on uv's. As pip.
- `>=1.0.*` and the like, which PEP 440 forbids: uv mends it; pip drops the whole distribution and then calls
  it missing, which is false. As uv. What cannot be mended leaves the distribution unjudged by both, and here.
- A header folded in the middle of a requirement: uv unfolds it, pip calls it broken. As uv.
- requires.txt of an old egg-info, `extra == ""`, and platform_release or platform_version in a marker: one of
  them, or none, makes something of it. Silent.
- WHEEL tags are no requirements: another matter.

Python's own version may be known without its last number: then a requirement counts where it does for each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from cudadoctor.facts import Distribution, Machine, Packages, Target
from cudadoctor.latest import latest

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

Environment = dict[str, str]


class Want(Struct, frozen=True):
    """One requirement that counts in this environment."""

    holder: Distribution
    text: str  #: as its metadata has it, without the marker
    name: str  #: of the project that is required, normalised; "" for Python itself
    specifier: str = ""  #: ">=4.56.0,<5", or "" for any version, or a URL's


class Conflict(Struct, frozen=True):
    """One requirement that does not hold."""

    want: Want
    found: str  #: the version that is there; "" where nothing is
    there: Distribution | None = None

    @property
    def says(self) -> str:
        """Return it as a sentence: "vllm 0.12.0 requires transformers<5,>=4.56.0; 4.41.2 is installed"."""
        holder = self.want.holder
        ends = f"{self.found} is installed" if self.found else "it is not installed"
        if not self.want.name:
            ends = f"this is {self.found}"
        return f"{holder.name} {holder.version} requires {self.want.text}; {ends}"


class Cause(Struct, frozen=True):
    """Conflicts that one change clears, and the change as an installer takes it; () where there is none."""

    conflicts: tuple[Conflict, ...]
    change: tuple[str, ...] = ()
    #: Where no version suits all: the requirements on that project that exclude each other.
    against: tuple[Want, ...] = ()


class Requirements(Struct, frozen=True):
    """All that counts, and what cannot be read: (distribution, the requirement)."""

    wants: tuple[Want, ...]
    unreadable: tuple[tuple[Distribution, str], ...] = ()


def environments(target: Target, machine: Machine) -> tuple[Environment, ...]:
    """Return the target's marker variables; empty where not even the minor version is known.

    There are two where the last number is unknown: with the lowest, and with a high one.
    """
    version = target.version
    if not re.fullmatch(r"\d+\.\d+(\.\d+)?", version):
        return ()
    whole = [version] if version.count(".") == 2 else [f"{version}.0", f"{version}.99"]
    pypy = any("/pypy" in folder for folder in target.site_packages)
    return tuple(
        {
            "python_version": ".".join(full.split(".")[:2]),
            "python_full_version": full,
            "implementation_version": full,
            "implementation_name": "pypy" if pypy else "cpython",
            "platform_python_implementation": "PyPy" if pypy else "CPython",
            "platform_machine": machine.arch,
            "platform_system": machine.system,
            "sys_platform": machine.system.lower(),
            "os_name": "posix",
            "platform_release": "",
            "platform_version": "",
        }
        for full in whole
    )


# --- what counts --------------------------------------------------------------------------------------------


class _Seen(Struct, frozen=True):
    """The distributions that count, by name; of a `doubled` one it cannot be told which folder does."""

    first: dict[str, Distribution]
    doubled: frozenset[str]


def _seen(packages: Packages) -> _Seen:
    first: dict[str, Distribution] = {}
    doubled = set()
    for each in packages.distributions:
        if each.name.startswith("~"):
            continue
        other = first.setdefault(each.name, each)
        if other is not each and other.location == each.location:
            doubled.add(each.name)
    return _Seen(first, frozenset(doubled))


@latest
def read(packages: Packages, where: Sequence[Environment]) -> Requirements:
    """Return every requirement that counts in each of these environments."""
    wants: list[Want] = []
    unreadable = []
    seen, markers = _seen(packages), _Markers(where)
    for each in seen.first.values():
        if each.problem or each.name in seen.doubled:
            continue
        try:
            wants += _wants(each, markers)
        except _Unreadable as error:
            unreadable.append((each, str(error)))
        except RecursionError:
            unreadable.append((each, "parentheses without end"))
    return Requirements(tuple(wants), tuple(unreadable))


class _Unreadable(Exception):
    """A requirement that no installer can read."""


def _wants(each: Distribution, markers: _Markers) -> list[Want]:
    found = []
    if each.python:
        if len(each.python) > _LINE_LIMIT:
            raise _Unreadable(each.python)
        lowest = _lowest(_checked(each.python, f"Python {each.python}"))
        found += [Want(each, f"Python {each.python}", "", lowest)] if lowest else []
    for line in each.requires:
        want, marker = _taken_apart(each, line)
        if not marker or markers.hold(marker, line):
            found.append(want)
    return found


_LOWEST = re.compile(r"(>=|>|~=|===?)(.*)", re.DOTALL)


def _lowest(specifier: str) -> str:
    """Return the lower bounds in a specifier: ">=3.9" of ">=3.9,!=3.9.7,<4"."""
    matches = (_LOWEST.match(part.strip()) for part in specifier.split(","))
    bounds = (
        (">" if match[1] == ">" else ">=") + match[2].strip().removesuffix(".*") for match in matches if match
    )
    return ",".join(bounds)


_BLANKS = re.compile(r"\s+", re.ASCII)
#: A name, its extras, and all the rest: nothing that comes before can be read in two ways, for a form that
#: can takes squared or cubed time where it does not fit.
_FORM = re.compile(r"([A-Za-z0-9][\w.-]*) ?(?:\[[\w ,.-]*\] ?)?(.*)", re.ASCII | re.DOTALL)


_LINE_LIMIT = 1024  #: characters; no real requirement comes near it


def _taken_apart(each: Distribution, line: str) -> tuple[Want, str]:
    """Return the requirement and its marker."""
    if len(line) > _LINE_LIMIT:
        raise _Unreadable(line)
    plain = _BLANKS.sub(" ", line).strip(" ")
    match = _FORM.fullmatch(plain)
    if match is None or match[1][-1] in "._-":
        raise _Unreadable(line)
    if match[2].startswith("@"):
        specifier, marker = "", _marker_of_url(match[2][1:].strip(" "), line)
    else:
        specifier, _, marker = match[2].partition(";")
        specifier, marker = _checked(_bare(specifier.strip(" "), line), line), marker.strip(" ")
    text = plain.removesuffix(marker).rstrip("; ") if marker else plain
    return Want(each, text, _normalise(match[1]), specifier), marker


def _marker_of_url(rest: str, line: str) -> str:
    """Return the marker behind a URL, which a blank sets apart from it."""
    url, _, more = rest.partition(" ")
    if not url or (more and not more.startswith(";")):
        raise _Unreadable(line)
    return more[1:].strip(" ")


def _bare(specifier: str, line: str) -> str:
    """Return a specifier without the parentheses around it."""
    inner = specifier[1:-1] if specifier[:1] == "(" and specifier[-1:] == ")" else specifier
    if not _NO_SPECIFIER.isdisjoint(inner):
        raise _Unreadable(line)
    return inner


_NO_SPECIFIER = frozenset("();@")


_NAME = re.compile(r"\s*([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)", re.ASCII)


def named(line: str) -> str:
    """Return the project that a requirement names, normalised; "" where it names none."""
    match = _NAME.match(line)
    return _normalise(match[1]) if match else ""


def _normalise(name: str) -> str:
    plain = name.lower().replace("_", "-").replace(".", "-")
    while "--" in plain:
        plain = plain.replace("--", "-")
    return plain


# --- versions -----------------------------------------------------------------------------------------------
#
# Importing packaging costs as much as all else that a check does, so the common forms are compared here, and
# only to say "this surely holds". Whatever is left, every conflict among it, packaging decides.


class _Term(Struct, frozen=True):
    """One comparison with a version, of which only the numbers count and the kind of what follows them."""

    op: str
    release: tuple[int, ...]
    more: str  #: "", "*", "early" (a pre-release) or "late" (a post release)


_TERM = re.compile(
    r"\s*(>=|<=|!=|==|~=|<|>)\s*v?(\d+(?:\.\d+)*)"
    r"(\.\*|(?:\.?(?:a|b|rc)\d+)?(?:\.?post\d+)?(?:\.?dev\d+)?)\s*",
    re.ASCII,
)
_VERSION = re.compile(r"(\d+(?:\.\d+)*)(\.post\d+)?(?:\+[a-z0-9]+(?:[-_.][a-z0-9]+)*)?", re.ASCII)


@lru_cache(4096)
def _terms(specifier: str) -> tuple[_Term, ...] | None:
    """Return what a specifier compares with; None where it is not of the common form."""
    found = []
    for part in specifier.split(",") if specifier.strip() else ():
        match = _TERM.fullmatch(part)
        if match is None:
            return None
        op, numbers, more = match.groups()
        if (more == ".*" and op not in ("==", "!=")) or (op == "~=" and "." not in numbers):
            return None
        kind = "*" if more == ".*" else "late" if "post" in more else "early" if more else ""
        found.append(_Term(op, tuple(map(int, numbers.split("."))), kind))
    return tuple(found)


def _padded(numbers: tuple[int, ...], count: int) -> tuple[int, ...]:
    return numbers + (0,) * (count - len(numbers))


def _surely(term: _Term, numbers: tuple[int, ...], exact: bool) -> bool:
    """Return whether a version with these numbers, a post release where not `exact`, surely is accepted."""
    count = max(len(numbers), len(term.release))
    ours, theirs = _padded(numbers, count), _padded(term.release, count)
    prefix = ours[: len(term.release)] == term.release
    same, star = ours == theirs and not term.more, term.more == "*"
    match term.op:
        case ">=":
            return ours > theirs or (ours == theirs and term.more != "late")
        case "<=":
            return ours < theirs or (same and exact)
        case ">":
            return ours > theirs
        case "<":
            return ours < theirs
        case "!=":
            return not prefix if star else ours != theirs
        case "==":
            return prefix if star else same and exact
        case _:
            return (ours > theirs or same) and ours[: len(term.release) - 1] == term.release[:-1]


@lru_cache(4096)
def _accepts(specifier: str, version: str) -> bool:
    """Return whether a specifier accepts a version, pre-releases too; True where the version is none."""
    if specifier == f"=={version}" or len(version) > _LINE_LIMIT:
        return True
    terms, match = _terms(specifier), _VERSION.fullmatch(version)
    if terms is not None and match is not None:
        numbers = tuple(map(int, match[1].split(".")))
        if all(_surely(term, numbers, match[2] is None) for term in terms):
            return True
    from packaging.specifiers import SpecifierSet
    from packaging.version import InvalidVersion, Version

    try:
        there = Version(version)
        return all(
            each.contains(there, prereleases=True)
            or (each.operator == "===" and Version(each.version) == there)
            for each in SpecifierSet(specifier)
        )
    except InvalidVersion:
        return True


def _checked(specifier: str, line: str) -> str:
    """Return a specifier that can be read, mended where uv would mend it; raise _Unreadable."""
    if _terms(specifier) is not None:
        return specifier.strip()
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    for mend in (None, *_MENDS):
        if mend is not None:
            specifier = re.sub(mend[0], mend[1], specifier)
        try:
            SpecifierSet(specifier)
        except InvalidSpecifier:
            continue
        return specifier.strip()
    raise _Unreadable(line)


#: What uv makes of common mistakes (uv-pypi-types, lenient_requirement.rs, read 2026-11-21).
_MENDS = (
    (r"(\d)([<>=~^!])", r"\1,\2"),
    (r"!=~((?:\d\.)*\d)", r"!=\1.*"),
    (r"(<=|>=|<|>)\s*(\d+(?:\.\d+)*)\.\*", r"\1\2"),
    (r"(\d\.\d)+\*", r"\1.*"),
    (r"['\"]", ""),
)


# --- markers ------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"\s*(?:([()])|(and|or)\b|([a-z_]+)\s*(==|!=|<=|>=|<|>)\s*(?:\"([^\"]*)\"|'([^']*)'))\s*", re.ASCII
)
_NUMBERS = re.compile(r"\d+(?:\.\d+)*", re.ASCII)
_WORD = re.compile(r"(?![vV])[A-Za-z_][\w.-]*", re.ASCII)
_WORDS = frozenset((
    "implementation_name", "platform_python_implementation", "platform_machine", "platform_system",
    "sys_platform", "os_name",
))  # fmt: skip
#: Not known of the target, or evaluated by each tool in a way of its own.
_SILENT = re.compile(r"platform[_.](?:release|version)|extra\s*==\s*(?:''|\"\")|(?:''|\"\")\s*==\s*extra")


class _Markers:
    """Markers in some environments, each evaluated once."""

    def __init__(self, where: Sequence[Environment]) -> None:
        self._where = where
        self._known: dict[str, bool] = {}

    def hold(self, marker: str, line: str) -> bool:
        """Return whether a marker holds in every environment, no extra being asked for."""
        if marker not in self._known:
            self._known[marker] = not _SILENT.search(marker) and all(
                _evaluated(marker, each, line) for each in self._where
            )
        return self._known[marker]


def _evaluated(marker: str, environment: Environment, line: str) -> bool:
    quick = _quick(marker, environment)
    if quick is not None:
        return quick
    from packaging.markers import InvalidMarker, Marker, UndefinedComparison, UndefinedEnvironmentName

    try:
        return Marker(marker).evaluate({**environment, "extra": ""})
    except InvalidMarker:
        raise _Unreadable(line) from None
    except (UndefinedComparison, UndefinedEnvironmentName):
        return False


def _quick(marker: str, environment: Environment) -> bool | None:
    """Return what a marker of the common form says, or None for packaging to decide."""
    #: One list of alternatives a parenthesis that is open; an alternative holds what `and` joins.
    levels: list[list[list[bool | None]]] = [[[]]]
    position, wanted = 0, True
    while position < len(marker):
        match = _TOKEN.match(marker, position)
        if match is None:
            return None
        bracket, word, name, op, double, single = match.groups()
        position = match.end()
        if wanted != (bracket == "(" or name is not None):
            return None
        if bracket == "(":
            levels.append([[]])
            continue
        if bracket == ")":
            if len(levels) == 1:
                return None
            inner = _any(levels.pop())
            levels[-1][-1].append(inner)
        elif word == "or":
            levels[-1].append([])
        elif name is not None:
            levels[-1][-1].append(_compared(name, op, double or single or "", environment))
        wanted = word is not None
    return None if wanted or len(levels) > 1 else _any(levels[0])


def _any(alternatives: list[list[bool | None]]) -> bool | None:
    """Return the disjunction of conjunctions; None is what is not known."""
    values = [False if False in parts else None if None in parts else True for parts in alternatives]
    return True if True in values else None if None in values else False


def _compared(name: str, op: str, literal: str, environment: Environment) -> bool | None:
    if name == "extra":
        return False if op == "==" and literal else None
    if name in _WORDS and op in ("==", "!=") and _WORD.fullmatch(literal):
        return (environment[name] == literal) == (op == "==")
    if name not in ("python_version", "python_full_version") or not _NUMBERS.fullmatch(literal):
        return None
    count = max(environment[name].count("."), literal.count(".")) + 1
    ours, theirs = (_padded(tuple(map(int, text.split("."))), count) for text in (environment[name], literal))
    return {
        "==": ours == theirs,
        "!=": ours != theirs,
        "<": ours < theirs,
        "<=": ours <= theirs,
        ">": ours > theirs,
        ">=": ours >= theirs,
    }[op]


# --- what does not hold -------------------------------------------------------------------------------------


def conflicts(
    requirements: Requirements, packages: Packages, where: Sequence[Environment]
) -> tuple[Conflict, ...]:
    """Return the requirements that surely do not hold.

    Where a folder of the search path cannot be listed, nothing is called missing.
    """
    seen = _seen(packages)
    pythons = [environment["python_full_version"] for environment in where]
    told = pythons[0] if len(pythons) == 1 else ".".join(pythons[0].split(".")[:2]) if pythons else ""
    found = []
    for want in requirements.wants:
        if not want.name:
            if pythons and not any(_accepts(want.specifier, python) for python in pythons):
                found.append(Conflict(want, f"Python {told}"))
            continue
        there = seen.first.get(want.name)
        if there is None:
            found += [] if packages.unreadable else [Conflict(want, "")]
        elif want.name not in seen.doubled and there.version and not _holds(want, there):
            found.append(Conflict(want, there.version, there))
    return tuple(found)


def _holds(want: Want, there: Distribution) -> bool:
    return not want.specifier or _accepts(want.specifier, there.version)


# --- what would change it -----------------------------------------------------------------------------------


def causes(found: Sequence[Conflict], requirements: Requirements) -> tuple[Cause, ...]:
    """Return the conflicts by the change that clears them, the change that clears the most first.

    The change of one project is preferred: to a version that all who require it accept, as their specifiers
    say; which versions there are is not looked up, nor what the new one itself requires. Where those who
    object are to be changed themselves, all change together, or these alone where that is enough. torch stays
    as it is unless who serves models asks for another: the rest is built for it. Where no version suits,
    there is no change, nor where a project is asked for in more ways than can be weighed.
    """
    by_name: dict[str, list[Conflict]] = {}
    for conflict in found:
        by_name.setdefault(conflict.want.name, []).append(conflict)
    made = [Cause((conflict,)) for conflict in by_name.pop("", ())]
    wanted: dict[str, list[Want]] = {name: [] for name in by_name}
    for want in requirements.wants:
        if want.name in wanted:
            wanted[want.name].append(want)
    for name in [name for name, wants in wanted.items() if _is_too_much(wants)]:
        made.append(Cause(tuple(by_name[name])))
        del wanted[name]
    for name in [name for name in wanted if _is_centre(name, by_name[name])]:
        made.append(Cause(tuple(by_name[name]), _around(by_name[name])))
        del wanted[name]
    alone = {name: change for name, wants in wanted.items() if (change := _suits(name, wants))}
    joined: set[str] = set()
    for name, wants in wanted.items():
        if name in alone:
            continue
        others = sorted({w.holder.name for w in wants} & set(alone))
        kept = [w for w in wants if w.holder.name not in others]
        change = _suits(name, kept) if others else ""
        if change:
            joined.update(others)
            cleared = tuple(conflict for each in (name, *others) for conflict in by_name[each])
            there = by_name[name][0].there
            # With the others' old versions their objections go: what is there may suit the rest.
            stays = there is not None and all(_holds(want, there) for want in kept)
            made.append(Cause(cleared, (*(() if stays else (change,)), *(alone[each] for each in others))))
        else:
            made.append(Cause(tuple(by_name[name]), against=_against(wants)))
    made += [Cause(tuple(by_name[name]), (change,)) for name, change in alone.items() if name not in joined]
    return tuple(sorted(made, key=lambda cause: -len(cause.conflicts) if cause.change else 0))


#: What is built for a torch of its own choice, and chooses for all the others.
_SERVERS = frozenset(("vllm", "sglang"))


def _is_centre(name: str, objections: Sequence[Conflict]) -> bool:
    """Return whether a project is there, and those who object to its version are what has to change."""
    return (
        name == "torch"
        and objections[0].there is not None
        and not any(conflict.want.holder.name in _SERVERS for conflict in objections)
    )


def _around(objections: Sequence[Conflict]) -> tuple[str, ...]:
    """Return another version of all who object, and the project as it is."""
    others = {c.want.holder.name: c.want.holder.version for c in objections}
    first = objections[0]
    return (*(f"{name}!={version}" for name, version in others.items()), f"{first.want.name}=={first.found}")


#: Comparisons with one project's version, all requirements together, that are weighed against each other, in
#: squared time. vLLM 0.12.0 and the 170 distributions around it have 19 about the one most asked for.
_WEIGHED = 64


def _is_too_much(wants: Iterable[Want]) -> bool:
    return len({part.strip() for want in wants for part in want.specifier.split(",")}) > _WEIGHED


def _suits(name: str, wants: Iterable[Want]) -> str:
    """Return the requirement that suits all, as short as it can be said; "" where no version does."""
    specifiers = [want.specifier for want in wants if want.specifier]
    if not specifiers:
        return name
    from packaging.specifiers import SpecifierSet

    joined = SpecifierSet(",".join(specifiers))
    return f"{name}{_shortest(joined)}" if _is_possible(joined) else ""


def _is_possible(joined: SpecifierSet) -> bool:
    """Return whether some version is accepted: then one at or next to a bound is, or the very first."""
    candidates = ["0"]
    for specifier in joined:
        version = specifier.version.removesuffix(".*")
        public = version.partition("+")[0]
        candidates += [version, f"{public}.1", f"{public}.0.1", f"{public}.0.0.1", f"{public}.post1"]
        numbers = re.match(r"(?:\d+!)?[\d.]*\d", public)
        if numbers:
            head, _, last = numbers[0].rpartition(".")
            candidates += [f"{head}.{int(last) + 1}"] if head else []
    return any(_is_accepted(joined, candidate) for candidate in candidates)


def _is_accepted(joined: SpecifierSet, candidate: str) -> bool:
    from packaging.version import InvalidVersion

    try:
        return joined.contains(candidate, prereleases=True)
    except InvalidVersion:
        return False


def _shortest(joined: SpecifierSet) -> str:
    """Return the one version, or the highest lower bound, the lowest upper bound, and what else there is."""
    from packaging.version import Version

    exact = [s for s in joined if s.operator in ("==", "===") and not s.version.endswith(".*")]
    if exact:
        return f"=={max(exact, key=lambda s: len(s.version)).version}"
    bounds: dict[str, list[str]] = {}
    for specifier in sorted(joined, key=str):
        bounds.setdefault(specifier.operator, []).append(specifier.version)
    lower = [(Version(v), op == ">", f"{op}{v}") for op in (">=", ">") for v in bounds.get(op, ())]
    upper = [(Version(v), op == "<=", f"{op}{v}") for op in ("<=", "<") for v in bounds.get(op, ())]
    said = [max(lower)[2]] if lower else []
    said += [min(upper)[2]] if upper else []
    said += [f"{op}{v}" for op in ("~=", "==", "!=") for v in bounds.get(op, ())]
    return ",".join(said)


def _against(wants: Sequence[Want]) -> tuple[Want, ...]:
    """Return two requirements that exclude each other, or all where only more of them together do."""
    narrow = [want for want in wants if want.specifier]
    for index, one in enumerate(narrow):
        for other in narrow[index + 1 :]:
            if not _suits(one.name, (one, other)):
                return one, other
    return tuple(narrow)
