"""The reader of ELF files against pyelftools, and against files that lie."""

import os
import random
import re
import struct
import time
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

import cudadoctor.elf as reader
from cudadoctor.facts import SharedObject, VersionNeed
from cudadoctor.host import NotRegular, RealHost
from cudadoctor.testing import FakeHost
from tests.elves import elf
from tests.real.conftest import _do_without

HOST = RealHost()
LIMIT = 400
MUTATIONS = int(os.environ.get("CUDADOCTOR_EXAMPLES", "1500"))


# --- against pyelftools -------------------------------------------------------------------------------------


def told_by_pyelftools(path: str) -> SharedObject | None:
    """Return what pyelftools says of the same things; None where the file has no dynamic segment."""
    try:
        from elftools.elf.dynamic import DynamicSegment
        from elftools.elf.elffile import ELFFile
    except ImportError:
        _do_without("pyelftools is not installed")
    with Path(path).open("rb") as stream:
        file = ELFFile(stream)
        dynamic = next((one for one in file.iter_segments() if isinstance(one, DynamicSegment)), None)
        if dynamic is None:
            return None
        tags: dict[str, list[str]] = {}
        for tag in dynamic.iter_tags():
            for kind in ("needed", "soname", "rpath", "runpath"):
                if tag.entry.d_tag == f"DT_{kind.upper()}":
                    tags.setdefault(kind, []).append(getattr(tag, kind))
        needs, provides = versions(file)
        return SharedObject(
            soname=tags.get("soname", [""])[-1],
            needed=tuple(tags.get("needed", ())),
            rpath=tags["rpath"][-1] if "rpath" in tags else None,
            runpath=tags["runpath"][-1] if "runpath" in tags else None,
            requires=needs,
            provides=provides,
        )


def versions(file: Any) -> tuple[tuple[VersionNeed, ...], tuple[str, ...]]:
    from elftools.elf.gnuversions import GNUVerDefSection, GNUVerNeedSection

    needs, provides = [], []
    for section in file.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for need, auxiliaries in section.iter_versions():
                names = [(one.name, bool(one["vna_flags"] & 2)) for one in auxiliaries]
                strong = tuple(name for name, weak in names if not weak)
                needs.append(VersionNeed(str(need.name), strong))
        elif isinstance(section, GNUVerDefSection):
            provides += [next(iter(auxiliaries)).name for _, auxiliaries in section.iter_versions()]
    return tuple(needs), tuple(provides)


def told_by_us(path: str) -> SharedObject:
    found = reader.read(HOST, path)
    return SharedObject(
        soname=found.soname,
        needed=found.needed,
        rpath=found.rpath,
        runpath=found.runpath,
        requires=found.requires,
        provides=found.provides,
    )


def is_elf(path: str) -> bool:
    try:
        return os.path.isfile(path) and not os.path.islink(path) and HOST.head(path, 4) == b"\x7fELF"
    except OSError:
        return False


def compare(paths: Iterable[str]) -> int:
    """Compare every ELF file among these; return how many there were."""
    count = 0
    for path in filter(is_elf, paths):
        theirs = told_by_pyelftools(path)
        if theirs is None:
            assert reader.read(HOST, path).problem, path
        elif ".debug" not in path:
            assert told_by_us(path) == theirs, path
        count += 1
    return count


def files(folder: str) -> list[str]:
    return [f"{place}/{name}" for place, _, names in os.walk(folder) for name in names]


def test_agrees_with_pyelftools_on_the_system_s_own_files() -> None:
    folders = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/lib64", "/usr/bin")
    paths = [f"{folder}/{name}" for folder in folders if os.path.isdir(folder) for name in os.listdir(folder)]
    chosen = random.Random(1).sample(sorted(paths), min(LIMIT, len(paths)))
    count = compare(chosen)
    print(f"{count} files, no difference")
    assert count > 20 or len(paths) < 100


