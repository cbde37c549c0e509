"""Rows and logs for tests of the scanner."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cudadoctor.explain import Explanation, Kind, Signature
from cudadoctor.explain.cause import explain
from cudadoctor.explain.scan import Found, scan
from cudadoctor.explain.signatures import Row, compiled


def row(name: str, find: str | tuple[str, ...], kind: Kind = Kind.CAUSE, **more: Any) -> Signature:
    strings = (find,) if isinstance(find, str) else find
    cause = "" if kind in (Kind.SIGN, Kind.CONSEQUENCE) else more.pop("cause", name)
    return Signature(name, kind, strings, title=more.pop("title", name), cause=cause, **more)


LINK = row("link", "cannot find -lcudart")
NINJA = row("ninja", "ninja: build stopped", Kind.CONSEQUENCE)
KILLED = row("killed", "Killed", match="^Killed$")
ROWS = compiled((LINK, NINJA, KILLED))


def found(log: bytes | Iterable[bytes], rows: tuple[Row, ...] = ROWS) -> Found:
    return scan(rows, [log] if isinstance(log, bytes) else log)


def told(log: str, *signatures: Signature) -> Explanation:
    return explain(found(log.encode(), compiled(signatures) if signatures else ROWS), "log")
