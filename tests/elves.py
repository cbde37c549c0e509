"""Small ELF files made by hand, and what glibc's own loader makes of them."""

from __future__ import annotations

import os
import platform
import re
import shutil
import struct
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

MACHINE = {"x86_64": 62, "aarch64": 183}.get(platform.machine(), 62)
LOADER = {62: "/lib64/ld-linux-x86-64.so.2", 183: "/lib/ld-linux-aarch64.so.1"}[MACHINE]
NODEFLIB, PIE = 0x800, 0x08000000
_PAGE = 0x10000


class _Strings:
    def __init__(self) -> None:
        self.data = bytearray(b"\0")

    def add(self, text: str) -> int:
        self.data += text.encode() + b"\0"
        return len(self.data) - len(text.encode()) - 1


def elf_hash(name: str) -> int:
    """Return the hash of System V, which versions are compared by."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte
        top = value & 0xF0000000
        value = (value ^ top >> 24) & ~top & 0xFFFFFFFF
    return value


def elf(
    soname: str = "",
    needed: Sequence[str] = (),
    *,
    rpath: str | None = None,
    runpath: str | None = None,
    flags_1: int = 0,
    requires: Mapping[str, Sequence[str]] | None = None,
    weak: Iterable[str] = (),
    provides: Sequence[str] = (),
    undefined: Sequence[str] = (),
    defined: Sequence[str] = (),
    interpreter: str = "",
    machine: int = MACHINE,
) -> bytes:
    """Return a shared library of 64 bits, little-endian, that the loader can load and that holds no code."""
    strings = _Strings()
    entries = [(1, strings.add(name)) for name in needed]
    entries += [(14, strings.add(soname))] if soname else []
    entries += [(tag, strings.add(text)) for tag, text in ((15, rpath), (29, runpath)) if text is not None]
    entries += [(0x6FFFFFFB, flags_1)] if flags_1 else []
    symbols = [(0, 0, 0, 0, 0, 0)]
    symbols += [(strings.add(name), 0x12, 0, 0, 0, 0) for name in undefined]
    symbols += [(strings.add(name), 0x12, 0, 1, 0x40, 0) for name in defined]
    names = {name: strings.add(name) for name in (*provides, *(requires or {}), soname) if name}
    needs = _needs(strings, names, requires or {}, set(weak))
    definitions = _definitions(names, soname, provides) if provides else b""
    tables = {
        6: b"".join(struct.pack("<IBBHQQ", *symbol) for symbol in symbols),
        4: struct.pack("<5I", 1, len(symbols), 0, *([0] * 2)) + bytes(4 * len(symbols)),
        0x6FFFFFFE: needs,
        0x6FFFFFFC: definitions,
        5: bytes(strings.data),
    }
    headers = 3 if interpreter else 2
    at, body = 64 + 56 * headers, b""
    for tag, table in tables.items():
        if table:
            padding = -(at + len(body)) % 8
            body += bytes(padding)
            entries.append((tag, at + len(body)))
            body += table
    entries += [(10, len(strings.data)), (11, 24)]
    entries += [(0x6FFFFFFF, len(requires or {}))] if needs else []
    entries += [(0x6FFFFFFD, len(provides) + 1)] if definitions else []
    body += bytes(-(at + len(body)) % 8)
    dynamic = b"".join(struct.pack("<qQ", tag, value) for tag, value in (*entries, (0, 0)))
    dynamic_at = at + len(body)
    body += dynamic
    text_at = at + len(body)
    body += interpreter.encode() + b"\0"
    size = at + len(body)
    segments = struct.pack("<IIQQQQQQ", 1, 6, 0, 0, 0, size, size, _PAGE)
    segments += struct.pack("<IIQQQQQQ", 2, 6, *[dynamic_at] * 3, len(dynamic), len(dynamic), 8)
    if interpreter:
        segments += struct.pack(
            "<IIQQQQQQ", 3, 4, *[text_at] * 3, len(interpreter) + 1, len(interpreter) + 1, 1
        )
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, 0, 0, 64, 56, headers, 64, 0, 0)
    return header + segments + body


def _needs(
    strings: _Strings, names: dict[str, int], requires: Mapping[str, Sequence[str]], weak: set[str]
) -> bytes:
    data = b""
    for index, (file, versions) in enumerate(requires.items()):
        size = 16 + 16 * len(versions)
        following = size if index < len(requires) - 1 else 0
        data += struct.pack("<HHIII", 1, len(versions), names[file], 16, following)
        for number, version in enumerate(versions):
            flags, step = (2 if version in weak else 0), (16 if number < len(versions) - 1 else 0)
            data += struct.pack("<IHHII", elf_hash(version), flags, 2 + number, strings.add(version), step)
    return data


def _definitions(names: dict[str, int], soname: str, provides: Sequence[str]) -> bytes:
    data = b""
    for index, version in enumerate((soname, *provides)):
        following = 28 if index < len(provides) else 0
        data += struct.pack("<HHHHIII", 1, not index, index + 1, 1, elf_hash(version), 20, following)
        data += struct.pack("<II", names[version], 0)
    return data


def loader_cache(*paths: str) -> bytes:
    """Return a cache of these libraries, each by its own name, as ldconfig writes it for this machine."""
    flags = {62: 0x303, 183: 0xA03}[MACHINE]
    strings, entries, start = b"", b"", 48 + 24 * len(paths)
    for path in paths:
        at = start + len(strings)
        entries += struct.pack("<iIIIQ", flags, at + path.rindex("/") + 1, at, 0, 0)
        strings += path.encode() + b"\0"
    head = b"glibc-ld.so.cache1.1" + struct.pack("<II4xI12x", len(paths), len(strings), 0)
    return head + entries + strings


def plant(path: Path, *arguments: object, **options: object) -> Path:
    """Write an ELF file and the folders it needs; return its path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(elf(*arguments, **options))  # type: ignore[arg-type]
    return path


class Trace(NamedTuple):
    """What the loader would load, names and paths in its order; what it does not find; its complaint."""

    found: list[tuple[str, str]]
    missing: list[str]
    error: str


_LINE = re.compile(r"\t(.*?)(?: => (.*?))? \(0x[0-9a-f]+\)$")


def has_loader() -> bool:
    """Return whether glibc's loader is here to ask."""
    return shutil.which(LOADER) is not None


def trace(path: str, library_path: str | None, cwd: str, run: bool = False, **variables: str) -> Trace:
    """Ask the loader what it would load for a file, or for a program that is run: it executes nothing."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    environ |= {"LD_TRACE_LOADED_OBJECTS": "1", **variables}
    if library_path is not None:
        environ["LD_LIBRARY_PATH"] = library_path
    command = [path] if run else [LOADER, path]
    ran = subprocess.run(
        command, env=environ, cwd=cwd, capture_output=True, text=True, errors="surrogateescape", timeout=60
    )
    found, missing = [], []
    for line in ran.stdout.splitlines():
        if line.endswith(" => not found"):
            missing.append(line[1:-13])
        elif (match := _LINE.match(line)) and not match[1].startswith("linux-vdso"):
            found.append((match[1], match[2] or match[1]))
    return Trace([pair for pair in found if "/ld-linux" not in f"/{pair[0]}"], missing, ran.stderr.strip())
