"""See the fix's own page."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, MakeLink, Safety
from cudadoctor.declare import fix
from cudadoctor.facts import Facts, Libraries, Toolkits
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def toolkit_links(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Makes one relative link in a toolkit, so that builds find its libraries where they look.

    ## What it does
    `lib64 -> lib` in a conda environment, `lib64/libcudart.so -> ../lib/libcudart.so.13` beside pip's CUDA
    packages. The link is made where nothing stands, in the place that a path really leads to.

    ## Why it is safe
    No file is changed, and nothing that was found before is found elsewhere. A relative link survives a move
    of the environment.

    ## How it is undone
    The link is removed, and the folders that were made for it.
    """
    path, text = values.path(remedy, "path"), values.relative(remedy, "text")
    if not _is_in_a_toolkit(path, facts):
        raise ValueError(f"{remedy.fix}: {path!r} is in no toolkit that was looked at")
    if not _was_seen(posixpath.normpath(f"{posixpath.dirname(path)}/{text}"), facts):
        raise ValueError(f"{remedy.fix}: {path!r} -> {text!r} leads to nothing that was seen")
    yield MakeLink(path, text)


def _is_in_a_toolkit(path: str, facts: Facts) -> bool:
    """Return whether a path is below the root of a toolkit, by any spelling, and no root itself."""
    if not isinstance(facts.toolkits, Toolkits) or posixpath.normpath(path) != path:
        return False
    roots = (root for t in facts.toolkits.toolkits for root in (t.root, t.real, *t.spellings))
    return any(path.startswith(f"{root.rstrip('/')}/") for root in roots)


def _was_seen(path: str, facts: Facts) -> bool:
    """Return whether this is a folder of libraries, or a library in one, by name or by its real place."""
    if not isinstance(facts.libraries, Libraries):
        return False
    folder, name = posixpath.split(path)
    for spelling, directory in facts.libraries.directories.items():
        places = (spelling, directory.real)
        if directory.exists and (path in places or (folder in places and name in directory.files)):
            return True
    return False