@pytest.mark.stack
def test_agrees_with_pyelftools_on_a_real_stack() -> None:
    total = 0
    for prefix in filter(None, os.environ.get("CUDADOCTOR_STACK", "").split(":")):
        total += compare(path for path in files(prefix) if ".so" in path or os.access(path, os.X_OK))
    print(f"{total} files, no difference")
    assert total or _do_without("CUDADOCTOR_STACK names no environment")


def test_finds_the_symbols_that_pyelftools_finds() -> None:
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        _do_without("pyelftools is not installed")
    for name in ("libm.so.6", "libstdc++.so.6", "libz.so.1"):
        found = [f"{folder}/{name}" for folder in ("/usr/lib/x86_64-linux-gnu", "/lib64", "/usr/lib64")]
        for path in [path for path in found if os.path.isfile(path)][:1]:
            with Path(path).open("rb") as stream:
                section: Any = ELFFile(stream).get_section_by_name(".dynsym")
                symbols = list(section.iter_symbols())
            outside = [one for one in symbols if one["st_shndx"] == "SHN_UNDEF" and one.name]
            needed = {one.name for one in outside if one["st_info"]["bind"] == "STB_GLOBAL"}
            defined = {one.name for one in symbols if one["st_shndx"] != "SHN_UNDEF"}
            assert reader.symbols(HOST, path) == (needed, defined)


# --- one file -----------------------------------------------------------------------------------------------

PLAIN = elf(
    "libx.so",
    ["liby.so", "libc.so.6"],
    runpath="$ORIGIN",
    requires={"libc.so.6": ["GLIBC_2.2.5", "GLIBC_2.34"]},
    weak=["GLIBC_2.34"],
    provides=["X_1", "X_2"],
    undefined=["need"],
    defined=["have"],
)


def read(data: bytes) -> SharedObject:
    return reader.read(FakeHost({"/x.so": data}), "/x.so")


def test_reads_what_the_loader_goes_by() -> None:
    found = read(PLAIN)
    assert (found.soname, found.needed, found.rpath, found.runpath) == (
        "libx.so", ("liby.so", "libc.so.6"), None, "$ORIGIN",
    )  # fmt: skip
    assert found.requires == (VersionNeed("libc.so.6", ("GLIBC_2.2.5",)),)
    assert found.provides == ("libx.so", "X_1", "X_2") and not found.problem
    assert reader.symbols(FakeHost({"/x.so": PLAIN}), "/x.so") == ({"need"}, {"have"})


def test_an_empty_runpath_is_not_the_same_as_none() -> None:
    assert read(elf("x.so", runpath="")).runpath == "" and read(elf("x.so")).runpath is None


# --- files that lie -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "file too short"),
        (PLAIN[:63], "file too short"),
        (b"#!/bin/sh\n" * 20, "invalid ELF header"),
        (b"\0" * 4096, "invalid ELF header"),
        (PLAIN[:100], "the file ends before its program headers"),
        (PLAIN[:400], "out of range|the file ends before"),
        (PLAIN[:7] + b"\x09" + PLAIN[8:], "OS ABI invalid"),
        (PLAIN[:16] + b"\x01\0" + PLAIN[18:], "only ET_DYN and ET_EXEC"),
        (PLAIN[:54] + b"\x10\0" + PLAIN[56:], "phentsize"),
        (PLAIN[:56] + b"\xff\xff" + PLAIN[58:], "65535 program headers"),
        (PLAIN[:32] + b"\xff" * 8 + PLAIN[40:], "the file ends before its program headers"),
        (PLAIN[:56] + b"\0\0" + PLAIN[58:], "no loadable segments"),
        (PLAIN[:56] + b"\x01\0" + PLAIN[58:], "no dynamic section"),
    ],
)
def test_a_damaged_file_is_told_as_such(data: bytes, problem: str) -> None:
    found = read(data)
    assert any(part in found.problem for part in problem.split("|")), found


