"""What the folders that a linker or loader may search hold, for the library names that link lines use.

A folder is never listed as a whole (but for a toolkit's own): each name is looked up, so that the size of
the environment does not matter.
"""

from __future__ import annotations

import re
import struct

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

#: Names that some link line of the stack, or a CMake target of FindCUDAToolkit, asks for.
NAMES = (
    "cudart cuda cublas cublasLt cufft curand cusolver cusparse nvrtc nvJitLink nvidia-ml cudnn nccl "
    "c10 c10_cuda torch torch_cpu torch_cuda torch_python"
).split()
_RUNTIME = ("libcuda.so.1", "libcudart.so*")
_EM = {62: "x86_64", 183: "aarch64", 3: "i386", 40: "arm", 243: "riscv64", 21: "ppc64", 22: "s390x"}
_ET: dict[int, LibraryKind] = {1: "object", 2: "executable", 3: "shared"}
_SCRIPT_LIMIT = 64 << 10
_ARCHIVE_LIMIT = 4 << 20


def probe(
    host: Host, environ: Environ, packages: Packages, toolkits: Toolkits, compilers: Compilers, machine: Machine
) -> Libraries:
    """Return what each candidate folder holds."""
    folders = _folders(environ, packages, toolkits, compilers)
    owned = {folder for toolkit in toolkits.toolkits for folder in (*toolkit.lib, *toolkit.stubs)}
    names = {f"lib{name}{suffix}" for name in NAMES for suffix in (".so", ".a")} | set(_RUNTIME)
    directories = {folder: _directory(host, folder, names, folder in owned) for folder in folders}
    members = _members(directories)
    if more := {name for name in members if not name.startswith("/")}:
        directories = {folder: _directory(host, folder, names | more, folder in owned) for folder in folders}
    absolute = {name: file for name in members if name.startswith("/") and (file := describe(host, name))}
    return Libraries(directories, tuple(sorted(names | more)), absolute, tuple(_cached_driver(host)))


def _members(directories: dict[str, LinkDirectory]) -> set[str]:
    """Return the files that linker scripts lead to: absolute paths, or names to look for in every folder."""
    found = set()
    for directory in directories.values():
        for file in directory.files.values():
            for member in file.members:
                name = member[2:]
                found |= {f"lib{name}.so", f"lib{name}.a"} if member.startswith("-l") else {member}
    return found


