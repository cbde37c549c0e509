"""What would make a missing library reachable: the smallest change first, each tried on the model."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct, structs

from cudadoctor.facts import (
    Libraries,
    LinkDirectory,
    Toolkit,
    Variable,
)
from cudadoctor.simulate.choice import toolkit_to_use, usable
from cudadoctor.simulate.lines import LinkLine, Scene, lines_with, resolve
from cudadoctor.simulate.linker import expand

_USABLE = ("shared", "archive", "script")
_LDFLAGS = "FLASHINFER_EXTRA_LDFLAGS"


class Place(Struct, frozen=True):
    """A file of a library in some toolkit's folder: by its link name, or only by its soname."""

    folder: str
    name: str
    toolkit: Toolkit

    @property
    def is_link_name(self) -> bool:
        """Return whether `-lX` matches it, as it does no versioned file."""
        return self.name.endswith(".so")


def places(library: str, toolkits: Iterable[Toolkit], libraries: Libraries) -> list[Place]:
    """Return where these toolkits hold `library`, link names first, then versioned files."""
    found: list[Place] = []
    seen: set[str] = set()
    for toolkit in toolkits:
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
    return sorted(found, key=lambda place: not place.is_link_name)


# --- another CUDA_HOME --------------------------------------------------------------------------------------


def is_wrong_home(line: LinkLine, scene: Scene) -> bool:
    """Return whether the line was written with a CUDA_HOME that is no toolkit for this torch."""
    toolkit = scene.toolkits.at(line.root)
    return toolkit is None or not usable(toolkit, scene.toolkits, scene.packages)


def better_home(line: LinkLine, name: str, scene: Scene) -> str:
    """Return another CUDA_HOME with which this line would find the library, or ""."""
    better = toolkit_to_use(scene.toolkits, scene.packages)
    if better is None or line.consumer == "triton" or better == scene.toolkits.at(line.root):
        return ""
    lines = lines_with(better.root, line.consumer, scene)
    return better.root if any(resolve(other, name, scene).ends == "found" for other in lines) else ""


# --- one link -----------------------------------------------------------------------------------------------


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
    held = places(library, (toolkit,), scene.libraries)
    lib64 = scene.libraries.directories.get(f"{line.root}/lib64")
    if lib64 is None or not lib64.exists:
        if folder := _fullest(held, scene.libraries):
            inside = folder.startswith(f"{toolkit.root}/")
            way = (folder, toolkit.root) if inside else (_real(folder, scene.libraries), toolkit.real)
            return NewLink(f"{line.root}/lib64", posixpath.relpath(*way))
        # torch looks in lib only where there is no lib64: one with a single link would hide the others.
        if any(_link_names(folder, scene.libraries) for folder in toolkit.lib):
            return None
    links = (_link_to(place, line, toolkit, library, scene.libraries) for place in held)
    return next((link for link in links if link is not None), None)


def _fullest(held: list[Place], libraries: Libraries) -> str:
    """Return the folder that lib64 could be a link to: of those with the link name the one with most.

    Whichever library is asked about, the answer is the same link, as long as the fullest folder has it.
    """
    folders = [place.folder.removesuffix("/stubs") for place in held if place.is_link_name]
    return max(folders, key=lambda folder: _link_names(folder, libraries), default="")


def _link_names(folder: str, libraries: Libraries) -> int:
    """Return how many libraries a folder holds by their link names, its stubs counted in."""
    found = (libraries.directories.get(f"{folder}{tail}") for tail in ("", "/stubs"))
    files = [item for directory in found if directory for item in directory.files.items()]
    return sum(name.endswith(".so") and file.kind in _USABLE for name, file in files)


def _link_to(
    place: Place, line: LinkLine, toolkit: Toolkit, library: str, libraries: Libraries
) -> NewLink | None:
    """Return a link in lib64, or in its stubs, to one file of the library.

    Where lib64 is a link itself, it is made in the folder that this leads to, by that folder's own path: a
    link made through lib64 would stand among the files of a package unseen. None where it leads out of the
    toolkit, or where something has the name.
    """
    lib64 = f"{line.root}/lib64"
    tail = "/stubs" if place.folder.endswith("/stubs") else ""
    usual = f"{toolkit.real}/lib64{tail}"
    real = _real(f"{lib64}{tail}", libraries) or f"{_real(lib64, libraries) or f'{toolkit.real}/lib64'}{tail}"
    taken = libraries.directories.get(f"{lib64}{tail}")
    if (taken is not None and f"lib{library}.so" in taken.files) or not real.startswith(f"{toolkit.real}/"):
        return None
    source = _real(place.folder, libraries) or place.folder
    text = posixpath.relpath(f"{source}/{place.name}", real)
    return NewLink(f"{f'{lib64}{tail}' if real == usual else real}/lib{library}.so", text)


