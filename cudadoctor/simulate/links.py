"""What would make a missing library reachable: the smallest change first, each tried on the model."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

from msgspec import Struct, structs

from cudadoctor.facts import (
    Libraries,
    LinkDirectory,
    Toolkit,
    Toolkits,
)
from cudadoctor.simulate.choice import toolkit_to_use
from cudadoctor.simulate.lines import LinkLine, Scene, lines_with, resolve

_USABLE = ("shared", "archive", "script")


class Place(Struct, frozen=True):
    """A file of a library in some toolkit's folder: by its link name, or only by its soname."""

    folder: str
    name: str
    toolkit: Toolkit


def places(library: str, toolkits: Toolkits, libraries: Libraries) -> list[Place]:
    """Return where toolkits within reach hold `library`, link names first, then versioned files."""
    found: list[Place] = []
    seen: set[str] = set()
    for toolkit in toolkits.toolkits:
        for folder in (*toolkit.lib, *toolkit.stubs):
            directory = libraries.directories.get(folder)
            real = (directory.real if directory else "") or folder
            if real in seen:
                continue
            seen.add(real)
            for name, file in (directory.files if directory else {}).items():
                if file.kind in _USABLE and (
                    name == f"lib{library}.so" or name.startswith(f"lib{library}.so.")
                ):
                    found.append(Place(folder, name, toolkit))
    return sorted(found, key=lambda place: not place.name.endswith(".so"))


def better_home(line: LinkLine, name: str, scene: Scene) -> str:
    """Return a CUDA_HOME with which this line would find the library, or ""."""
    better = toolkit_to_use(scene.toolkits, scene.packages)
    if better is None or line.consumer == "triton" or better.root == line.root:
        return ""
    lines = lines_with(better.root, line.consumer, scene)
    return better.root if any(resolve(other, name, scene).ends == "found" for other in lines) else ""


class NewLink(Struct, frozen=True):
    """One relative link to make: `path` -> `text`."""

    path: str
    text: str

    @property
    def command(self) -> str:
        """Return the shell command that makes it."""
        folder = posixpath.dirname(self.path)
        make = (
            ""
            if "/" not in self.text or self.text.startswith("targets/")
            else f"mkdir -p {shlex.quote(folder)} && "
        )
        return f"{make}ln -s {shlex.quote(self.text)} {shlex.quote(self.path)}"


def new_link(line: LinkLine, library: str, scene: Scene) -> NewLink | None:
    """Return the one relative link inside the line's own toolkit that makes the library reachable.

    `lib64 -> lib` where lib has the link name (conda), `lib64/libX.so -> ../lib/libX.so.13` where only the
    versioned file is there (pip). None where a real file or folder is in the way, or nothing is to link to.
    """
    toolkit = scene.toolkits.at(line.root)
    if toolkit is None:
        return None
    lib64 = f"{line.root}/lib64"
    taken = scene.libraries.directories.get(lib64)
    free = taken is None or not taken.exists
    for place in places(library, scene.toolkits, scene.libraries):
        if place.toolkit != toolkit:
            continue
        under = posixpath.relpath(place.folder, line.root)
        base = under.removesuffix("/stubs")
        if free and place.name == f"lib{library}.so" and base != "lib64":
            return NewLink(lib64, base)
        tail = "/stubs" if under.endswith("/stubs") else ""
        if free or f"lib{library}.so" not in (taken.files if taken else {}):
            there = f"{lib64}{tail}/lib{library}.so"
            return NewLink(there, posixpath.relpath(f"{place.folder}/{place.name}", posixpath.dirname(there)))
    return None


def cured(line: LinkLine, name: str, link: NewLink, scene: Scene) -> bool:
    """Return whether the line finds the library once the link is there."""
    there = structs.replace(scene, libraries=staged(scene.libraries, link))
    return resolve(line, name, there).ends == "found"


def staged(libraries: Libraries, link: NewLink) -> Libraries:
    """Return the libraries as they would be seen with the link made."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(link.path), link.text))
    directories = dict(libraries.directories)
    for folder, seen in _seen_through(link.path, target, libraries):
        directories[folder] = seen
    return structs.replace(libraries, directories=directories)


def _seen_through(path: str, target: str, libraries: Libraries) -> Iterator[tuple[str, LinkDirectory]]:
    known = libraries.directories
    if target in known:
        for tail in ("", "/stubs"):
            if seen := known.get(f"{target}{tail}"):
                yield f"{path}{tail}", seen
        return
    folder, name = posixpath.split(path)
    source = known.get(posixpath.dirname(target))
    file = source.files.get(posixpath.basename(target)) if source else None
    if file is not None:
        before = known.get(folder)
        files = dict(before.files) if before and before.exists else {}
        files[name] = structs.replace(file, link=posixpath.relpath(target, folder), resolved=target)
        yield folder, LinkDirectory(True, files)
