"""The loader's cache, /etc/ld.so.cache, as ldconfig of glibc 2.2 and later writes it.

The format is that of glibc's sysdeps/generic/dl-cache.h (read 2026-11): entries of 24 bytes behind a header,
behind the older format's entries where both are in one file; since 2.33 a table of CPU levels at the end.
"""

from __future__ import annotations

import struct
import threading
import weakref

from cudadoctor.facts import CachedLibrary
from cudadoctor.host import FileId, Host

_OLD, _NEW = b"ld.so-1.7.0", b"glibc-ld.so.cache1.1"
_HEADER = "20xII4xI12x"  #: entries, bytes of strings, where the extensions are
_ENTRY = "iIIIQ"  #: flags, name, path, system version, hardware
_EXTENSIONS, _LEVELS = 0xEAA42174, 1
_OF_A_LEVEL = 1 << 62
#: What marks a library of this machine: ELF for libc6, and which of the machine's word sizes.
_FLAGS = {"x86_64": 0x303, "aarch64": 0xA03, "ppc64": 0x503, "s390x": 0x403, "i386": 0x003}


_PATH = "/etc/ld.so.cache"
_LIMIT_BYTES = 16 << 20
#: What no real cache comes near: ldconfig's own hold a few thousand entries, and no file's name is as long.
_ENTRIES, _NAME_BYTES, _PATH_BYTES, _LEVEL_BYTES = 1 << 16, 256, 4096, 256


#: Of each machine the file that was read last, and its data: several probes ask for it, in threads.
_read: weakref.WeakKeyDictionary[Host, tuple[FileId, bytes]] = weakref.WeakKeyDictionary()
_reading = threading.Lock()


def read_cache(host: Host) -> bytes:
    """Return the cache's data, read once as long as it is the same file; nothing where it cannot be read."""
    try:
        with _reading:
            file = host.identity(_PATH)
            known = _read.get(host)
            if known is None or known[0] != file:
                known = _read[host] = (file, host.read(_PATH, _LIMIT_BYTES))
            return known[1]
    except OSError:
        return b""


def cached(host: Host, name: str) -> list[str]:
    """Return where the cache has a library, for any machine and in its order, as `ldconfig -p` prints it."""
    data = read_cache(host)
    if name.encode("utf-8", "surrogateescape") + b"\0" not in data:
        return []
    return list(dict.fromkeys(entry.path for entry in LoaderCache(data, "").entries(name)))


class LoaderCache:
    """The cache by name, for one machine or, with "", for all; empty where the data is not in the format."""

    def __init__(self, data: bytes, machine: str) -> None:
        self._order = ">" if machine == "s390x" else "<"
        self._data = data
        self._by_name: dict[bytes, list[tuple[int, int]]] = {}
        self._levels: list[str] = []
        try:
            self._read(_FLAGS.get(machine, -1) if machine else None)
        except (struct.error, IndexError):
            self._by_name = {}

    def entries(self, name: str) -> tuple[CachedLibrary, ...]:
        """Return what there is for a name, in the cache's order; entries for odd hardware are left out."""
        found = []
        for path, hardware in self._by_name.get(name.encode("utf-8", "surrogateescape"), ()):
            text = self._text(path, _PATH_BYTES).decode("utf-8", "surrogateescape")
            if not hardware:
                found.append(CachedLibrary(text))
            elif hardware & _OF_A_LEVEL and (index := hardware & 0xFFFFFFFF) < len(self._levels):
                found.append(CachedLibrary(text, self._levels[index]))
        return tuple(found)

    def _read(self, wanted: int | None) -> None:
        self._base = 0
        if self._data.startswith(_OLD):
            (count,) = struct.unpack_from(self._order + "12xI", self._data)
            self._base = (16 + 12 * count + 7) // 8 * 8
        if not self._data.startswith(_NEW, self._base):
            return
        count, _, extensions = struct.unpack_from(self._order + _HEADER, self._data, self._base)
        start = self._base + struct.calcsize(self._order + _HEADER)
        table = self._data[start : start + 24 * min(count, _ENTRIES)]
        for flags, name, path, _, hardware in struct.iter_unpack(self._order + _ENTRY, table):
            if wanted is None or flags == wanted:
                self._by_name.setdefault(self._text(name, _NAME_BYTES), []).append((path, hardware))
        if extensions:
            self._levels = list(self._read_levels(extensions))

    def _read_levels(self, at: int) -> list[str]:
        magic, count = struct.unpack_from(self._order + "II", self._data, at)
        if magic != _EXTENSIONS:
            return []
        for index in range(min(count, 64)):
            tag, _, offset, size = struct.unpack_from(self._order + "IIII", self._data, at + 8 + 16 * index)
            if tag == _LEVELS:
                table = self._data[offset : offset + min(size, _LEVEL_BYTES) // 4 * 4]
                names = struct.iter_unpack(self._order + "I", table)
                return [self._text(name, _NAME_BYTES).decode("utf-8", "surrogateescape") for (name,) in names]
        return []

    def _text(self, offset: int, limit_bytes: int) -> bytes:
        """Return the string at an offset; an empty one where none of this length ends there."""
        start = self._base + offset
        end = self._data.find(b"\0", start, start + limit_bytes)
        return self._data[start : end if end >= 0 else start]
