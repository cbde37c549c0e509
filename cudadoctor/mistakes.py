"""What the user gave and cannot be used: one line on stderr, exit code 2."""

from __future__ import annotations

from collections.abc import Iterable


class UserMistake(Exception):
    """The line to print."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return ": did you mean ...?" with the closest known name, or ""."""
    import difflib

    close = difflib.get_close_matches(name.replace("_", "-"), list(known), 1, 0.5)
    return f": did you mean {close[0]!r}?" if close else ""
