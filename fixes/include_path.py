"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def include_path(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Adds folders of CUDA headers to CPATH, or takes those of another release out of it.

    ## What it does
    The environment's activation files change the list in `CPATH`, which compilers search for headers. Folders
    that are added come behind what the variable holds; those of another CUDA release, and empty entries, are
    taken out. Everything else in it stays.

    ## Why it is safe
    A variable changes no file of anybody's package. A folder that is added is of the same CUDA release as the
    toolkit in use, so that it adds headers and replaces none by others.

    ## How it is undone
    The activation files get their former content back.
    """
    for name in values.only(remedy, ["CPATH"]):
        yield values.folders(remedy, name, facts)
