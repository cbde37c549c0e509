"""What the loader needs to know of an ELF file, from its headers and its dynamic segment alone.

Layout and numbers are those of the System V gABI ("Program Header", "Dynamic Section") and of the LSB's
"Symbol Versioning" (refspecs.linuxfoundation.org, read 2026-11). Whatever a file claims, less than 24 MiB of
it are read, its names have less than 1 MiB together, and nothing is followed backwards.
"""

from __future__ import annotations

import struct
from itertools import takewhile
from operator import itemgetter

from cudadoctor.facts import SharedObject, VersionNeed
from cudadoctor.host import Host

MACHINES = {62: "x86_64", 183: "aarch64", 3: "i386", 40: "arm", 243: "riscv64", 21: "ppc64", 22: "s390x"}
_BITS = {1: 32, 2: 64}
_HEADER = {32: "HHIIIIIHHH", 64: "HHIQQQIHHH"}  #: from e_type to e_phnum
_SEGMENT = {32: "IIIIIIII", 64: "IIQQQQQQ"}
_SYSTEMS = (0, 3)  #: the ABIs that the GNU loader takes: System V's and GNU's own
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _HASH, _STRTAB, _SYMTAB, _STRSZ, _SONAME, _RPATH, _RUNPATH = 1, 4, 5, 6, 10, 14, 15, 29
_GNU_HASH, _FLAGS_1, _VERDEF, _VERNEED = 0x6FFFFEF5, 0x6FFFFFFB, 0x6FFFFFFC, 0x6FFFFFFE
_NODEFLIB, _PIE = 0x800, 0x08000000
_WEAK = 2  #: in a version that is needed
_GLOBAL = 1  #: the binding of a symbol

#: Records of needed and defined versions, by byte order: the head of a list, and an entry of it.
_NEED = {order: (struct.Struct(f"{order}HHIII"), struct.Struct(f"{order}IHHII")) for order in "<>"}
_DEFINITION = {order: (struct.Struct(f"{order}HHHHIII"), struct.Struct(f"{order}II")) for order in "<>"}

_SEGMENTS = 4096
_DYNAMIC_BYTES = 256 << 10
_VERSIONS = 16384
_VERSION_BYTES = 1 << 20
_STRING_BYTES = 4096
_SPAN_BYTES = 8 << 20  #: of a string table that is read for the names in it
_TEXT_BYTES = 1 << 20  #: of names: they may overlap, and then have more than the file
_NEEDED_NAMES, _NAME_BYTES = 512, 255  #: no library needs as many others, and no file's name is longer
_BLOCK_BYTES = 4096  #: the least that is read at once
_BLOCKS = 4  #: that are kept, for what lies close together
_BEFORE_BYTES = 6144  #: in front of the tables of versions: their names mostly lie there
_NEAR_BYTES = 2048  #: strings that are as near to each other are read at once
_SYMBOL_BYTES = 4 << 20
_CHAIN_BYTES = 64 << 10


class Damaged(Exception):
    """The file is not what its headers say, or none that can be loaded; the text says why."""


def read(host: Host, path: str, size_bytes: int | None = None) -> SharedObject:
    """Return what the file says to the loader; `problem` says why it says nothing. Raises OSError.

    `size_bytes`: the file's size, where that is known.
    """
    file = None
    try:
        file = _File(host, path, size_bytes)
        return file.described()
    except Damaged as damage:
        if file is None:
            return SharedObject(problem=str(damage))
        # The loader goes past a file for another machine before it looks any closer.
        return SharedObject(
            problem=str(damage), machine=file.machine, bits=file.bits, big_endian=file.order == ">"
        )


def symbols(host: Host, path: str, limit_bytes: int = _SYMBOL_BYTES) -> tuple[set[str], set[str]]:
    """Return the symbols that the file needs from others, weak ones aside, and those it defines, by name.

    Raises OSError, and Damaged also where a table is larger than is worth a look.
    """
    file = _File(host, path)
    file.dynamic()
    return file.symbols(limit_bytes)


