"""See the fix's own page."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, MakeLink, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts, Toolkits
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def toolkit_headers(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Makes one relative link, so that the host compiler finds a conda toolkit's headers.

    ## What it does
    `include -> targets/x86_64-linux/include` at the root of a toolkit that has no folder `include` of its
    own: nvcc knows the folder below `targets`, the host compiler is told `$CUDA_HOME/include` alone. Where
    there is an `include`, as in every environment with a Python, `CPATH` is the cure.

    ## Why it is safe
    No file is changed, and the link is made where nothing stands. It leads to the headers that nvcc compiles
    with already, so that no header of another release comes in.

    ## How it is undone
    The link is removed.
    """
    path, text = values.path(remedy, "path"), values.relative(remedy, "text")
    root, name = posixpath.split(path)
    found = facts.toolkits.at(root) if isinstance(facts.toolkits, Toolkits) else None
    if found is None or name != "include" or f"{found.root}/{text}" not in found.include:
        raise ValueError(f"{remedy.fix}: {path!r} -> {text!r} leads to no headers that were looked at")
    yield MakeLink(path, text)
