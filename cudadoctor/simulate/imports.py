"""What importing the stack makes the loader do, told from the facts: each extension after torch.

A probe runs the same functions over the machine itself, so that the facts hold an answer to every question
that a check can ask here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.facts import Environ, Extension, SharedObjects, Target
from cudadoctor.simulate.loader import Disk, Loaded, Problem, Process, Seen

#: Libraries of the driver: they come with it, and are absent where there is no GPU.
DRIVER = re.compile(r"lib(cuda|nvcuvid|nvidia-[\w-]+|nvoptix)\.so\.1$")
_TORCH = ("torch",)
_CUDART = re.compile(r"libcudart\.so\.\d+$")


class Imported(Struct, eq=False):
    """One extension in a process of its own, opened after torch; what is lacking for it."""

    extension: Extension
    process: Process
    before: int  #: how many objects were there before it
    problems: list[Problem]
    started: int  #: how many objects came with the program itself

    @property
    def new(self) -> list[Loaded]:
        """Return the objects that it brought along, itself first; torch's come with the program's own."""
        return self.process.loaded[self.before :]


class Lacking(Struct, frozen=True):
    """Versions that one loaded object needs of another, which does not define them."""

    needs: Loaded
    has: Loaded
    versions: tuple[str, ...]


class Shadow(Struct, frozen=True):
    """A library that LD_LIBRARY_PATH puts before the one that would be loaded without it."""

    name: str
    taken: Loaded
    own: Loaded


def imports(
    objects: SharedObjects, environ: Environ, library_path: str, disk: Disk | None = None
) -> list[Imported]:
    """Return each extension of the stack with this LD_LIBRARY_PATH; none where there is no loader."""
    if objects.loader is None:
        return []
    disk = disk or Seen(objects)
    process = Process(disk, objects.loader, library_path, environ.cwd)
    preload = [name for name in re.split("[ :]", environ.get("LD_PRELOAD") or "") if name]
    process.start(objects.python, [*preload, *objects.loader.preload])
    started = len(process.loaded)
    _open_first(process, objects)
    found = []
    for torch_first in (True, False):
        for extension in objects.extensions:
            if (extension.distribution in _TORCH) is torch_first:
                one = process if torch_first else process.copy()
                before = 0 if torch_first else len(one.loaded)
                problems = one.open(extension.path, one.python())
                found.append(Imported(extension, one, before, problems, started))
    return found


def _open_first(process: Process, objects: SharedObjects) -> None:
    """Open what torch opens before its extension: where that fails, CUDA's libraries by their paths first."""
    if not objects.first:
        return
    attempt = process.copy()
    failed = attempt.open(objects.first[0], attempt.python())
    if failed:
        paths, again = objects.fallback, objects.first[:1]
    else:
        process.open(objects.first[0], process.python())
        has_cuda = any(_CUDART.match(one.name) for one in process.loaded)
        paths, again = objects.first[1:] if has_cuda else (), ()
    for path in (*paths, *again):
        process.open(path, process.python())


def shadows(now: list[Imported], bare: list[Imported]) -> list[Shadow]:
    """Return what LD_LIBRARY_PATH puts in the place of other libraries; `bare` is the same without it."""
    found: dict[str, Shadow] = {}
    for with_it, without in zip(now, bare, strict=True):
        for taken in with_it.process.loaded:
            own = without.process.named(taken.name)
            if taken.rule == "LD_LIBRARY_PATH" and own is not None and own.file != taken.file:
                found.setdefault(taken.file, Shadow(taken.name, taken, own))
    return list(found.values())


def displaced(now: list[Imported], bare: list[Imported], target: Target) -> list[Shadow]:
    """Return the shadows of what the environment brought, but for the driver and those that lack versions."""
    too_old = {lack.has.file for one in now for lack in lacking(one)}
    places = tuple(f"{place}/" for place in (target.prefix, *target.site_packages))
    return [
        shadow
        for shadow in shadows(now, bare)
        if posixpath.normpath(shadow.own.path).startswith(places)
        and shadow.taken.file not in too_old
        and not DRIVER.match(shadow.name)
    ]


def needers(name: str, everything: list[Imported]) -> list[Loaded]:
    """Return the loaded objects that ask for a library by `name`, each file once."""
    found: dict[str, Loaded] = {}
    for one in everything:
        for loaded in one.process.loaded:
            if name in loaded.object.needed:
                found.setdefault(loaded.file, loaded)
    return list(found.values())


def lacking(one: Imported) -> Iterator[Lacking]:
    """Return the versions that the extension and what came with it need and do not find.

    A library that defines no versions at all is taken as it is.
    """
    for needs in one.new:
        for need in needs.object.requires:
            has = one.process.named(need.file)
            if has is None or not has.object.provides:
                continue
            if missing := tuple(name for name in need.names if name not in has.object.provides):
                yield Lacking(needs, has, missing)


def reach(one: Imported, objects: SharedObjects) -> tuple[list[Loaded], list[str]]:
    """Return where the loader looks for the symbols of an extension, and the names that are missing there.

    That is the program with what it preloads, torch's global dependencies, and the extension with all that
    it needs: not what other imports opened for themselves. For torch's own extension it is everything.
    """
    process = one.process
    if not one.before:
        return process.below(process.loaded)
    own = (process.named(path) for path in (*objects.first[:1], one.extension.path))
    return process.below([*process.loaded[: one.started], *filter(None, own)])


def driver(process: Process) -> Loaded | None:
    """Return what the process takes for the driver: an object needs it, or the CUDA runtime opens it."""
    name = "libcuda.so.1"
    if (loaded := process.named(name)) is not None:
        return loaded
    for caller in process.loaded:
        if _CUDART.match(caller.name.rpartition("/")[2]):
            found = process.resolve(name, caller)
            return found if isinstance(found, Loaded) else None
    return None


def without(library_path: str, folders: set[str]) -> str:
    """Return LD_LIBRARY_PATH without the entries that spell one of these folders."""
    entries = library_path.replace(";", ":").split(":")
    return ":".join(entry for entry in entries if (entry.rstrip("/") or entry) not in folders)