class _File:
    """One ELF file, read in pieces."""

    def __init__(self, host: Host, path: str, size_bytes: int | None = None) -> None:
        self._host, self._path = host, path
        self._size = host.size(path) if size_bytes is None else size_bytes
        self._loads: list[tuple[int, int, int]] = []  # address, offset, bytes in the file
        self._dynamic_place = self._interpreter_place = (0, 0)
        self._tags: dict[int, int] = {}  # the loader takes the last value where there are several
        self._text_left = _TEXT_BYTES
        head = self._head = host.read_at(path, 0, _BLOCK_BYTES)
        self._blocks = [(0, head)]
        if len(head) < 64:
            raise Damaged("file too short")
        if not head.startswith(b"\x7fELF") or head[4] not in _BITS:
            raise Damaged("invalid ELF header")
        self.bits, self.order = _BITS[head[4]], ">" if head[5] == 2 else "<"
        machine: int
        self.type, machine = struct.unpack_from(self.order + "HH", head, 16)
        self.machine = MACHINES.get(machine, f"EM {machine}")

    def _read_segments(self) -> None:
        """Note where the segments are; raise Damaged for a header that the loader refuses."""
        if self._head[6] != 1:
            raise Damaged("ELF file version ident does not match current one")
        if self._head[7] not in _SYSTEMS:
            raise Damaged("ELF file OS ABI invalid")
        fields = struct.unpack_from(self.order + _HEADER[self.bits], self._head, 16)
        offset, entry_bytes, count = fields[4], fields[8], fields[9]
        form = self.order + _SEGMENT[self.bits]
        if self.type not in (2, 3):
            raise Damaged("only ET_DYN and ET_EXEC can be loaded")
        if entry_bytes != struct.calcsize(form):
            raise Damaged("ELF file's phentsize not the expected size")
        if count > _SEGMENTS:
            raise Damaged(f"{count} program headers")
        table = self._exactly(offset, count * entry_bytes, "program headers")
        for fields in struct.iter_unpack(form, table):
            kind = fields[0]
            if self.bits == 64:
                _, _, at, address, _, length, _, _ = fields
            else:
                _, at, address, _, length, _, _, _ = fields
            if kind == _LOAD:
                self._loads.append((address, at, length))
            elif kind == _DYNAMIC:
                self._dynamic_place = (address, length)
            elif kind == _INTERPRETER:
                self._interpreter_place = (at, length)

    def _exactly(self, offset: int, count: int, what: str) -> bytes:
        data = self.up_to(offset, count)
        if len(data) < count:
            raise Damaged(f"the file ends before its {what}")
        return data

    def up_to(self, offset: int, count: int) -> bytes:
        """Return these bytes of the file, fewer where it ends."""
        for start, data in self._blocks:
            end = start + len(data)
            if start <= offset and (offset + count <= end or end == self._size):
                return data[offset - start : offset - start + count]
        if offset >= self._size:
            return b""
        wanted = min(max(count, _BLOCK_BYTES), self._size - offset)
        data = self._host.read_at(self._path, offset, wanted)
        self._blocks = [(offset, data), *self._blocks[: _BLOCKS - 1]]
        return data[:count]

    def _offset(self, address: int, what: str) -> int:
        for start, offset, length in self._loads:
            if start <= address < start + length:
                return offset + address - start
        raise Damaged(f"its {what} is in no segment of it")

    # --- the dynamic segment --------------------------------------------------------------------------------

    def described(self) -> SharedObject:
        """Return everything that the loader goes by; raise Damaged."""
        dynamic, tags = self.dynamic(), self._tags
        flags = tags.get(_FLAGS_1, 0)
        needs, provides = self._versions()
        needed = [value for tag, value in dynamic if tag == _NEEDED]
        if len(needed) > _NEEDED_NAMES:
            raise Damaged(f"it needs {len(needed)} libraries")
        at = [*needed, *provides, *(tags[tag] for tag in (_SONAME, _RPATH, _RUNPATH) if tag in tags)]
        for file, names in needs:
            at.append(file)
            at += [name for name, _ in names]
        text = self._strings(at)
        if any(len(text[value]) > _NAME_BYTES for value in needed):
            raise Damaged("it needs a library whose name is longer than any file's")
        return SharedObject(
            soname=text.get(tags.get(_SONAME), ""),
            needed=tuple([text[value] for value in needed]),
            rpath=text.get(tags.get(_RPATH)),
            runpath=text.get(tags.get(_RUNPATH)),
            no_default_folders=bool(flags & _NODEFLIB),
            executable=self.type == 2 or bool(flags & _PIE),
            interpreter=self._interpreter(),
            requires=tuple(
                VersionNeed(text[file], tuple([text[name] for name, weak in names if not weak]))
                for file, names in needs
            ),
            provides=tuple([text[value] for value in provides]),
            machine=self.machine,
            bits=self.bits,
            big_endian=self.order == ">",
        )

    def dynamic(self) -> list[tuple[int, int]]:
        """Return the entries of the dynamic segment, tag and value; raise Damaged where there is none."""
        self._read_segments()
        if not self._loads:
            raise Damaged("object file has no loadable segments")
        address, length = self._dynamic_place
        if not length:
            raise Damaged("object file has no dynamic section")
        form = self.order + ("qQ" if self.bits == 64 else "iI")
        entry_bytes = struct.calcsize(form)
        length = min(length, _DYNAMIC_BYTES) // entry_bytes * entry_bytes
        data = self._exactly(self._offset(address, "dynamic segment"), length, "dynamic segment")
        entries: list[tuple[int, int]] = list(takewhile(itemgetter(0), struct.iter_unpack(form, data)))
        self._tags = dict(entries)
        return entries

    def _interpreter(self) -> str:
        offset, length = self._interpreter_place
        if not length:
            return ""
        return _text(self.up_to(offset, min(length, _STRING_BYTES)))

    def _strings(self, at: list[int]) -> dict[int | None, str]:
        """Return the strings at these offsets of the string table, those near to each other in one go."""
        if not at:
            return {}
        table = self._offset(self._tags.get(_STRTAB, 0), "string table")
        found: dict[int | None, str] = {}
        if max(at) - min(at) <= _BLOCK_BYTES:
            return self._window(table, sorted(set(at)))
        window: list[int] = []
        left = _SPAN_BYTES
        for offset in [*sorted(set(at)), -1]:
            if window and not 0 <= offset - window[-1] <= _NEAR_BYTES:
                left -= window[-1] - window[0] + _STRING_BYTES
                if left < 0:
                    raise Damaged("its names are longer than any that could be loaded")
                found |= self._window(table, window)
                window = []
            window.append(offset)
        return found

    def _window(self, table: int, offsets: list[int]) -> dict[int | None, str]:
        start, last = offsets[0], offsets[-1]
        data = self.up_to(table + start, last - start + _STRING_BYTES)
        if data.find(b"\0", last - start) < 0:
            raise Damaged("its string table is out of range")
        found: dict[int | None, str] = {}
        for offset in offsets:
            at = offset - start
            end = data.find(b"\0", at, at + _STRING_BYTES)
            text = data[at : end if end >= 0 else at + _STRING_BYTES]
            self._text_left -= len(text)
            if self._text_left < 0:
                raise Damaged("its names are longer than any that could be loaded")
            found[offset] = text.decode("utf-8", "surrogateescape")
        return found

    # --- versions -------------------------------------------------------------------------------------------

    def _versions(self) -> tuple[list[tuple[int, list[tuple[int, bool]]]], list[int]]:
        """Return the versions that are needed and those that are defined; strings as offsets."""
        tables = [
            None if (address := self._tags.get(tag)) is None else self._offset(address, f"table of {which}")
            for tag, which in ((_VERNEED, "needed versions"), (_VERDEF, "defined versions"))
        ]
        if there := [table for table in tables if table is not None]:
            start = max(0, min(there) - _BEFORE_BYTES)
            self.up_to(start, min(there) - start + _BLOCK_BYTES)
        needed, defined = tables
        return (
            [] if needed is None else self._needs(_Records(self, needed)),
            [] if defined is None else self._provides(_Records(self, defined)),
        )

    def _needs(self, records: _Records) -> list[tuple[int, list[tuple[int, bool]]]]:
        """Return each file and the versions needed of it, weak ones marked."""
        head, entry = _NEED[self.order]
        found, at = [], 0
        while True:
            _, count, file, first, following = records.at(at, head)
            names, inner = [], at + first
            for _ in range(count):
                _, flags, _, name, step = records.at(inner, entry)
                names.append((name, bool(flags & _WEAK)))
                if not step:
                    break
                inner += step
            found.append((file, names))
            if not following:
                return found
            at += following

    def _provides(self, records: _Records) -> list[int]:
        """Return the versions that the file defines, its own name among them."""
        head, entry = _DEFINITION[self.order]
        found, at = [], 0
        while True:
            _, _, _, _, _, first, following = records.at(at, head)
            found.append(records.at(at + first, entry)[0])
            if not following:
                return found
            at += following

    # --- symbols --------------------------------------------------------------------------------------------

    def symbols(self, limit_bytes: int) -> tuple[set[str], set[str]]:
        """See the function of this name."""
        # name, info, section; what lies between them is skipped.
        form = self.order + ("IBxH16x" if self.bits == 64 else "I8xBxH")
        length = self._symbol_count() * struct.calcsize(form)
        size = self._tags.get(_STRSZ, 0)
        if max(length, size) > limit_bytes:
            raise Damaged("more symbols than are looked at")
        table = self._offset(self._tags.get(_SYMTAB, 0), "symbol table")
        strings = self.up_to(self._offset(self._tags.get(_STRTAB, 0), "string table"), size)
        needed, defined = set(), set()
        for name, info, section in struct.iter_unpack(form, self._exactly(table, length, "symbols")):
            if section:
                defined.add(_text(strings[name : name + _STRING_BYTES]))
            elif name and info >> 4 == _GLOBAL:
                needed.add(_text(strings[name : name + _STRING_BYTES]))
        return needed, defined

    def _symbol_count(self) -> int:
        """Return how many symbols there are: the GNU hash table's last chain ends with the last of them."""
        if (old := self._tags.get(_HASH)) is not None:
            return self._words(self._offset(old, "hash table"), 2)[1]
        table = self._offset(self._tags.get(_GNU_HASH, 0), "hash table")
        buckets, first, filter_words, _ = self._words(table, 4)
        if max(buckets, filter_words) * 8 > _SYMBOL_BYTES:
            raise Damaged("more symbols than are looked at")
        table += 16 + filter_words * self.bits // 8
        last = max(self._words(table, buckets), default=0)
        if last < first:
            return first
        chain = self.up_to(table + 4 * (buckets + last - first), _CHAIN_BYTES)
        for (word,) in struct.iter_unpack(self.order + "I", chain[: len(chain) // 4 * 4]):
            last += 1
            if word & 1:
                return last
        raise Damaged("its hash table has no end")

    def _words(self, offset: int, count: int) -> tuple[int, ...]:
        return struct.unpack(f"{self.order}{count}I", self._exactly(offset, 4 * count, "hash table"))


class _Records:
    """A table of linked records: read as far as its links lead, and no farther than is reasonable."""

    def __init__(self, file: _File, offset: int) -> None:
        self._file, self._offset, self._left = file, offset, _VERSIONS
        self._data = file.up_to(offset, _BLOCK_BYTES)

    def at(self, place: int, form: struct.Struct) -> tuple[int, ...]:
        """Return the fields of the record at `place`; raise Damaged where there is none."""
        self._left -= 1
        try:
            if self._left:
                return form.unpack_from(self._data, place)
        except struct.error:
            end = place + form.size
            if end <= _VERSION_BYTES:
                self._data = self._file.up_to(self._offset, 2 * end)
            if end <= len(self._data):
                return form.unpack_from(self._data, place)
        raise Damaged("its table of versions is out of range")


def _text(data: bytes) -> str:
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