def _real(folder: str, libraries: Libraries) -> str:
    """Return where a folder really is; "" where there is none."""
    directory = libraries.directories.get(folder)
    return (directory.real or folder) if directory is not None and directory.exists else ""


def cured(line: LinkLine, name: str, link: NewLink, scene: Scene) -> bool:
    """Return whether the line, as it is written once the link is there, finds the library."""
    there = structs.replace(scene, libraries=staged(scene.libraries, link))
    lines = list(lines_with(line.root, line.consumer, there)) or [line]
    return all(resolve(each, name, there).ends == "found" for each in lines)


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
    there, base = posixpath.split(target)
    sources = (held for spelling, held in known.items() if there in (spelling, _real(spelling, libraries)))
    file = next((held.files[base] for held in sources if base in held.files), None)
    if file is None:
        return
    made = {name: structs.replace(file, link=posixpath.relpath(target, folder), resolved=target)}
    real = _real(folder, libraries) or folder
    spellings = [spelling for spelling in known if _real(spelling, libraries) == real]
    for spelling in spellings or [folder]:
        before = known.get(spelling)
        files = {**before.files, **made} if before and before.exists else made
        yield spelling, LinkDirectory(True, files, before.real if before else "")


# --- a variable ---------------------------------------------------------------------------------------------


def library_path(lines: Sequence[LinkLine], name: str, scene: Scene) -> str:
    """Return a LIBRARY_PATH with which each line finds `-lNAME`, and whatever else it misses; "" for none.

    What the variable holds stays in front, without its empty entries.
    """
    kept = [entry for entry in scene.environ.entries("LIBRARY_PATH") if entry]
    value = ":".join(dict.fromkeys([*kept, *_holders(lines, scene)]))
    there = _with_library_path(value, lines, scene)
    return value if all(resolve(line, name, there).ends == "found" for line in lines) else ""


def link_flags(lines: Sequence[LinkLine], name: str, scene: Scene) -> str:
    """Return FLASHINFER_EXTRA_LDFLAGS with which FlashInfer's line finds `-lNAME`, and the rest; "" for none.

    It is joined to the line as it stands, so that a folder with a blank in its name cannot be given.
    """
    flags = [f"-L{folder}" for folder in _holders(lines, scene)]
    if any(line.consumer != "flashinfer" for line in lines) or any(
        re.search(r"[^\w@%+=,./-]", f) for f in flags
    ):
        return ""
    longer = [structs.replace(line, flags=(*line.flags, *flags)) for line in lines]
    if any(resolve(line, name, scene).ends != "found" for line in longer):
        return ""
    return " ".join([*filter(None, [scene.environ.get(_LDFLAGS)]), *flags])


def _holders(lines: Sequence[LinkLine], scene: Scene) -> list[str]:
    """Return folders that hold, by its link name, each library that one of these lines misses."""
    found: dict[str, None] = {}
    for line in lines:
        for name in line.names:
            if not name.startswith(":") and resolve(line, name, scene).ends == "missing":
                found.update(dict.fromkeys(_holder(name, line, scene)))
    return list(found)


def _holder(library: str, line: LinkLine, scene: Scene) -> list[str]:
    """Return one folder of the line's own toolkit, else of one of the same release, that has the link name.

    The stub of the driver is the same in every toolkit: nothing of it gets into what is linked.
    """
    own = scene.toolkits.at(line.root)
    like = [t for t in scene.toolkits.toolkits if library == "cuda" or (own and _release(t) == _release(own))]
    held = places(library, ([own] if own else []) + like, scene.libraries)
    return [place.folder for place in held if place.is_link_name][:1]


def _release(toolkit: Toolkit) -> list[str]:
    return toolkit.version.split(".")[:2]


def _with_library_path(value: str, lines: Sequence[LinkLine], scene: Scene) -> Scene:
    """Return the scene with LIBRARY_PATH set; forms of its entries that nobody looked at hold nothing."""
    variables = {**scene.environ.variables, "LIBRARY_PATH": Variable(value, "environment")}
    directories = dict(scene.libraries.directories)
    known = {folder.rstrip("/") for folder in directories}
    for line in lines:
        if (search := line.compiler.search) is not None:
            before = expand(search, line.own, scene.environ.get("LIBRARY_PATH"))
            for folder in set(expand(search, line.own, value)) - set(before):
                if folder.rstrip("/") not in known:
                    directories[folder] = LinkDirectory(False)
    return structs.replace(
        scene,
        environ=structs.replace(scene.environ, variables=variables),
        libraries=structs.replace(scene.libraries, directories=directories),
    )