def test_another_machine_s_file_tells_its_machine_even_where_it_is_damaged() -> None:
    head = b"\x7fELF\x01\x01\x01".ljust(16, b"\0") + struct.pack("<HH", 3, 3)
    assert (read(head.ljust(80, b"\0")).bits, read(head.ljust(80, b"\0")).machine) == (32, "i386")


def test_version_tables_that_lead_in_a_circle_or_nowhere_end() -> None:
    where = PLAIN.index(struct.pack("<HHIII", 1, 2, 0, 16, 0)[:4])
    for step in (1, 16, 0xFFFFFFFF):
        table = PLAIN[: where + 12] + struct.pack("<I", step) + PLAIN[where + 16 :]
        assert read(table.ljust(1 << 20, b"\x01")) is not None


def test_any_damage_has_an_outcome_in_bounded_time_and_memory() -> None:
    """Set CUDADOCTOR_EXAMPLES for more of them."""
    dice = random.Random(7)
    tracemalloc.start()
    for _ in range(MUTATIONS):
        data = bytearray(PLAIN + bytes(dice.randrange(200)))
        for _ in range(dice.randint(1, 4)):
            at = dice.randrange(len(data) - 8)
            data[at : at + 8] = dice.choice(
                (b"\xff" * 8, bytes(8), struct.pack("<Q", dice.randrange(1 << 20)), os.urandom(8))
            )
        if dice.random() < 0.2:
            del data[dice.randrange(len(data)) :]
        host, started = FakeHost({"/x.so": bytes(data)}), time.monotonic()
        assert isinstance(reader.read(host, "/x.so"), SharedObject)
        try:
            reader.symbols(host, "/x.so")
        except reader.Damaged:
            pass
        assert time.monotonic() - started < 2
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_sparse_giant_is_read_in_pieces(tmp_path: Path) -> None:
    """Tables that claim to be gigabytes long cost no more than the limits."""
    path = tmp_path / "giant.so"
    data = bytearray(PLAIN)
    load, dynamic = 64, 64 + 56
    struct.pack_into("<QQ", data, load + 32, 8 << 30, 8 << 30)
    struct.pack_into("<QQ", data, dynamic + 32, 4 << 30, 4 << 30)
    path.write_bytes(data)
    os.truncate(path, 8 << 30)
    tracemalloc.start()
    started = time.monotonic()
    assert reader.read(HOST, str(path)).soname == "libx.so"
    assert time.monotonic() - started < 1 and tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_what_is_no_file_is_no_library(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.so")
    for name in ("fifo.so", "."):
        with pytest.raises(NotRegular):
            reader.read(HOST, str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        reader.read(HOST, str(tmp_path / "gone.so"))


def test_a_library_that_needs_hundreds_of_others_is_none() -> None:
    assert len(read(elf("x.so", [f"lib{n}.so" for n in range(512)])).needed) == 512
    assert "needs 513 libraries" in read(elf("x.so", [f"lib{n}.so" for n in range(513)])).problem


def test_a_library_is_not_called_by_more_than_a_file_s_name_may_have() -> None:
    assert read(elf("x.so", ["x" * 255])).needed == ("x" * 255,)
    assert "longer than any file's" in read(elf("x.so", ["x" * 256])).problem


def test_names_that_overlap_count_for_what_they_say() -> None:
    """Each of 4,000 versions is the end of one name of 4,000 bytes: 8 MB of text in a file of 100 KB."""
    data = elf("x.so", provides=["y" * 4000, *("z" for _ in range(4000))])
    long = len(b"\0x.so\0")
    short, ends = struct.pack("<II", long + 4001 + 2 * 3999, 0), iter(range(long, long + 4000))
    assert data.count(short) == 4000
    lies = re.sub(re.escape(short), lambda _: struct.pack("<II", next(ends), 0), data)
    assert "names are longer" in read(lies).problem
