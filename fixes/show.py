"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.actions import Action, Safety, Show
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.MANUAL)
def show(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Shows what only the user can do, as a command for this machine or as the thing to get.

    ## What it does
    Nothing but print it: a package of the system, a project file that another program owns, a compiler, or
    PATH itself.

    ## Why it is safe
    Nothing is changed. Commands that need an administrator are never run.

    ## How it is undone
    There is nothing to undo.
    """
    if not remedy.summary.strip():
        raise ValueError(f"{remedy.fix}: it says nothing")
    yield Show(remedy.summary)
