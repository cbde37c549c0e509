"""Libraries, as the linker and the loader find them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts.section import Section

LibraryKind = Literal[
    "shared", "object", "executable", "archive", "script", "text", "empty",
    "dangling", "loop", "directory", "special", "unreadable", "unrecognised",
]  # fmt: skip


class LibraryFile(Struct, frozen=True, omit_defaults=True):
    """What stands at one library name in one folder, as far as the linker cares."""

    kind: LibraryKind
    machine: str = ""  #: of an ELF file, or of an archive's first member
    bits: int = 0
    link: str = ""  #: text of the symbolic link
    resolved: str = ""  #: where the link ends, or would end
    members: tuple[str, ...] = ()  #: what a linker script names: "/lib/x.so", "-lfoo", "foo.so"
    output_format: str = ""  #: OUTPUT_FORMAT of a linker script
    reason: str = ""


class LinkDirectory(Struct, frozen=True, omit_defaults=True):
    """One folder a linker or loader may look in: only the file names that were asked about."""

    exists: bool
    files: dict[str, LibraryFile] = {}
    real: str = ""  #: the folder with links resolved, where that differs
    reason: str = ""  #: why it could not be read


class Libraries(Section, frozen=True):
    """What the link and loader folders hold of the libraries that link lines name."""

    directories: dict[str, LinkDirectory]
    names: tuple[str, ...]  #: the file names that were looked for: "libcudart.so", "libcudart.a", ...
    absolute: dict[str, LibraryFile] = {}  #: files that linker scripts name by their whole path
    driver: tuple[str, ...] = ()  #: paths of libcuda.so.1 in the loader's cache


class VersionNeed(Struct, frozen=True, omit_defaults=True):
    """The versions that a shared object cannot do without of another: of libstdc++.so.6 GLIBCXX_3.4.29."""

    file: str  #: as DT_NEEDED names it
    names: tuple[str, ...]


class SharedObject(Struct, frozen=True, omit_defaults=True):
    """What one ELF file tells the loader."""

    soname: str = ""
    needed: tuple[str, ...] = ()
    rpath: str | None = None  #: None: it has none; an empty RUNPATH still switches RPATH off
    runpath: str | None = None
    no_default_folders: bool = False  #: linked with -z nodeflib
    executable: bool = False  #: a program, which cannot be loaded as a library
    interpreter: str = ""
    requires: tuple[VersionNeed, ...] = ()
    provides: tuple[str, ...] = ()  #: the versions it defines; none: nobody checks
    machine: str = ""
    bits: int = 0
    big_endian: bool = False
    problem: str = ""  #: why the loader stops at it: "file too short"
    real: str = ""  #: its path with links resolved, where that differs from the one it was found by


class CachedLibrary(Struct, frozen=True, omit_defaults=True):
    """One entry of the loader's cache."""

    path: str
    hwcaps: str = ""  #: the CPU level it is for: x86-64-v3


class DynamicLoader(Struct, frozen=True, omit_defaults=True):
    """The loader that starts the target's Python, and what is compiled into it."""

    path: str
    machine: str
    bits: int
    folders: tuple[str, ...]  #: where it looks last
    lib: str  #: what it puts in for $LIB
    platform: str = ""  #: what it puts in for $PLATFORM; "": an entry with it is left out
    subfolders: tuple[str, ...] = ()  #: of every folder, for this CPU, the best first
    preload: tuple[str, ...] = ()  #: what /etc/ld.so.preload names


class Extension(Struct, frozen=True):
    """One compiled extension of the stack, which Python opens by its path."""

    path: str
    distribution: str


class SharedObjects(Section, frozen=True):
    """What the loader finds for the compiled extensions of the stack: files, by the paths it tries.

    A path that is in neither table is one where nothing is, or that nobody asked about.
    """

    loader: DynamicLoader | None  #: None: not the GNU loader, or no interpreter that can be read
    python: str = ""  #: the interpreter's file, links resolved
    first: tuple[str, ...] = ()  #: what torch opens before its extension: global dependencies, then CUDA's
    fallback: tuple[str, ...] = ()  #: what torch opens of CUDA's where its global dependencies cannot be
    extensions: tuple[Extension, ...] = ()
    files: dict[str, SharedObject] = {}  #: by the path that it was first found by
    paths: dict[str, str] = {}  #: other paths of these files; to "": one that cannot be opened, as in a loop
    subfolders: dict[str, tuple[str, ...]] = {}  #: of the loader's, those that a folder has
    cached: dict[str, tuple[CachedLibrary, ...]] = {}  #: the loader's cache, for the names asked about
    elsewhere: dict[str, tuple[str, ...]] = {}  #: where a library is that the loader does not find
    undefined: dict[str, tuple[str, ...]] = {}  #: symbols that a library in the way lacks, by its path
    reason: str = ""  #: why there is no loader
