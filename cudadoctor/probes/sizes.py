"""How much the files of a folder hold, within a time and a number of entries."""

from __future__ import annotations

import time
from collections.abc import Callable

from msgspec import Struct

from cudadoctor.host import Host


class Budget:
    """What may be spent on looking: seconds, and entries of folders. Several looks can share it."""

    def __init__(self, seconds: float, entries: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._until, self._entries, self._clock = clock() + seconds, entries, clock

    def take(self) -> bool:
        """Count one entry; return whether it may still be looked at."""
        self._entries -= 1
        return self._entries >= 0 and self._clock() < self._until


class Size(Struct, frozen=True):
    """The bytes that were counted; not `complete` where the budget ended before the folder did."""

    bytes: int
    complete: bool


def measure(host: Host, folder: str, budget: Budget) -> Size:
    """Return the sum of the sizes of the regular files below a folder; no link is followed.

    What cannot be listed counts for nothing. A file by several names is counted by each.
    """
    total, folders = 0, [folder]
    while folders:
        at = folders.pop()
        try:
            names = host.list(at)
        except OSError:
            continue
        for name in names:
            if not budget.take():
                return Size(total, False)
            path = f"{at}/{name}"
            kind = host.kind(path, follow=False)
            if kind == "directory":
                folders.append(path)
            elif kind == "file":
                total += _size(host, path)
    return Size(total, True)


def _size(host: Host, path: str) -> int:
    try:
        return host.size(path)
    except OSError:
        return 0
