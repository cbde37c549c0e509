"""Which files glibc's loader takes for a program and for the libraries it opens: the rules of ld.so(8).

What the manual leaves open is as glibc 2.36 does it (elf/dl-load.c, elf/dl-deps.c and elf/dl-cache.c, read
2026-11; LD_DEBUG=libs shows each step). Filters (DT_FILTER, DT_AUXILIARY) are not followed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

from msgspec import Struct

from cudadoctor.facts import CachedLibrary, DynamicLoader, SharedObject, SharedObjects

#: A token that the loader puts something in for; `$ORIGINAL` is none.
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))")


class Disk(Protocol):
    """What the loader sees of a machine."""

    def at(self, path: str) -> str | None:
        """Return which file a path leads to, by one fixed path of it.

        None where nothing is, or nothing that may be read; "" where trying to open it fails in another way.
        """

    def file(self, key: str) -> SharedObject:
        """Return what a file says, by the path that `at` returned."""

    def subfolders(self, folder: str) -> Sequence[str]:
        """Return those of the loader's subfolders that a folder has, the best first."""

    def cached(self, name: str) -> Sequence[CachedLibrary]:
        """Return the entries of the loader's cache for a name, in its order."""


class Seen:
    """A machine as a probe saw it."""

    def __init__(self, objects: SharedObjects) -> None:
        self._objects = objects

    def at(self, path: str) -> str | None:
        """See `Disk.at`."""
        key = path if path in self._objects.files else self._objects.paths.get(path)
        return key if not key or key in self._objects.files else None

    def file(self, key: str) -> SharedObject:
        """See `Disk.file`."""
        return self._objects.files[key]

    def subfolders(self, folder: str) -> Sequence[str]:
        """See `Disk.subfolders`."""
        return self._objects.subfolders.get(folder, ())

    def cached(self, name: str) -> Sequence[CachedLibrary]:
        """See `Disk.cached`."""
        return self._objects.cached.get(name, ())


class Loaded(Struct, eq=False):
    """One object in a process. `by`: the one that asked for it first."""

    name: str  #: as it was asked for
    path: str  #: as it was opened
    file: str  #: which file that is, as `Disk.at` returns it
    object: SharedObject
    origin: str
    rule: str  #: what led to it: RPATH, LD_LIBRARY_PATH, RUNPATH, cache, default, path
    folder: str  #: the entry of that list, as a folder
    by: Loaded | None = None


class Problem(Struct, frozen=True):
    """A library that an object needs and the loader does not load; `path` is of a file that it stops at."""

    name: str
    by: Loaded
    path: str = ""
    reason: str = ""
    rule: str = ""  #: what led to that file, and the entry of that list, as with `Loaded`
    folder: str = ""


