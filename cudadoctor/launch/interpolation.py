"""`${NAME:-default}` as compose files, their env files and Dockerfiles have it."""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

from cudadoctor.launch.texts import LaunchUnreadable

Lookup = Callable[[str], "str | None"]
_NAME = re.compile(r"[A-Za-z_]\w*")
_DEEPEST = 20
_LONGEST = 1 << 16


class Missing(Struct, frozen=True):
    """A variable that is used and not set; `required`: what `${NAME:?said}` says about it."""

    name: str
    required: str | None = None


class Interpolation:
    """Puts values in place of variables; `escape`: what stands for a plain dollar sign: `$$` or `\\$`."""

    def __init__(self, lookup: Lookup, escape: str, source: str) -> None:
        self._lookup, self._escape, self._source = lookup, escape, source
        self.missing: list[Missing] = []

    def put(self, text: str, line: int, depth: int = 0) -> str:
        """Return the text with its variables replaced; raise LaunchUnreadable for an endless `${`."""
        if "$" not in text:
            return text
        if depth > _DEEPEST:
            raise LaunchUnreadable(f"{self._source}:{line}: variables are nested more than {_DEEPEST} deep")
        out, at, length = [], 0, 0
        while at < len(text):
            piece, at = self._piece(text, at, line, depth)
            out.append(piece)
            length += len(piece)
            if length > _LONGEST:
                raise LaunchUnreadable(f"{self._source}:{line}: a value longer than any command line")
        return "".join(out)

    def _piece(self, text: str, at: int, line: int, depth: int) -> tuple[str, int]:
        """Return what stands at a place, and where the next piece begins."""
        if text.startswith(self._escape, at):
            return "$", at + 2
        if text[at] != "$":
            end = re.compile(r"[^$\\]+|\\").match(text, at)
            assert end is not None
            return end[0], end.end()
        if text.startswith("${", at):
            end_at = self._closing(text, at + 2, line)
            return self._expression(text[at + 2 : end_at], line, depth), end_at + 1
        name = _NAME.match(text, at + 1)
        return (self._plain(name[0]), name.end()) if name else ("$", at + 1)

    def _closing(self, text: str, start: int, line: int) -> int:
        depth = 1
        for at in range(start, len(text)):
            depth += (text[at] == "{" and text[at - 1] == "$") - (text[at] == "}")
            if not depth:
                return at
        raise LaunchUnreadable(f"{self._source}:{line}: the ${{ is never closed")

    def _plain(self, name: str) -> str:
        value = self._lookup(name)
        if value is None:
            self.missing.append(Missing(name))
        return value or ""

    def _expression(self, text: str, line: int, depth: int) -> str:
        name = _NAME.match(text)
        if name is None:
            raise LaunchUnreadable(f"{self._source}:{line}: ${{{text}}} names no variable")
        rest = text[name.end() :]
        match = re.match(r":?[-?+]", rest)
        if match is None:
            return self._plain(name[0])
        value = self._lookup(name[0])
        usable = bool(value) or (value is not None and match[0][0] != ":")
        word = rest[match.end() :]
        if match[0].endswith("+"):
            return self.put(word, line, depth + 1) if usable else ""
        if usable:
            return value or ""
        if match[0].endswith("?"):
            self.missing.append(Missing(name[0], self.put(word, line, depth + 1)))
            return ""
        return self.put(word, line, depth + 1)
