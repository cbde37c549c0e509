"""The `.env` of a compose project, its `env_file`, and that of uv: quotes, comments, `$NAME`."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.facts import Variable
from cudadoctor.host import Host
from cudadoctor.launch.interpolation import Interpolation, Lookup
from cudadoctor.launch.texts import LaunchUnreadable, beside, whole

_LINE = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][\w.-]*)[ \t]*(?:([=:])[ \t]*|$)")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "$": "$"}


def assignments(text: str, path: str, outer: Lookup) -> Iterator[tuple[int, str, str]]:
    """Yield line, name and value. What a value refers to is looked up outside first, then in earlier lines.

    Raises LaunchUnreadable for a quote that is never closed, and for a line that assigns nothing.
    """
    held: dict[str, str] = {}

    def lookup(name: str) -> str | None:
        value = outer(name)
        return held.get(name) if value is None else value

    lines = text.split("\n")
    at = 0
    while at < len(lines):
        number, line = at + 1, lines[at]
        at += 1
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = _LINE.match(line)
        if match is None:
            raise LaunchUnreadable(f"{path}:{number}: this line assigns nothing")
        if match[2] is None:
            value = outer(match[1])
            if value is not None:
                held[match[1]] = value
                yield number, match[1], value
            continue
        value, at = _value(line[match.end() :], lines, at, path, number, lookup)
        held[match[1]] = value
        yield number, match[1], value


def nearby(host: Host, path: str) -> dict[str, Variable]:
    """Return what the `.env` beside a file assigns, if there is one; raises like `assignments`."""
    file = beside(path, ".env")
    if host.kind(file) != "file":
        return {}
    found = assignments(whole(host, file), file, host.environ.get)
    return {name: Variable(value, f"{file}:{line}") for line, name, value in found}


def _value(rest: str, lines: list[str], at: int, path: str, number: int, lookup: Lookup) -> tuple[str, int]:
    """Return a value, which in quotes may go over several lines, and the line to go on with."""
    quote = rest[:1]
    if quote not in ("'", '"'):
        return Interpolation(lookup, "\\$", path).put(re.split(r"(?:^|\s)#", rest)[0].strip(), number), at
    while (end := _closing(rest, quote)) < 0:
        if at >= len(lines):
            raise LaunchUnreadable(f"{path}:{number}: the quote {quote} is never closed")
        rest += "\n" + lines[at]
        at += 1
    inner = rest[1:end]
    if quote == "'":
        return inner, at
    put = Interpolation(lookup, "\\$", path).put(inner, number)
    return re.sub(r'\\([nrt"\\$])', lambda match: _ESCAPES[match[1]], put), at


def _closing(text: str, quote: str) -> int:
    at = 1
    while at < len(text):
        if text[at] == "\\" and quote == '"':
            at += 1
        elif text[at] == quote:
            return at
        at += 1
    return -1
