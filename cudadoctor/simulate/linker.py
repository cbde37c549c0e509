"""The linker's model: which file does each `-lNAME` of a link line resolve to, or why none.

It follows GNU ld's `ldfile_open_file` and GCC's `for_each_path`; the tests compare it with the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from cudadoctor.facts import Libraries, LibraryFile, LinkDirectory, LinkSearch

Verdict = Literal["found", "missing", "fatal", "unknown"]
Lookup = Callable[[str], "LinkDirectory | None"]


class Passed(Struct, frozen=True):
    """A candidate that ld looked at and went past, and why."""

    path: str
    why: str


class Resolution(Struct, frozen=True):
    """How one `-lNAME` ends.

    found: `path` is the file, `members` what a linker script leads to. missing: no folder has it.
    fatal: `path` is a file that ld takes for the library and cannot read: it stops there and does not
    search on. unknown: a folder was not looked at, so there is no telling.
    """

    name: str
    verdict: Verdict
    path: str = ""
    file: LibraryFile | None = None
    members: tuple[Resolution, ...] = ()
    passed: tuple[Passed, ...] = ()
    why: str = ""

    @property
    def ends(self) -> Verdict:
        """Return the verdict with the members of a linker script counted in."""
        worst = [member.ends for member in self.members if member.ends != "found"]
        return worst[0] if self.verdict == "found" and worst else self.verdict


#: Folders of LIBRARY_PATH that GCC does not hand on, because every linker searches them by itself.
LINKERS_OWN = ("/lib/", "/usr/lib/")


def expand(
    search: LinkSearch,
    own: Sequence[str],
    library_path: str | None,
    exists: Callable[[str], bool] = lambda folder: True,
) -> list[str]:
    """Return the folders in the order that the linker tries them.

    `own` are the line's `-L` folders. GCC looks into each entry of LIBRARY_PATH in several forms
    (`/x86_64-linux-gnu/12`, `/../lib`, then plain), all entries in one form group before the plain ones;
    an empty entry, and an empty variable, is the current folder. Clang takes the entries as they are, and
    an empty variable as none.
    """
    entries = [] if library_path is None else [entry or "." for entry in library_path.split(":")]
    if search.single_pass:
        entries = entries if library_path else []
    else:
        entries = [_without_detours(entry, exists) for entry in entries]
    folders: list[str] = []
    group: list[str] = []

    def flush() -> None:
        places = [_place(entry, form, search.single_pass) for entry in entries for form in group]
        folders.extend(place for place in places if place)
        group.clear()

    for template in search.entries:
        if template.startswith(_VARIABLE):
            group.append(template)
            continue
        flush()
        folders.extend(own if template == "{-L}" else [template])
    flush()
    return folders


def detours(library_path: str | None) -> list[str]:
    """Return the folders whose existence decides how GCC spells the entries of LIBRARY_PATH."""
    asked: list[str] = []

    def gone(folder: str) -> bool:
        asked.append(folder)
        return False

    for entry in (library_path or "").split(":"):
        _without_detours(entry or ".", gone)
    return asked


def _without_detours(entry: str, exists: Callable[[str], bool]) -> str:
    """Return an entry as GCC's `update_path` spells it.

    `gone/../lib` becomes `lib` where there is no folder `gone`, though the system itself would find nothing
    there. It goes from left to right and stops at the first that exists; a name that starts with a dot takes
    the one before it along.
    """
    path = entry if entry.endswith("/") else f"{entry}/"
    at = path.find("/../")
    while at >= 0 and not exists(path[: at + 1]):
        start = at + 1
        while start == at + 1 or (start and path[start] == "."):
            start = path[:start].rstrip("/").rfind("/") + 1
        if path[start] in "./":
            break
        path = path[:start] + path[at + 4 :].lstrip("/")
        at = path.find("/../", max(start - 1, 0))
    return path


_VARIABLE = "{LIBRARY_PATH}"


def _place(entry: str, template: str, as_it_is: bool) -> str:
    """Return one form of one entry of LIBRARY_PATH, spelled as the driver does; "" where it leaves it out."""
    if as_it_is:
        return entry
    tail = template[len(_VARIABLE) + 1 :]
    place = entry + (f"{tail}/" if tail else "")
    return "" if place in LINKERS_OWN else place[:-1]  # of "/" nothing is left: GCC writes a bare -L


def file_names(name: str) -> list[str]:
    """Return the files that `-lNAME` is looked for as; a name with a leading colon is a file name."""
    return [name[1:]] if name.startswith(":") else [f"lib{name}.so", f"lib{name}.a"]


class Linker(Struct, frozen=True):
    """One link: the folders in order, what is in them, and the output's machine."""

    folders: Sequence[str]
    look: Lookup
    machine: str
    bits: int
    names: frozenset[str]  #: file names that were looked for in every folder
    absolute: Mapping[str, LibraryFile] = {}

    @classmethod
    def of(
        cls, search: LinkSearch, own: Sequence[str], library_path: str | None, libraries: Libraries
    ) -> Linker:
        """Return the linker of one line: its own `-L` folders, and what was seen of all folders."""
        known = {folder.rstrip("/") or "/": directory for folder, directory in libraries.directories.items()}

        def look(folder: str) -> LinkDirectory | None:
            return known.get(folder.rstrip("/") or "/")

        def exists(folder: str) -> bool:
            directory = look(folder)
            return directory is None or directory.exists

        folders = expand(search, own, library_path, exists)
        return cls(folders, look, search.machine, search.bits, frozenset(libraries.names), libraries.absolute)

    def find(self, name: str) -> Resolution:
        """Resolve `-lNAME`; a name with a leading colon is a file name, as for ld."""
        return self._library(name, ())

    def _library(self, name: str, scripts: tuple[str, ...]) -> Resolution:
        return self._search(name, file_names(name), self.folders, scripts)

    def _search(
        self, name: str, names: Sequence[str], folders: Sequence[str], scripts: tuple[str, ...]
    ) -> Resolution:
        if not self.names.issuperset(names):
            return Resolution(name, "unknown", why=f"{' and '.join(names)}: not looked for")
        passed: list[Passed] = []
        for folder in folders:
            directory = self.look(folder)
            if directory is None:
                return Resolution(
                    name, "unknown", folder, passed=tuple(passed), why=f"{folder} was not looked at"
                )
            for file_name in names:
                file = directory.files.get(file_name)
                if file is None:
                    continue
                path = f"{folder.rstrip('/')}/{file_name}"
                if why := self._skipped(file):
                    passed.append(Passed(path, why))
                    continue
                return self._take(name, path, file, tuple(passed), scripts)
        return Resolution(name, "missing", passed=tuple(passed))

    def _skipped(self, file: LibraryFile) -> str:
        """Return why ld goes past this file, or "" where it takes it for the library."""
        match file.kind:
            case "dangling":
                return f"a link to {file.resolved or file.link}, which does not exist"
            case "loop":
                return "a link that leads back to itself"
            case "directory":
                return "a folder"
            case "unreadable":
                return f"not readable ({file.reason})" if file.reason else "not readable"
            case "script" | "text" if file.output_format and not self._same_format(file.output_format):
                return f"a linker script for {file.output_format}"
            case "shared" | "object" | "executable" | "archive":
                if file.machine and (file.machine, file.bits) != (self.machine, self.bits):
                    return f"for {file.machine} ({file.bits} bit): skipping incompatible"
        return ""

    def _same_format(self, output_format: str) -> bool:
        formats = {
            ("x86_64", 64): "elf64-x86-64",
            ("x86_64", 32): "elf32-x86-64",
            ("i386", 32): "elf32-i386",
            ("aarch64", 64): "elf64-littleaarch64",
        }
        return formats.get((self.machine, self.bits), output_format) == output_format

    def _take(
        self, name: str, path: str, file: LibraryFile, passed: tuple[Passed, ...], scripts: tuple[str, ...]
    ) -> Resolution:
        """Return how it ends once ld has settled on a file; `scripts` are those that led to it."""
        verdict, why = self._opened(path, file, scripts)
        members: tuple[Resolution, ...] = ()
        if verdict == "found" and file.kind == "script":
            members = tuple(self._members(path, file, (*scripts, path)))
        return Resolution(name, verdict, path, file, members, passed, why)

    def _opened(self, path: str, file: LibraryFile, scripts: tuple[str, ...]) -> tuple[Verdict, str]:
        match file.kind:
            case "special":
                return "unknown", "a FIFO, socket or device: ld may wait on it"
            case "text" | "unrecognised":
                return "fatal", "file format not recognized"
            case "executable":
                return "fatal", "an executable, no library"
            case "archive" if file.reason:
                return "fatal", f"an archive with {file.reason}"
            case "script" if path in scripts:
                return "fatal", "a linker script that leads back to itself: ld does not end"
            case "script" if file.reason:
                return "unknown", f"a linker script with {file.reason}, which is not followed"
        return "found", ""

    def _members(self, script: str, file: LibraryFile, scripts: tuple[str, ...]) -> Iterator[Resolution]:
        """Resolve what a script names: `-lx` as on the line, a path as it is, a bare name beside the script,
        in the current folder, then along the search path."""
        for member in file.members:
            if member.startswith("-l"):
                yield self._library(member[2:], scripts)
            elif member.startswith("/"):
                yield self._absolute(member, scripts)
            else:
                beside = script.rpartition("/")[0] or "/"
                yield self._search(member, [member], [beside, ".", *self.folders], scripts)

    def _absolute(self, path: str, scripts: tuple[str, ...]) -> Resolution:
        file = self.absolute.get(path)
        if file is None:
            return Resolution(path, "missing", path)
        if why := self._skipped(file):
            return Resolution(path, "missing", path, file, passed=(Passed(path, why),), why=why)
        return self._take(path, path, file, (), scripts)
