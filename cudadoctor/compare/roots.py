"""The places that differ between two equal machines: the environment, the home folder, toolkits.

A path is compared as it stands below such a place: `{env}/bin/ninja`, `{cuda #1}/lib64`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from cudadoctor.facts import Facts, Machine, Target, Toolkit, Toolkits
from cudadoctor.versions import series

#: Folders that everybody shares: what is in them is called by its whole path.
_SHARED = frozenset(("", "/", "/usr", "/usr/local", "/opt", "/home", "/mnt", "/srv", "/tmp", "/var"))
_MOST = 100  #: toolkits, and folders of packages, that any machine has; a report may claim more
_START = r"(?:(?<![\w.{}~-])|(?<=-[LI]))"
_END = r"(?![\w-]|\.\w)"
_TOKEN = re.compile(r"\{[a-z]+(?: #\d+)?\}")
_HOME = re.compile(r"/(?:home|Users)/[^/]+|/root")
#: What stands for a masked name, [host-1] or [ipv6:1]: another report may have another number for it.
_NUMBERED = re.compile(r"\[([a-z]+|ipv6)[-:]\d+\]")
_SCRIPTED = re.compile(r"(?<=cpython-)3\d+(?=-)")  #: of an extension's name, as in _C.cpython-312-x86_64


def places(first: Facts, second: Facts) -> tuple[Roots, Roots]:
    """Return the places of two looks, with those toolkits that both have."""
    one, other = _toolkits(first), _toolkits(second)
    pairs: list[tuple[Toolkit, Toolkit]] = []
    for alike in (_place, _release):
        left: dict[object, list[Toolkit]] = {}
        for toolkit in reversed(other):
            left.setdefault(alike(toolkit), []).append(toolkit)
        pairs += [(each, found.pop()) for each in one if (found := left.get(alike(each)))]
        taken = {id(toolkit) for pair in pairs for toolkit in pair}
        one, other = ([each for each in side if id(each) not in taken] for side in (one, other))
    return Roots(first, [pair[0] for pair in pairs]), Roots(second, [pair[1] for pair in pairs])


def _toolkits(facts: Facts) -> list[Toolkit]:
    """Return the toolkits outside of the environment."""
    if not isinstance(facts.toolkits, Toolkits):
        return []
    inside = f"{facts.target.prefix}/" if isinstance(facts.target, Target) else "//"
    found = facts.toolkits.toolkits[:_MOST]
    return [each for each in found if not f"{each.root}/".startswith(inside)]


def _place(toolkit: Toolkit) -> object:
    return toolkit.root


def _release(toolkit: Toolkit) -> object:
    return toolkit.layout, series(toolkit.version)


class Roots:
    """The places of one look, and what they are called in both."""

    def __init__(self, facts: Facts, toolkits: Sequence[Toolkit] = ()) -> None:
        self._tokens = _tokens(facts, toolkits)
        self._places = {token: path for path, token in reversed(self._tokens.items())}
        self._known: dict[str, str] = {}
        #: What the environment is called: the last part of its path.
        self.name = (
            facts.target.prefix.rstrip("/").rpartition("/")[2] if isinstance(facts.target, Target) else ""
        )
        longest = sorted(self._tokens, key=len, reverse=True)
        alternatives = "|".join(map(re.escape, longest))
        self._pattern = re.compile(f"{_START}(?:{alternatives}){_END}") if longest else None

    def plain(self, text: str) -> str:
        """Return a text in which the places are called by what they are."""
        if "[" in text:
            text = _NUMBERED.sub(r"[\1]", text)
        if "/" not in text:
            return text
        known = self._known.get(text)
        if known is None:
            known = self._pattern.sub(lambda m: self._tokens[m[0]], text) if self._pattern else text
            known = self._known[text] = _SCRIPTED.sub("3", known)
        return known

    def here(self, plain: str) -> str | None:
        """Return a plain text with the places of this look in it; None where one of them is not there."""
        if any(token not in self._places for token in _TOKEN.findall(plain)):
            return None
        return _TOKEN.sub(lambda match: self._places[match[0]], plain)


def _tokens(facts: Facts, toolkits: Sequence[Toolkit]) -> dict[str, str]:
    """Return the places by path; where two are one, the first name counts."""
    found: dict[str, str] = {}
    for path, token in _all(facts, toolkits):
        path = path.rstrip("/")
        if path.startswith("/") and path not in _SHARED:
            found.setdefault(path, token)
    return found


def _all(facts: Facts, toolkits: Sequence[Toolkit]) -> Iterator[tuple[str, str]]:
    target = facts.target
    if isinstance(target, Target):
        yield target.prefix, "{env}"
        for number, folder in enumerate(target.site_packages[:_MOST], 1):
            if folder.startswith((f"{target.prefix}/", f"{target.base_prefix}/")):
                yield folder, "{site}" if number == 1 else f"{{site #{number}}}"
        yield target.include, "{include}"
        yield target.base_prefix, "{python}"
    yield home(facts), "{home}"
    for number, toolkit in enumerate(toolkits, 1):
        for path in (toolkit.root, toolkit.real, *toolkit.spellings[:_MOST]):
            yield path, f"{{cuda #{number}}}"


def home(facts: Facts) -> str:
    """Return the home folder of who looked, as the machine says or as the environment's path tells."""
    if isinstance(facts.machine, Machine):
        return facts.machine.home
    match = _HOME.match(facts.target.prefix) if isinstance(facts.target, Target) else None
    return match[0] if match else ""
