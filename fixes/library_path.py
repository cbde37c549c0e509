"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def library_path(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Adds folders to LIBRARY_PATH, or takes entries out of it or out of LD_LIBRARY_PATH.

    ## What it does
    The environment's activation files change the list. `LIBRARY_PATH`, which the compiler hands to the
    linker, gets the folders that hold the link names behind what it has. From `LIBRARY_PATH` and
    `LD_LIBRARY_PATH` empty entries, stub folders that do harm, and folders of forward-compatibility libraries
    that cannot work here are taken out. Nothing is ever added to `LD_LIBRARY_PATH`: it has no effect on a
    link, and leads every program to other libraries.

    ## Why it is safe
    A variable changes no file of anybody's package. The linker searches `LIBRARY_PATH` after the folders that
    a link line names, so that a library that was found there is found there still.

    ## How it is undone
    The activation files get their former content back.
    """
    for name in values.only(remedy, ["LIBRARY_PATH", "LD_LIBRARY_PATH"]):
        export = values.folders(remedy, name, facts)
        if export.add and name == "LD_LIBRARY_PATH":
            raise ValueError(f"{remedy.fix}: nothing is ever added to {name}, as {export.add[0]!r} would be")
        yield export
