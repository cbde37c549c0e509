"""The numbers in a version, whoever wrote it: a damaged file may claim one of a million digits."""

from __future__ import annotations

import re
from itertools import islice

#: No part of a version has more digits, and no version more parts, that would tell two of them apart.
_DIGITS, _PARTS = 18, 16
_NUMBER = re.compile(r"\d+")


def numbers(text: str) -> tuple[int, ...]:
    """Return the numbers in order, without the local label: (2, 9, 0) for "2.9.0+cu128", () for "abc"."""
    found = islice(_NUMBER.finditer(text.partition("+")[0]), _PARTS)
    return tuple(int(match[0][:_DIGITS]) for match in found)


def series(text: str) -> str:
    """Return major and minor, "12.8" for "12.8.93"; as much of them as there is."""
    return ".".join(map(str, numbers(text)[:2]))
