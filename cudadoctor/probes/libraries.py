"""What the folders that a linker or loader may search hold, for the library names that link lines use.

A folder is never listed as a whole (but for a toolkit's own): each name is looked up, so that the size of
the environment does not matter.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Iterable, Mapping

from msgspec import Struct, structs

from cudadoctor.facts import (
    Compilers,
    Environ,
    Libraries,
    LibraryFile,
    LibraryKind,
    LinkDirectory,
    LinkSearch,
    Machine,
    Packages,
    Toolkits,
)
from cudadoctor.host import Host, NotRegular
from cudadoctor.probes.ldcache import cached
from cudadoctor.simulate.linker import detours, expand, file_names

#: Names that some link line of the stack, or a CMake target of FindCUDAToolkit, asks for.
NAMES = (
    "cudart", "cuda", "cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse", "nvrtc", "nvJitLink",
    "nvidia-ml", "cudnn", "nccl", "c10", "c10_cuda", "torch", "torch_cpu", "torch_cuda", "torch_python",
)  # fmt: skip
_RUNTIME = ("libcuda.so.1", "libcudart.so*")
_EM = {62: "x86_64", 183: "aarch64", 3: "i386", 40: "arm", 243: "riscv64", 21: "ppc64", 22: "s390x"}
_ET: dict[int, LibraryKind] = {1: "object", 2: "executable", 3: "shared"}
_SCRIPT_LIMIT = 64 << 10
_SCRIPT_DEPTH = 8
_ARCHIVE_LIMIT = 4 << 20


def probe(
    host: Host,
    environ: Environ,
    packages: Packages,
    toolkits: Toolkits,
    compilers: Compilers,
    machine: Machine,
) -> Libraries:
    """Return what each candidate folder holds."""
    owned = {folder for toolkit in toolkits.toolkits for folder in (*toolkit.lib, *toolkit.stubs)}
    names = {f"lib{name}{suffix}" for name in NAMES for suffix in (".so", ".a")} | set(_RUNTIME)
    driver = tuple(cached(host, "libcuda.so.1"))
    folders = _folders(host, environ, packages, toolkits, compilers)
    folders |= dict.fromkeys(path.rpartition("/")[0] for path in driver)
    return structs.replace(inventory(host, folders, names, owned), driver=driver)


def inventory(
    host: Host, folders: Iterable[str], names: Iterable[str], owned: Collection[str] = ()
) -> Libraries:
    """Return what `folders` hold of the file `names`, and of what the linker scripts among them lead to.

    In the folders of a toolkit of its own (`owned`) every CUDA library is looked at.
    """
    wanted, places = set(names), dict.fromkeys(folders)
    absolute: dict[str, LibraryFile] = {}
    directories: dict[str, LinkDirectory] = {}
    for _ in range(_SCRIPT_DEPTH):
        directories = _directories(host, places, wanted, owned)
        led = _led_to(directories, absolute)
        fresh = {path: file for path in led.absolute - absolute.keys() if (file := describe(host, path))}
        if not fresh and led.names <= wanted and led.places <= places.keys():
            break
        absolute |= fresh
        wanted |= led.names
        places |= dict.fromkeys(sorted(led.places))
    return Libraries(directories, tuple(sorted(wanted)), absolute)


def _directories(
    host: Host, places: Iterable[str], names: set[str], owned: Collection[str]
) -> dict[str, LinkDirectory]:
    """Look into each folder once, however many spellings lead to it: a search order has a dozen of some."""
    seen: dict[str, LinkDirectory] = {}
    directories = {}
    real_owned = {host.realpath(place) for place in owned}
    for place in places:
        if host.kind(place) != "directory":
            directories[place] = LinkDirectory(False)
            continue
        real = host.realpath(place)
        if real not in seen:
            seen[real] = _directory(host, place, names, real in real_owned)
        directories[place] = structs.replace(seen[real], real="" if real == place else real)
    return directories


class _LedTo(Struct, frozen=True):
    """What linker scripts make ld look for: names in every folder, folders, and files by their whole path."""

    names: set[str]
    places: set[str]
    absolute: set[str]


def _led_to(directories: Mapping[str, LinkDirectory], absolute: Mapping[str, LibraryFile]) -> _LedTo:
    led = _LedTo(set(), set(), set())
    for folder, directory in directories.items():
        for name, file in directory.files.items():
            _add_members(led, file, f"{folder.rstrip('/')}/{name}")
    for path, file in absolute.items():
        _add_members(led, file, path)
    return led


def _add_members(led: _LedTo, file: LibraryFile, path: str) -> None:
    for member in file.members:
        if member.startswith("-l"):
            led.names.update(file_names(member[2:]))
        elif member.startswith("/"):
            led.absolute.add(member)
        else:
            led.names.add(member)
            led.places.update((".", path.rpartition("/")[0] or "/"))


def _folders(
    host: Host, environ: Environ, packages: Packages, toolkits: Toolkits, compilers: Compilers
) -> dict[str, None]:
    """Return every folder that a link line of this target can reach, or could with another CUDA_HOME."""
    found: dict[str, None] = {}
    roots = [s.root for s in toolkits.selections] + [t.root for t in toolkits.toolkits]
    for root in dict.fromkeys(roots):
        for tail in ("lib64", "lib64/stubs", "lib", "lib/stubs"):
            found[f"{root}/{tail}"] = None
    for toolkit in toolkits.toolkits:
        found |= dict.fromkeys((*toolkit.lib, *toolkit.stubs))
    if packages.torch:
        found[f"{packages.torch.root}/lib"] = None
    for variable in ("FLASHINFER_EXTRA_LDFLAGS", "LDFLAGS"):
        found |= dict.fromkeys(re.findall(r"(?:^|\s)-L\s*(\S+)", environ.get(variable) or ""))
    found |= dict.fromkeys(entry or "." for entry in environ.entries("LD_LIBRARY_PATH"))
    if packages.triton:
        found[f"{packages.triton.root}/backends/nvidia/lib"] = None
    if path := environ.get("TRITON_LIBCUDA_PATH"):
        found[path] = None
    for compiler in compilers.compilers.values():
        if compiler.search is not None:
            found |= dict.fromkeys(search_folders(host, compiler.search, environ.get("LIBRARY_PATH")))
    return found


def search_folders(host: Host, search: LinkSearch, library_path: str | None) -> list[str]:
    """Return the folders that a search order leads to with this LIBRARY_PATH, as it is and as GCC spells it.

    With them come those whose existence decides the spelling; the line's own `-L` is left out.
    """
    spelled = expand(search, (), library_path, lambda folder: host.kind(folder) == "directory")
    return [*expand(search, (), library_path), *spelled, *detours(library_path)]


def _directory(host: Host, folder: str, names: set[str], owned: bool) -> LinkDirectory:
    wanted, reason = names, ""
    if owned:
        try:
            wanted = names | {name for name in host.list(folder) if _CUDA.match(name)}
        except OSError as error:
            reason = error.strerror or str(error)
    files = {}
    for name in sorted(wanted):
        if entry := describe(host, f"{folder.rstrip('/')}/{name}"):
            files[name] = entry
    return LinkDirectory(True, files, reason=reason)


#: Files of a toolkit's own folder that are worth a look: its libraries by link name and by soname.
_CUDA = re.compile(r"lib(cu|nv|nccl)[\w-]*\.(so(\.\d+)*|so\*)$")


def describe(host: Host, path: str) -> LibraryFile | None:
    """Return what stands at `path`, or None where there is nothing."""
    kind = host.kind(path, follow=False)
    if not kind:
        return None
    if kind != "link":
        return _content(host, path, "", "")
    try:
        link = host.readlink(path)
    except OSError as error:
        return LibraryFile("unreadable", reason=error.strerror or "")
    resolved = host.realpath(path)
    if not host.kind(path):
        kind_there: LibraryKind = "loop" if host.kind(resolved, follow=False) == "link" else "dangling"
        return LibraryFile(kind_there, link=link, resolved=resolved)
    return _content(host, path, link, resolved)


def _content(host: Host, path: str, link: str, resolved: str) -> LibraryFile:
    try:
        head = host.head(path, 64)
        if head.startswith(b"\x7fELF"):
            kind, machine, bits = _elf(head, host.size(path))
            return LibraryFile(kind, machine, bits, link, resolved)
        if head.startswith((b"!<arch>\n", b"!<thin>\n")):
            return _archive(host.head(path, _ARCHIVE_LIMIT), host.size(path), link, resolved)
        if not head:
            return LibraryFile("empty", link=link, resolved=resolved)
        return _text(host.head(path, _SCRIPT_LIMIT), link, resolved)
    except NotRegular:
        return LibraryFile(_irregular(host, path, resolved), link=link, resolved=resolved)
    except OSError as error:
        return LibraryFile("unreadable", link=link, resolved=resolved, reason=error.strerror or "")


def _irregular(host: Host, path: str, resolved: str) -> LibraryKind:
    """Return the kind of what is no regular file; /dev/null reads as an empty one."""
    if host.kind(path) == "directory":
        return "directory"
    return "empty" if resolved == "/dev/null" else "special"


class _Header(Struct, frozen=True):
    """The fields of an ELF header from e_type on."""

    kind: int
    machine: int
    version: int
    entry: int
    segments: int
    sections: int
    flags: int
    size: int
    segment: int
    segment_count: int
    section: int
    section_count: int


def _elf(head: bytes, size_bytes: int) -> tuple[LibraryKind, str, int]:
    """Return kind, machine and bits from an ELF header.

    ld stops at a header that contradicts itself and at a table that lies beyond the end of the file ("file
    too short"), whatever machine the file is for.
    """
    nothing: tuple[LibraryKind, str, int] = ("unrecognised", "", 0)
    bits = {1: 32, 2: 64}.get(head[4] if len(head) > 6 else 0, 0)
    length, fields, section = {32: (52, "HHIIIIIHHHHH", 40), 64: (64, "HHIQQQIHHHHH", 64)}.get(
        bits, (0, "", 0)
    )
    if not bits or len(head) < length or head[5] not in (1, 2) or head[6] != 1:
        return nothing
    header = _Header(*struct.unpack_from((">" if head[5] == 2 else "<") + fields, head, 16))
    has_sections = header.sections >= length
    if header.section_count and (not has_sections or header.section != section):
        return nothing
    if header.kind == 1 and not has_sections:
        return nothing
    ends = [header.segments + header.segment_count * header.segment if header.segment_count else 0]
    ends += [header.sections + max(header.section_count, 1) * section if has_sections else 0]
    if max(ends) > size_bytes:
        return nothing
    return _ET.get(header.kind, "unrecognised"), _EM.get(header.machine, f"EM {header.machine}"), bits


def _archive(data: bytes, size_bytes: int, link: str, resolved: str) -> LibraryFile:
    """Return what an archive is, from its beginning: ld judges it by its first member.

    Another machine's member makes ld go past the archive. One of its own needs a symbol table before it
    ("archive has no index" otherwise).
    """
    offset, indexed = 8, False
    while offset + 60 <= len(data):
        name, size = data[offset : offset + 16].rstrip(), data[offset + 48 : offset + 58].strip()
        if not size.isdigit():
            return LibraryFile("unrecognised", link=link, resolved=resolved)
        start, length = offset + 60, int(size)
        if name not in (b"/", b"//", b"/SYM64/"):
            thin = data.startswith(b"!<thin>")
            body = b"" if thin else data[start : start + min(length, 64)]
            kind, machine, bits = _member(body, min(length, size_bytes - start))
            return LibraryFile(kind, machine, bits, link, resolved, reason="" if indexed else "no index")
        indexed = indexed or name != b"//"
        offset = start + length + length % 2
    damaged = offset == 8 and len(data) > 8
    return LibraryFile("unrecognised" if damaged else "archive", link=link, resolved=resolved)


def _member(head: bytes, size_bytes: int) -> tuple[LibraryKind, str, int]:
    """Return what an archive is by its first member; one that is no ELF file tells no machine."""
    if not head.startswith(b"\x7fELF") or len(head) < 64:
        return "archive", "", 0
    kind, machine, bits = _elf(head, size_bytes)
    return ("unrecognised" if kind == "unrecognised" else "archive"), machine, bits


def _text(data: bytes, link: str, resolved: str) -> LibraryFile:
    """Return what ld takes a file for that is neither ELF nor archive: a linker script, or nothing."""
    from cudadoctor.probes.linker_script import read_script  # a grammar, for a file in a hundred

    script = read_script(data.decode("latin-1"))
    kind: LibraryKind = "script"
    if not script.valid:
        kind = "text" if b"\0" not in data and data.isascii() else "unrecognised"
    members = script.members if script.valid else ()
    return LibraryFile(kind, "", 0, link, resolved, members, script.output_format, script.reason)
