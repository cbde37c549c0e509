"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, MoveAside, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Caches, Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def stale_lock(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Moves aside the lock of a build that was killed.

    ## What it does
    The file called `lock` in the folder of a torch extension gets another name. The next load of the
    extension takes the lock, builds what is missing and goes on.

    ## Why it is safe
    It touches only locks of which it is sure that no process has them open: on a file system of this machine
    alone, with every process of the file's owner looked into. The file itself is empty.

    ## How it is undone
    The file gets its name back, and whoever loads the extension then waits again.
    """
    caches = facts.caches
    if not isinstance(caches, Caches):
        raise ValueError(f"{remedy.fix}: the locks are not known ({caches.reason})")
    stale = [lock.path for lock in caches.locks if lock.kind == "baton" and lock.held is False]
    for path in values.only(remedy, stale) if remedy.values else stale:
        yield MoveAside(path)
