"""See the fix's own page."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, RemoveLink, Safety, Show, TurnLink
from cudadoctor.declare import fix
from cudadoctor.facts import Facts, Libraries, LibraryFile
from cudadoctor.findings import Remedy

_BROKEN = ("dangling", "loop")
_WHOLE = ("shared", "script", "archive")


@fix(Safety.SAFE)
def cuda_links(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Leads broken links of CUDA libraries to where the libraries are, or removes them.

    ## What it does
    A link whose library is still in the toolkit gets a relative text that leads there. One whose library is
    nowhere, and one that is literally called `libcudart.so*`, is removed.

    ## Why it is safe
    Links that lead nowhere are all that is touched, and those called like a pattern: no program can have
    opened a library by them. A link that leads somewhere by now is left alone.

    ## How it is undone
    Each link gets its former text back.
    """
    if not isinstance(facts.libraries, Libraries):
        raise ValueError(f"{remedy.fix}: the libraries are not known ({facts.libraries.reason})")
    for link, target in values.only(remedy, remedy.values).items():
        folder, name = posixpath.split(values.absolute(link, remedy))
        file = _broken(folder, name, facts.libraries)
        if file is None:
            raise ValueError(f"{remedy.fix}: {link!r} is no broken link that was seen")
        place = f"{_real(folder, facts.libraries)}/{name}"
        if target:
            if not _is_whole(values.absolute(target, remedy), facts.libraries):
                raise ValueError(f"{remedy.fix}: {target!r} is no library that was seen")
            yield TurnLink(place, posixpath.relpath(target, posixpath.dirname(place)), file.link)
        elif file.link:
            yield RemoveLink(place, file.link)
        else:
            yield Show(f"rm {shlex.quote(place)}  # a file, no link: what a copy with a pattern left")


def _real(folder: str, libraries: Libraries) -> str:
    directory = libraries.directories.get(folder)
    return (directory.real if directory else "") or folder


def _is_whole(path: str, libraries: Libraries) -> bool:
    directory = libraries.directories.get(posixpath.dirname(path))
    file = directory.files.get(posixpath.basename(path)) if directory else None
    return file is not None and file.kind in _WHOLE


def _broken(folder: str, name: str, libraries: Libraries) -> LibraryFile | None:
    """Return what was seen there, where it is a link to nowhere or is called like a pattern."""
    directory = libraries.directories.get(folder)
    file = directory.files.get(name) if directory else None
    if file is None or not (name.endswith("*") or (file.kind in _BROKEN and file.link)):
        return None
    return file
