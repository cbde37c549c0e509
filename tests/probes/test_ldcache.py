"""The loader's cache, whatever is in it."""

import struct
from pathlib import Path

import pytest

from cudadoctor import engine
from cudadoctor.host import RealHost
from cudadoctor.probes.ldcache import LoaderCache, cached, read_cache
from cudadoctor.probes.target import Request
from cudadoctor.testing import FakeHost
from tests.elves import loader_cache

CACHE = "/etc/ld.so.cache"


class Counting(FakeHost):
    reads = 0

    def read(self, path: str, limit_bytes: int = 4 << 20) -> bytes:
        self.reads += path == CACHE
        return super().read(path, limit_bytes)


def test_it_is_read_once_for_all_who_ask() -> None:
    host = Counting({CACHE: loader_cache("/usr/lib/libcuda.so.1")})
    assert cached(host, "libcuda.so.1") == ["/usr/lib/libcuda.so.1"] and cached(host, "libc.so.6") == []
    assert read_cache(host) and host.reads == 1


def test_a_run_reads_it_once(tmp_path: Path) -> None:
    class Notes(RealHost):
        reads = 0

        def read(self, path: str, limit_bytes: int = 4 << 20) -> bytes:
            self.reads += path == CACHE
            return super().read(path, limit_bytes)

    if RealHost().kind(CACHE) != "file":
        pytest.skip("this machine's loader has no cache")
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
    (tmp_path / "lib/python3.11/site-packages").mkdir(parents=True)
    host = Notes({"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)})
    engine.collect(host, engine.everything(), Request(prefix=str(tmp_path)))
    assert host.reads == 1


def test_each_machine_sees_its_own_and_one_that_is_new() -> None:
    one, other = (FakeHost({CACHE: loader_cache(f"/{name}/libcuda.so.1")}) for name in "ab")
    assert [cached(host, "libcuda.so.1") for host in (one, other)] == [
        ["/a/libcuda.so.1"],
        ["/b/libcuda.so.1"],
    ]
    one._tree[CACHE] = loader_cache("/changed/libcuda.so.1")
    assert cached(one, "libcuda.so.1") == ["/changed/libcuda.so.1"]
    assert read_cache(FakeHost()) == b""


def test_levels_that_are_no_text_are_no_trouble() -> None:
    head = b"glibc-ld.so.cache1.1" + struct.pack("<II4xI12x", 1, 0, 80)
    entry = struct.pack("<iIIIQ", 0x303, 48 + 24, 48 + 24, 0, 1 << 62)
    texts = b"a.so\0\xff\xfe\0"
    extensions = (
        struct.pack("<II", 0xEAA42174, 1) + struct.pack("<IIII", 1, 0, 104, 4) + struct.pack("<I", 77)
    )
    data = (head + entry + texts).ljust(80, b"\0") + extensions
    (found,) = LoaderCache(data, "x86_64").entries("a.so")
    assert found.hwcaps.encode("utf-8", "surrogateescape") == b"\xff\xfe"


def test_names_without_an_end_are_looked_at_as_far_as_a_name_goes() -> None:
    """A hundred thousand entries, each a megabyte of text further on: 10 GB, were each read to its end."""
    count = 100_000
    head = b"glibc-ld.so.cache1.1" + struct.pack("<II4xI12x", count, 0, 0)
    entries = b"".join(struct.pack("<iIIIQ", 0x303, 48 + 24 * count + n, 0, 0, 0) for n in range(count))
    names = LoaderCache(head + entries + b"x" * (1 << 20) + b"\0", "x86_64")._by_name
    assert sum(map(len, names)) < 1 << 20