def _folders(
    environ: Environ, packages: Packages, toolkits: Toolkits, compilers: Compilers
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
    for entry in (environ.get("LD_LIBRARY_PATH") or "").split(":"):
        found[entry or "."] = None
    if path := environ.get("TRITON_LIBCUDA_PATH"):
        found[path] = None
    for compiler in compilers.compilers.values():
        if compiler.search is not None:
            found |= dict.fromkeys(search_folders(compiler.search, environ.get("LIBRARY_PATH")))
    return found


def search_folders(search: LinkSearch, library_path: str | None) -> list[str]:
    """Return the folders of a search order with LIBRARY_PATH filled in, the line's own `-L` left out."""
    from cudadoctor.simulate.linker import expand

    return expand(search, (), library_path)


def _directory(host: Host, folder: str, names: set[str], owned: bool) -> LinkDirectory:
    if host.kind(folder) != "directory":
        return LinkDirectory(False)
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
    real = host.realpath(folder)
    return LinkDirectory(True, files, "" if real == folder else real, reason)


#: Files of a toolkit's own folder that are worth a look: its libraries by link name and by soname.
_CUDA = re.compile(r"lib(cu|nv|nccl)[\w-]*\.(so(\.\d+)*|a|so\*)$")


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
        kind_there = "loop" if host.kind(resolved, follow=False) == "link" else "dangling"
        return LibraryFile(kind_there, link=link, resolved=resolved)
    return _content(host, path, link, resolved)


def _content(host: Host, path: str, link: str, resolved: str) -> LibraryFile:
    try:
        head = host.head(path, 64)
        if head.startswith(b"\x7fELF"):
            kind, machine, bits = _elf(head, host.size(path))
            return LibraryFile(kind, machine, bits, link, resolved)
        if head.startswith((b"!<arch>\n", b"!<thin>\n")):
            kind, machine, bits = _archive(host, path, head)
            return LibraryFile(kind, machine, bits, link, resolved)
        if not head:
            return LibraryFile("empty", link=link, resolved=resolved)
        return _script(host.head(path, _SCRIPT_LIMIT), link, resolved)
    except NotRegular:
        return LibraryFile("directory" if host.kind(path) == "directory" else "special", link=link, resolved=resolved)
    except OSError as error:
        return LibraryFile("unreadable", link=link, resolved=resolved, reason=error.strerror or "")


def _elf(head: bytes, size_bytes: int) -> tuple[LibraryKind, str, int]:
    """Return kind, machine and bits from an ELF header.

    A header whose own sizes are wrong, or whose section table lies beyond the end of the file, is one that
    ld stops at ("file too short"), whatever machine it is for.
    """
    bits = {1: 32, 2: 64}.get(head[4] if len(head) > 4 else 0, 0)
    shape = {32: (52, "HHIIIIIHHHHHH"), 64: (64, "HHIQQQIHHHHHH")}.get(bits)
    if shape is None or len(head) < shape[0]:
        return "unrecognised", "", 0
    fields = struct.unpack_from((">" if head[5] == 2 else "<") + shape[1], head, 16)
    kind, machine, sections, header, count, each = fields[0], fields[1], *(fields[i] for i in (5, 7, 11, 10))
    whole = header == shape[0] and sections + count * each <= size_bytes
    return (_ET.get(kind, "unrecognised") if whole else "unrecognised"), _EM.get(machine, f"EM {machine}"), bits


def _archive(host: Host, path: str, head: bytes) -> tuple[LibraryKind, str, int]:
    """Return kind, machine and bits of an archive: ld judges it by its first object.

    A symbol table comes first in any archive that ld can use ("archive has no index" otherwise).
    """
    data = host.head(path, _ARCHIVE_LIMIT) if head.startswith(b"!<arch>") else b""
    offset, indexed = 8, False
    while offset + 60 <= len(data):
        name, size = data[offset : offset + 16].rstrip(), data[offset + 48 : offset + 58].strip()
        if not size.isdigit():
            return "unrecognised", "", 0
        if name not in (b"/", b"//", b"/SYM64/"):
            body = data[offset + 60 : offset + 60 + int(size)]
            if body.startswith(b"\x7fELF"):
                return "archive", *_elf(body[:64], int(size))[1:]
            return ("archive" if indexed else "unrecognised"), "", 0
        indexed = True
        offset += 60 + int(size) + int(size) % 2
    damaged = offset == 8 and len(data) > 8
    return "unrecognised" if damaged else "archive", "", 0


_COMMENT = re.compile(r"/\*.*?\*/|^\s*#[^\n]*", re.DOTALL | re.MULTILINE)
_BALANCED = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))+\)"
_COMMANDS = "INPUT GROUP OUTPUT_FORMAT OUTPUT_ARCH TARGET SEARCH_DIR ENTRY EXTERN STARTUP ASSERT PROVIDE HIDDEN"
_STATEMENT = re.compile(rf"\s*(?:(?:{'|'.join(_COMMANDS.split())})\s*{_BALANCED}|[A-Za-z_.$][\w.$]*\s*=[^;=]+;|;)")


def _script(data: bytes, link: str, resolved: str) -> LibraryFile:
    """Read a linker script as far as its commands name files; ld stops at text that is none."""
    text = _COMMENT.sub(" ", data.decode("utf-8", "replace"))
    if b"\0" in data or _STATEMENT.sub("", text).strip():
        printable = b"\0" not in data and data.isascii()
        return LibraryFile("text" if printable else "unrecognised", link=link, resolved=resolved)
    members: list[str] = []
    for body in re.findall(rf"\b(?:INPUT|GROUP)\s*({_BALANCED})", text):
        words = re.sub(r"\bAS_NEEDED\b|[()]|(?<=\s),(?=\s)", " ", body).split()
        members += [word.strip('"') for word in words]
    output = re.search(r"OUTPUT_FORMAT\s*\(\s*\"?([^\s,)\"]+)", text)
    return LibraryFile(
        "script", link=link, resolved=resolved, members=tuple(members), output_format=output[1] if output else ""
    )


def _cached_driver(host: Host) -> list[str]:
    """Return where the loader's cache has libcuda.so.1: what Triton asks `ldconfig -p` for."""
    try:
        data = host.read("/etc/ld.so.cache", 16 << 20)
    except OSError:
        return []
    if b"libcuda.so.1\0" not in data:
        return []
    paths = re.findall(rb"\0(/[^\0]*/libcuda\.so\.1)(?=\0)", data)
    return sorted({path.decode("utf-8", "surrogateescape") for path in paths})
