"""The loader and the stack's extensions, as they are found on disk."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import cudadoctor.elf as reader
from cudadoctor.engine import collect, needed
from cudadoctor.facts import DynamicLoader, Environ, Facts, SharedObjects
from cudadoctor.host import RealHost
from cudadoctor.probes.ldcache import LoaderCache
from cudadoctor.probes.objects import dynamic_loader
from cudadoctor.probes.target import Request
from cudadoctor.simulate.imports import driver, imports
from cudadoctor.testing import FakeHost, Link
from tests.checks.loaded import Stack
from tests.elves import elf, plant

CPUINFO = "processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu {flags}\n\nprocessor\t: 1\nflags\t\t: fpu\n"
V2 = "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"
#: The rule of bitsandbytes up to 0.49, and since: the line that tells them apart.
BY_NAME = 'library_name = f"libbitsandbytes_{prefix}.so"\n'
BY_MAJOR = f"{BY_NAME}def _find_cuda_libs(prefix, is_hip):\n"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma abm movbe"


def machine(
    glibc: str = "GLIBC_2.39", flags: str = V3, vendor: str = "AuthenticAMD", **files: object
) -> FakeHost:
    """Return a Fedora with this glibc and CPU."""
    libc = elf("libc.so.6", provides=["GLIBC_2.2.5", glibc, "GLIBC_PRIVATE"])
    usual = {"/lib64": Link("usr/lib64"), "/usr/lib64/ld-linux-x86-64.so.2": elf("ld-linux-x86-64.so.2")}
    info = {"/usr/lib64/libc.so.6": libc, "/proc/cpuinfo": CPUINFO.format(vendor=vendor, flags=flags)}
    return FakeHost({**usual, **info, **files})


def loader_of(
    host: FakeHost, interpreter: str = "/lib64/ld-linux-x86-64.so.2"
) -> tuple[DynamicLoader | None, str]:
    python = elf(interpreter=interpreter, machine=62)
    return dynamic_loader(host, reader.read(FakeHost({"/python": python}), "/python"))


# --- the loader ---------------------------------------------------------------------------------------------


def test_a_loader_in_lib64_looks_in_lib64() -> None:
    loader, reason = loader_of(machine())
    assert loader is not None
    assert not reason
    assert (loader.folders, loader.lib) == (("/lib64", "/usr/lib64"), "lib64")
    assert loader.subfolders == ("glibc-hwcaps/x86-64-v3", "glibc-hwcaps/x86-64-v2")


def test_a_loader_in_a_multiarch_folder_looks_there_first() -> None:
    files = {
        "/lib64/ld-linux-x86-64.so.2": Link("/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"),
        "/lib": Link("usr/lib"),
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2": elf("ld-linux-x86-64.so.2"),
    }
    loader, _ = loader_of(FakeHost(files))
    assert loader is not None
    here = "lib/x86_64-linux-gnu"
    assert (loader.folders, loader.lib) == ((f"/{here}", f"/usr/{here}", "/lib", "/usr/lib"), here)


@pytest.mark.parametrize(
    ("glibc", "flags", "vendor", "first", "count"),
    [
        ("GLIBC_2.39", "", "GenuineIntel", "", 0),
        ("GLIBC_2.39", V2, "GenuineIntel", "glibc-hwcaps/x86-64-v2", 1),
        ("GLIBC_2.36", V3, "GenuineIntel", "glibc-hwcaps/x86-64-v3", 2 + 7),
        ("GLIBC_2.36", V3, "AuthenticAMD", "glibc-hwcaps/x86-64-v3", 2 + 3),
        ("GLIBC_2.31", V3, "GenuineIntel", "tls/haswell/x86_64", 7),
    ],
)
def test_subfolders_are_those_of_the_cpu_and_of_this_glibc(
    glibc: str, flags: str, vendor: str, first: str, count: int
) -> None:
    loader, _ = loader_of(machine(glibc, flags, vendor))
    assert loader is not None
    assert (loader.subfolders[:1], len(loader.subfolders)) == ((first,) if first else (), count)


@pytest.mark.parametrize(
    ("interpreter", "reason"),
    [("/lib/ld-musl-x86_64.so.1", "is not the GNU loader"), ("", "linked statically")],
)
def test_another_loader_is_not_judged(interpreter: str, reason: str) -> None:
    loader, said = loader_of(machine(), interpreter)
    assert loader is None and reason in said


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("/a.so:/b.so\t/c.so\n\n/d.so # /e.so\n", ("/a.so", "/b.so", "/c.so", "/d.so")),
        ("/a.so\r\n", ("/a.so\r",)),
        ("# /a.so", ()),
        ("", ()),
    ],
)
def test_what_is_preloaded_for_all_is_read_without_the_comments(text: str, names: tuple[str, ...]) -> None:
    loader, _ = loader_of(machine(**{"/etc/ld.so.preload": text}))
    assert loader is not None and loader.preload == names


def test_this_machine_s_loader_says_the_same() -> None:
    """Its own word is `--list-diagnostics`, since glibc 2.33."""
    loader, _ = dynamic_loader(RealHost(), reader.read(RealHost(), os.path.realpath(sys.executable)))
    if loader is None:
        pytest.skip("the interpreter of these tests is started by another loader")
    ran = subprocess.run([loader.path, "--list-diagnostics"], capture_output=True, text=True)
    if ran.returncode:
        pytest.skip("this loader tells nothing of itself")
    told = dict(line.partition("=")[::2] for line in ran.stdout.splitlines())
    folders = [value.strip('"/') for name, value in told.items() if name.startswith("path.system_dirs[")]
    assert [folder.strip("/") for folder in loader.folders] == folders
    assert told["dl_dst_lib"] == f'"{loader.lib}"'
    assert told.get("dl_platform", '""').strip('"') == loader.platform
    active = int(told["dl_hwcaps_subdirs_active"], 16)
    named = told["dl_hwcaps_subdirs"].strip('"').split(":")
    usable = [f"glibc-hwcaps/{name}" for index, name in enumerate(named) if active >> index & 1 and name]
    assert [name for name in loader.subfolders if name.startswith("glibc-hwcaps/")] == usable


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"ld.so-1.7.0",
        b"glibc-ld.so.cache1.1",
        b"glibc-ld.so.cache1.1" + b"\xff" * 40,
        b"glibc-ld.so.cache1.1" + struct.pack("<II", 1 << 30, 0) + bytes(200),
        b"ld.so-1.7.0\0" + struct.pack("<I", 0xFFFFFFFF) + bytes(64),
        b"glibc-ld.so.cache1.1" + struct.pack("<7IiIIIQ", 1, 0, 0, 8, 0, 0, 0, 0x303, 9, 9, 0, 1 << 62),
    ],
)
def test_a_damaged_cache_is_an_empty_one(data: bytes) -> None:
    assert LoaderCache(data, "x86_64").entries("libc.so.6") == ()


# --- the stack ----------------------------------------------------------------------------------------------


@pytest.fixture
def stack(tmp_path: Path) -> Stack:
    stack = Stack(tmp_path)
    stack.torch("libcudart.so.12", "libcusparse.so.12", rpath="$ORIGIN/../../nvidia/cuda/lib")
    stack.library("nvidia/cuda/lib/libcudart.so.12")
    stack.library("nvidia/cuda/lib/libcusparse.so.12", "libnvJitLink.so.12", runpath="$ORIGIN")
    stack.library("nvidia/cuda/lib/libnvJitLink.so.12")
    stack.library(
        "torch/lib/libtorch_global_deps.so", "libcudart.so.12", rpath="$ORIGIN/../../nvidia/cuda/lib"
    )
    return stack


def objects(facts: Facts) -> SharedObjects:
    assert isinstance(facts.objects, SharedObjects), facts.objects
    return facts.objects


def told(facts: Facts, library_path: str = "") -> list[tuple[list[str], list[str], str]]:
    """Return for each extension what is loaded, what is lacking and what is taken for the driver."""
    assert isinstance(facts.environ, Environ)
    found = []
    for one in imports(objects(facts), facts.environ, library_path):
        taken = driver(one.process)
        found.append(
            (
                [each.path for each in one.process.loaded],
                [problem.name for problem in one.problems],
                taken.path if taken else "",
            )
        )
    return found


def test_extensions_of_another_python_are_left_out(stack: Stack) -> None:
    stack.library("torch/_C.cpython-311-x86_64-linux-gnu.so", "libgone.so")
    stack.library("torch/_C.abi3.so")
    names = [Path(one.path).name for one in objects(stack.facts()).extensions]
    assert names == ["_C.abi3.so", "_C.cpython-312-x86_64-linux-gnu.so"]


@pytest.mark.parametrize(
    ("rule", "brought", "override", "opened"),
    [
        (BY_MAJOR, ("126", "128", "130"), "", "128"),
        (BY_MAJOR, ("121", "126", "132"), "", "126"),
        (BY_MAJOR, ("118", "129"), "", "129"),
        (BY_MAJOR, ("118", "130"), "", None),
        (BY_MAJOR, ("124", "128", "130"), "130", "130"),
        (BY_MAJOR, ("124", "128"), "126", None),
        (BY_MAJOR, ("124", "128"), "new", None),
        (BY_NAME, ("126", "128", "130"), "", "128"),
        (BY_NAME, ("126", "129"), "", None),
        (BY_NAME, ("126", "129"), "126", "126"),
    ],
)
def test_bitsandbytes_opens_one_library_by_the_rule_it_brings(
    rule: str, brought: tuple[str, ...], override: str, opened: str | None, stack: Stack
) -> None:
    stack.wheel("bitsandbytes", "0.50.2")
    (stack.site / "bitsandbytes").mkdir()
    (stack.site / "bitsandbytes" / "cextension.py").write_text(rule)
    for release in (*brought, "cpu"):
        name = f"libbitsandbytes_cuda{release}.so".replace("cudacpu", "cpu")
        stack.library(f"bitsandbytes/{name}", "libcublas.so.12")
    facts = stack.facts(**({"BNB_CUDA_VERSION": override} if override else {}))
    paths = [one.path for one in objects(facts).extensions if one.distribution == "bitsandbytes"]
    assert [Path(path).name for path in paths] == ([f"libbitsandbytes_cuda{opened}.so"] if opened else [])


@pytest.mark.parametrize("form", ["path", "finder", "other"])
def test_the_extensions_of_an_editable_install_are_among_its_sources(
    form: str, stack: Stack, tmp_path: Path
) -> None:
    """As setuptools leaves it (a line in a .pth file, or a finder with a table), and other build backends."""
    source = tmp_path / "src"
    plant(source / "vllm" / "_C.abi3.so", "_C.abi3.so", ["libgone.so"])
    plant(source / "vllm" / "vllm_flash_attn" / "_vllm_fa2_C.abi3.so", "x.so")
    plant(source / "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so", "y.so")
    (source / "flash_attn").mkdir()
    for name in ("vllm", "flash-attn"):
        stack.wheel(name, "0.12.0")
    table = {name: str(source / name) for name in ("vllm", "flash_attn")}
    files = {
        "path": ("__editable__.vllm-0.12.0.pth", f"{source}\n"),
        "finder": ("__editable___vllm_0_12_0_finder.py", f"MAPPING: dict[str, str] = {table!r}\n"),
        "other": ("_vllm.pth", f"{source}\n"),
    }
    name, text = files[form]
    (stack.site / name).write_text(text)
    facts = stack.facts()
    found = [one.path.removeprefix(f"{source}/") for one in objects(facts).extensions[1:]]
    fa2 = "vllm/vllm_flash_attn/_vllm_fa2_C.abi3.so"
    assert found == ["vllm/_C.abi3.so", fa2, "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"]
    assert "libgone.so" in [name for _, lacking, _ in told(facts) for name in lacking]


def test_sgl_kernel_s_operators_are_extensions(stack: Stack) -> None:
    stack.wheel("sgl-kernel", "0.3.21")
    for name in ("flash_ops", "spatial_ops", "sm90/common_ops", "sm100/common_ops"):
        stack.library(f"sgl_kernel/{name}.abi3.so", "libnuma.so.1")
    found = [one.path.partition("sgl_kernel/")[2] for one in objects(stack.facts()).extensions]
    assert found[1:] == ["flash_ops.abi3.so", "sm90/common_ops.abi3.so", "sm100/common_ops.abi3.so"]


def test_facts_that_were_written_down_answer_as_the_machine_does(stack: Stack, tmp_path: Path) -> None:
    """Also after a way through JSON, and for the LD_LIBRARY_PATHs that a check may try."""
    path = f"{tmp_path}/a:{stack.site}/nvidia/cuda/lib"
    facts = stack.facts(LD_LIBRARY_PATH=path)
    again = msgspec.json.decode(msgspec.json.encode(facts), type=Facts)
    assert objects(again) == objects(facts)
    for value in (path, ""):
        assert told(again, value) == told(facts, value)
    assert len(told(facts)) == 1 and told(facts)[0][1] == []


def test_torch_preloads_what_its_source_names(stack: Stack) -> None:
    (stack.site / "nvidia" / "nvjitlink").mkdir()
    (stack.site / "nvidia" / "cuda" / "lib").rename(stack.site / "nvidia" / "nvjitlink" / "lib")
    paths = [Path(path).name for path in objects(stack.facts()).first]
    assert paths == ["libtorch_global_deps.so", "libnvJitLink.so.12"]
    listed = '("cublas", "libcublas.so.*[0-9]"),\n("nvjitlink", "libcudart.so.*[0-9]"),\n'
    call = "_preload_cuda_deps(required=False)\n"
    (stack.site / "torch" / "__init__.py").write_text(listed + call)
    found = objects(stack.facts())
    assert [Path(path).name for path in found.first[1:]] == ["libcudart.so.12"]
    assert found.fallback == found.first[1:]


class Measuring(RealHost):
    """The real machine, and how many bytes of which file were read."""

    def __init__(self) -> None:
        super().__init__({})
        self.read_bytes: dict[str, int] = {}

    def read_at(self, path: str, offset: int, count_bytes: int) -> bytes:
        data = super().read_at(path, offset, count_bytes)
        self.read_bytes[path] = self.read_bytes.get(path, 0) + len(data)
        return data


def test_no_library_is_read_whole(stack: Stack) -> None:
    library = stack.site / "torch" / "lib" / "libtorch_cuda.so"
    library.write_bytes(library.read_bytes() + bytes(32 << 20))
    host = Measuring()
    facts = collect(host, needed((), also=("objects",)), Request(prefix=str(stack.root)))
    assert told(facts)[0][1] == []
    assert 0 < host.read_bytes[str(library)] < 64 << 10


@pytest.mark.parametrize("kind", ["fifo", "folder", "empty", "text", "loop", "truncated", "nothing"])
def test_an_extension_may_be_anything(stack: Stack, kind: str) -> None:
    path = stack.site / "torch" / "_C.cpython-312-x86_64-linux-gnu.so"
    data = path.read_bytes()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind != "nothing":
        path.write_bytes({"empty": b"", "text": b"#!/bin/sh\n" * 100, "truncated": data[:200]}[kind])
    problems = [problem for _, problems, _ in told(stack.facts()) for problem in problems]
    assert len(problems) == (0 if kind == "nothing" else 1)


def test_an_interpreter_that_cannot_be_read_is_no_crash(stack: Stack) -> None:
    python = stack.root / "bin" / "python3"
    python.write_bytes(b"\x7fELF")
    found = objects(stack.facts())
    assert found.loader is None and found.reason == "file too short"
