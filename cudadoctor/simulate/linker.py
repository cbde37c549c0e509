"""The linker's model: which file does each `-lNAME` of a link line resolve to, or why none.

It follows GNU ld's `ldfile_open_file` and GCC's `for_each_path`; the tests compare it with the real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from cudadoctor.facts import LibraryFile, LinkDirectory, LinkSearch

Verdict = Literal["found", "missing", "fatal", "unknown"]
Lookup = Callable[[str], "LinkDirectory | None"]


class Passed(NamedTuple):
    """A candidate that ld looked at and went past, and why."""

    path: str
    why: str


class Resolution(NamedTuple):
    """How one `-lNAME` ends.

    found: `path` is the file, `members` what a linker script leads to. missing: no folder has it.
    fatal: `path` is a file that ld takes for the library and cannot read: it stops there and does not
    search on. unknown: a folder was not looked at, so there is no telling.
    """

    name: str
    verdict: Verdict
    path: str = ""
    file: LibraryFile | None = None
    members: tuple[Resolution, ...] = ()  # type: ignore[misc]
    passed: tuple[Passed, ...] = ()
    why: str = ""

    @property
    def ends(self) -> Verdict:
        """Return the verdict with the members of a linker script counted in."""
        worst = [member.ends for member in self.members if member.ends != "found"]
        return worst[0] if self.verdict == "found" and worst else self.verdict


def expand(search: LinkSearch, own: Sequence[str], library_path: str | None) -> list[str]:
    """Return the folders in the order that the linker tries them.

    `own` are the line's `-L` folders. GCC looks into each entry of LIBRARY_PATH in several forms
    (`/x86_64-linux-gnu/12/`, `/../lib/`, then plain), all entries in one form group before the plain ones;
    an empty entry, and an empty variable, is the current folder. Clang takes the entries as they are.
    """
    entries = [] if library_path is None else [entry or "." for entry in library_path.split(":")]
    folders: list[str] = []
    group: list[str] = []

    def flush() -> None:
        folders.extend(form.replace("{LIBRARY_PATH}", entry, 1) for entry in entries for form in group)
        group.clear()

    for template in search.entries:
        if template.startswith("{LIBRARY_PATH}"):
            group.append(template)
            continue
        flush()
        folders.extend(own if template == "{-L}" else [template])
    flush()
    return folders


class Linker(NamedTuple):
    """One link: the folders in order, what is in them, and the output's machine."""

    folders: Sequence[str]
    look: Lookup
    machine: str
    bits: int
    names: frozenset[str]  #: file names that were looked for in every folder
    absolute: Mapping[str, LibraryFile] = {}

    def find(self, name: str) -> Resolution:
        """Resolve `-lNAME`; a name with a leading colon is a file name, as for ld."""
        names = [name[1:]] if name.startswith(":") else [f"lib{name}.so", f"lib{name}.a"]
        if not self.names.issuperset(names):
            return Resolution(name, "unknown", why=f"{' and '.join(names)} were not looked for")
        return self._search(name, names, self.folders)

    def _search(self, name: str, names: Sequence[str], folders: Sequence[str]) -> Resolution:
        passed: list[Passed] = []
        for folder in folders:
            directory = self.look(folder)
            if directory is None:
                return Resolution(name, "unknown", folder, passed=tuple(passed), why=f"{folder} was not looked at")
            for file_name in names:
                file = directory.files.get(file_name)
                if file is None:
                    continue
                path = f"{folder.rstrip('/')}/{file_name}"
                if why := self._skipped(file):
                    passed.append(Passed(path, why))
                    continue
                return self._take(name, path, file, tuple(passed))
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
            case "script" if file.output_format and not self._same_format(file.output_format):
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

    def _take(self, name: str, path: str, file: LibraryFile, passed: tuple[Passed, ...]) -> Resolution:
        match file.kind:
            case "special":
                return Resolution(name, "unknown", path, file, (), passed, "a FIFO or device: ld would wait on it")
            case "text" | "unrecognised":
                return Resolution(name, "fatal", path, file, (), passed, "file format not recognized")
            case "executable":
                return Resolution(name, "fatal", path, file, (), passed, "an executable, no library")
            case "script":
                members = tuple(self._members(path, file))
                return Resolution(name, "found", path, file, members, passed)
        return Resolution(name, "found", path, file, (), passed)

    def _members(self, script: str, file: LibraryFile) -> Iterator[Resolution]:
        """Resolve what a script names: `-lx` as on the line, a path as it is, a bare name beside the script,
        in the current folder, then along the search path."""
        for member in file.members:
            if member.startswith("-l"):
                yield self.find(member[2:])
            elif member.startswith("/"):
                yield self._absolute(member)
            else:
                beside = script.rpartition("/")[0] or "/"
                yield self._search(member, [member], [beside, ".", *self.folders])

    def _absolute(self, path: str) -> Resolution:
        file = self.absolute.get(path)
        if file is None:
            return Resolution(path, "missing", path)
        if why := self._skipped(file):
            verdict: Verdict = "missing" if file.kind in ("dangling", "loop") else "fatal"
            return Resolution(path, verdict, path, file, why=why)
        return self._take(path, path, file, ())