class Process:
    """The objects that a program has loaded, in the order in which they came."""

    def __init__(self, disk: Disk, loader: DynamicLoader, library_path: str = "", cwd: str = "") -> None:
        self.loaded: list[Loaded] = []
        self._names: dict[str, Loaded] = {}
        self._files: dict[str, Loaded] = {}
        self._disk, self._loader, self._cwd = disk, loader, cwd
        self._library_path, self._environment = library_path, tuple[str, ...]()
        self._folders: dict[tuple[str, str], tuple[str, ...]] = {}
        self._starts: dict[str, list[str]] = {}  # of the paths in a folder

    def copy(self) -> Process:
        """Return the same process as one that can go another way."""
        other = Process(self._disk, self._loader, self._library_path, self._cwd)
        other.loaded, other._names, other._files = [*self.loaded], {**self._names}, {**self._files}
        other._environment, other._folders, other._starts = self._environment, self._folders, self._starts
        return other

    def start(self, path: str, preload: Sequence[str] = (), origin: str = "") -> list[Problem]:
        """Start a program and return what it lacks.

        `origin` is its folder, where that is not the one of `path`. What cannot be preloaded is left out, as
        the loader does with a warning. Raises KeyError where there is no such file.
        """
        key = self._disk.at(path) or ""
        main = Loaded(path, path, key, self._disk.file(key), origin or self._origin(path), "path", "")
        self._add(main)
        if own := self._disk.at(self._loader.path):  # the loader is there before anything asks for it
            self._add(
                Loaded(self._loader.path, self._loader.path, own, self._disk.file(own), "/", "path", "", main)
            )
        if self._library_path:
            self._environment = self._expanded(self._library_path.replace(";", ":"), main)
        first = [self._find(name, main) for name in preload]
        return self._follow([main, *(found for found in first if isinstance(found, Loaded))])

    def open(self, path: str, caller: Loaded | None = None) -> list[Problem]:
        """Open a library for `caller`, the program itself by default; return what is lacking for it.

        The loader takes all of it back where anything is lacking: here it stays, so that everything shows.
        """
        count, caller = len(self.loaded), caller or self.loaded[0]
        found = self._find(path, caller)
        if isinstance(found, Problem):
            return [found]
        return self._follow(self.loaded[count:])

    def resolve(self, name: str, caller: Loaded) -> Loaded | Problem:
        """Return what `name` would lead to for `caller`, loading nothing."""
        return self.copy()._find(name, caller)

    def below(self, roots: Iterable[Loaded]) -> tuple[list[Loaded], list[str]]:
        """Return these objects and all that they need, in the order in which they came; what is missing."""
        reached = {id(root): root for root in roots}
        queue, missing = [*reached.values()], dict[str, None]()
        for one in queue:
            for needed in one.object.needed:
                name = self._put_in(needed, one.origin) or needed
                if (found := self._names.get(name)) is None:
                    missing[name] = None
                elif id(found) not in reached:
                    reached[id(found)] = found
                    queue.append(found)
        return [one for one in self.loaded if id(one) in reached], list(missing)

    def named(self, name: str) -> Loaded | None:
        """Return the loaded object that answers to a name, its soname for one."""
        return self._names.get(name)

    def python(self) -> Loaded:
        """Return the object that opens extensions: Python's library where the program has one."""
        return next((one for one in self.loaded if one.name.startswith("libpython")), self.loaded[0])

    # --- one library ----------------------------------------------------------------------------------------

    def _follow(self, queue: list[Loaded]) -> list[Problem]:
        """Load what these need, then what those need, and so on."""
        problems = []
        for one in queue:
            for needed in one.object.needed:
                name = self._put_in(needed, one.origin)
                if name in self._names or name is None:
                    continue
                count = len(self.loaded)
                found = self._find(name, one)
                if isinstance(found, Problem):
                    problems.append(found)
                queue += self.loaded[count:]
        return problems

    def _find(self, name: str, by: Loaded) -> Loaded | Problem:
        if (known := self._names.get(name)) is not None:
            return known
        if "/" in name:
            path = self._put_in(name, by.origin) or ""
            return self._taken(name, path, "path", by) or Problem(name, by)
        for rule, paths in self._lists(name, by):
            for folder, path in paths:
                key = self._disk.at(path)
                if key == "" and path.rpartition("/")[0] == folder.rstrip("/"):
                    break  # what fails in a subfolder is forgotten by the next try
                found = None if key is None else self._taken(name, path, rule, by, folder)
                if found is not None:
                    return found
        return Problem(name, by)

    def _taken(
        self, name: str, path: str, rule: str, by: Loaded, folder: str = ""
    ) -> Loaded | Problem | None:
        """Load the file at `path`; None where the loader goes on without a word."""
        if not (key := self._disk.at(path)):
            return None
        file = self._disk.file(key)
        if file.bits not in (0, self._loader.bits):
            return None
        if file.big_endian:
            return Problem(name, by, path, "ELF file data encoding not little-endian", rule, folder)
        if file.machine not in ("", self._loader.machine):
            return None
        if file.problem or file.executable:
            reason = file.problem or "cannot dynamically load executable"
            return Problem(name, by, path, reason, rule, folder)
        if (same := self._files.get(key)) is not None:
            self._names.setdefault(name, same)
            return same
        one = Loaded(name, path, key, file, self._origin(path), rule, folder, by)
        self._add(one)
        return one

    def _add(self, one: Loaded) -> None:
        self.loaded.append(one)
        names = [one.object.soname]
        if one.by is not None:  # the program itself is known by its soname alone
            self._files[one.file] = one
            names += [one.path, one.name]
        for name in names:
            if name:
                self._names.setdefault(name, one)

    # --- where to look --------------------------------------------------------------------------------------

    def _lists(self, name: str, by: Loaded) -> Iterator[tuple[str, Iterator[tuple[str, str]]]]:
        """Return, rule by rule, the folders and paths that are tried."""
        if by.object.runpath is None:
            tried: list[tuple[str, ...]] = [()]
            for one in self._chain(by):
                if (folders := self._own(one, "RPATH")) not in tried:  # of one wheel many have the same
                    tried.append(folders)
                    yield "RPATH", self._paths(name, folders)
        yield "LD_LIBRARY_PATH", self._paths(name, self._environment)
        yield "RUNPATH", self._paths(name, self._own(by, "RUNPATH"))
        if cached := self._cached(name, by):
            yield "cache", iter((("", cached),))
        if not by.object.no_default_folders:
            yield "default", self._paths(name, self._loader.folders)

    def _chain(self, by: Loaded) -> list[Loaded]:
        """Return the object, the one that asked for it and so on, the program at the end."""
        chain, at = [by], by.by
        while at is not None:
            chain.append(at)
            at = at.by
        return chain if chain[-1] is self.loaded[0] else [*chain, self.loaded[0]]

    def _own(self, one: Loaded, rule: str) -> tuple[str, ...]:
        """Return the folders of an object's RPATH, which counts only without a RUNPATH, or of its RUNPATH."""
        runpath = one.object.runpath
        text = runpath if rule == "RUNPATH" else one.object.rpath if runpath is None else None
        if not text:
            return ()
        if (folders := self._folders.get((one.path, rule))) is None:
            folders = self._folders[one.path, rule] = self._expanded(text, one)
        return folders

    def _expanded(self, text: str, one: Loaded) -> tuple[str, ...]:
        """Return the folders of a list; an empty entry is the current folder, and stays empty."""
        folders: dict[str, None] = {}
        for entry in text.split(":"):
            folder = self._put_in(entry, one.origin)
            if folder or not entry:
                folders[(folder or "").rstrip("/") or (folder or "")[:1]] = None
        return tuple(folders)

    def _put_in(self, text: str, origin: str) -> str | None:
        """Return the text with its tokens replaced; None where the loader has nothing to put in."""
        if "$" not in text:
            return text
        values = {"ORIGIN": origin, "LIB": self._loader.lib, "PLATFORM": self._loader.platform}
        names = [match[1] or match[2] for match in _TOKEN.finditer(text)]
        if not all(values[name] for name in names):
            return None
        return _TOKEN.sub(lambda match: values[match[1] or match[2]], text)

    def _paths(self, name: str, folders: Sequence[str]) -> Iterator[tuple[str, str]]:
        for folder in folders:
            if (starts := self._starts.get(folder)) is None:
                inside = f"{folder}/" if folder not in ("", "/") else folder
                starts = [*(f"{inside}{subfolder}/" for subfolder in self._disk.subfolders(folder)), inside]
                self._starts[folder] = starts
            for start in starts:
                yield folder, start + name

    def _cached(self, name: str, by: Loaded) -> str:
        """Return the cache's path for a name: the best for this CPU, else the first for every one."""
        if not (entries := self._disk.cached(name)):
            return ""
        levels = [
            folder.rpartition("/")[2] for folder in self._loader.subfolders if "glibc-hwcaps/" in folder
        ]
        usable = [entry for entry in entries if entry.hwcaps in levels]
        plain = [entry for entry in entries if not entry.hwcaps]
        best = sorted(usable, key=lambda entry: levels.index(entry.hwcaps)) + plain
        path = best[0].path if best else ""
        inside = tuple(f"{folder}/" for folder in self._loader.folders)
        return "" if by.object.no_default_folders and path.startswith(inside) else path

    def _origin(self, path: str) -> str:
        whole = path if path.startswith("/") else f"{self._cwd}/{path}"
        return whole.rpartition("/")[0] or "/"
