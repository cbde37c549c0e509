"""What just-in-time builds leave behind: read off planted caches, and off real locks of real processes."""

import errno
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor.facts import (
    Caches,
    Distribution,
    Environ,
    FlashInfer,
    Machine,
    Packages,
    Target,
    TorchBuild,
    Triton,
    Variable,
)
from cudadoctor.host import Host, RealHost
from cudadoctor.probes.caches import probe
from cudadoctor.simulate.ninja import is_building
from cudadoctor.testing import OWNER, FakeHost, Link

SITE = "/v/lib/python3.12/site-packages"
HOME = "/home/ada"
BASE = f"{HOME}/.cache/flashinfer/0.5.3"
OPS = f"{BASE}/86/cached_ops"
EXTENSIONS = f"{HOME}/.cache/torch_extensions/py312_cu128"
CORE = f"{SITE}/flashinfer/jit/core.py"
KEEPS = """
        with lock:
            if not self.is_ninja_generated:
                self.write_ninja()
            run_ninja(jit_env.FLASHINFER_JIT_DIR, self.ninja_path, verbose)
"""
REWRITES = """
    def is_ninja_generated(self) -> bool:
        return self.ninja_path.exists()
        with lock:
            self.write_ninja()
            run_ninja(self.build_dir, self.ninja_path, verbose)
"""
BATON = "    baton = FileBaton(os.path.join(build_directory, 'lock'))\n"
NINJA = """\
ninja_required_version = 1.3
name = {name}
cuda_home = {cuda_home}
cxx = c++
nvcc = $cuda_home/bin/nvcc

common_cflags = -DPy_LIMITED_API=0x03090000 $
    -isystem $cuda_home/include
cflags = $common_cflags $
    -fPIC $
    -O3 $
    -DA=x y
post_cflags =
cuda_cflags = -ccbin $
    gcc-12 $
    $common_cflags $
    -O3
cuda_post_cflags =
ldflags = -shared $
    -L$cuda_home/lib64 $
    -lcudart

rule compile
  command = $cxx -MMD -MF $out.d $cflags -c $in -o $out $post_cflags
"""
PROC: dict[str, object] = {
    "/proc/self/status": f"Name:\tpython3\nUid:\t{OWNER}\t{OWNER}\t{OWNER}\t{OWNER}\n",
    "/proc/self/ns/pid": Link("pid:[4026531836]"),
    "/proc/self/mountinfo": "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n",
    "/proc/700/fd/0": Link("/dev/null"),
}


def ninja(name: str, cuda_home: str = "/opt/cuda") -> str:
    return NINJA.format(name=name, cuda_home=cuda_home)


def target(include: str = "/usr/include/python3.12") -> Target:
    return Target("/v", "venv", "/v/bin/python3", "3.12.4", "/usr", (SITE,), include, "--prefix", True)


def environ(**variables: str) -> Environ:
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    return Environ(held, "the current variables", ("/usr/bin",), "/here")


def packages(flashinfer: str = "0.5.3", torch: str = "2.9.0", cuda: str = "12.8", *others: str) -> Packages:
    found = {"flashinfer-python": flashinfer, "torch": torch, **dict.fromkeys(others, "1.0")}
    return Packages(
        tuple(Distribution(name, version, SITE) for name, version in found.items() if version),
        TorchBuild(torch, f"{SITE}/torch", cuda) if torch else None,
        FlashInfer(flashinfer, (), f"{SITE}/flashinfer/jit/cpp_ext.py") if flashinfer else None,
        Triton("3.5.0", f"{SITE}/triton", (), "") if "triton" in others else None,
    )


def machine(home: str = HOME) -> Machine:
    return Machine("x86_64", "Linux", "Debian", "6.1", 8, 1 << 34, 1 << 34, 8192, None, home=home)


def look(host: Host, installed: Packages | None = None, home: str = HOME, /, **variables: str) -> Caches:
    return probe(host, target(), environ(**variables), installed or packages(), machine(home))


def seen(
    files: Mapping[str, object], installed: Packages | None = None, /, core: str = KEEPS, **variables: str
) -> Caches:
    return look(FakeHost({CORE: core, **PROC, **files}), installed, **variables)


class Counting(FakeHost):
    """A machine that notes which files are opened and which folders are listed."""

    def __init__(self, files: Mapping[str, object]) -> None:
        super().__init__(files)
        self.opened: list[str] = []
        self.listed: list[str] = []

    def head(self, path: str, count_bytes: int) -> bytes:
        self.opened.append(path)
        return super().head(path, count_bytes)

    def list(self, path: str) -> list[str]:
        self.listed.append(path)
        return super().list(path)


# --- FlashInfer's operators ---------------------------------------------------------------------------------


def test_an_operator_that_is_not_built_is_read() -> None:
    (op,) = seen({f"{OPS}/silu/build.ninja": ninja("silu"), f"{OPS}/silu/silu.cuda.o": "x"}).ops
    assert (op.path, op.name, op.cuda_home) == (f"{OPS}/silu", "silu", "/opt/cuda")
    assert (op.cxx, op.nvcc) == ("c++", "$cuda_home/bin/nvcc")
    assert op.cflags == ("$common_cflags", "-fPIC", "-O3", "-DA=x y")
    assert op.cuda_cflags == ("-ccbin", "gcc-12", "$common_cflags", "-O3")
    assert op.ldflags == ("-shared", "-L$cuda_home/lib64", "-lcudart")


def test_an_operator_that_is_built_is_none_of_them() -> None:
    files = {f"{OPS}/silu/build.ninja": ninja("silu"), f"{OPS}/silu/silu.so": "\x7fELF"}
    assert seen(files).ops == ()


@pytest.mark.parametrize(
    "place", [f"{SITE}/flashinfer_jit_cache/jit_cache", f"{SITE}/flashinfer/data/aot"], ids=["package", "own"]
)
def test_an_operator_that_comes_prebuilt_is_none_of_them(place: str) -> None:
    files = {f"{OPS}/silu/build.ninja": ninja("silu"), f"{place}/silu/silu.so": "\x7fELF"}
    assert seen(files, packages("0.5.3", "2.9.0", "12.8", "flashinfer-jit-cache")).ops == ()


def test_of_three_hundred_built_operators_two_hundred_are_opened() -> None:
    files: dict[str, object] = {CORE: KEEPS, **PROC, f"{OPS}/last/build.ninja": ninja("last")}
    for number in range(300):
        files |= {f"{OPS}/op{number}/build.ninja": ninja("x"), f"{OPS}/op{number}/op{number}.so": "x"}
    host = Counting(files)
    assert [op.name for op in look(host).ops] == ["last"]
    opened = [path for path in host.opened if path.startswith(f"{OPS}/op")]
    assert len(opened) == len(set(opened)) and 190 < len(opened) <= 200
    assert opened[-1] > f"{OPS}/op9", "not the first ones alone"
    assert host.listed == [BASE, OPS, EXTENSIONS]


def test_three_hundred_built_operators_cost_next_to_nothing(tmp_path: Path) -> None:
    folder = tmp_path / ".cache/flashinfer/0.5.3/86/cached_ops"
    for number in range(300):
        (folder / f"op{number}").mkdir(parents=True)
        (folder / f"op{number}/build.ninja").write_text(ninja(f"op{number}"))
        (folder / f"op{number}/op{number}.so").touch()

    def cost() -> float:
        started = time.perf_counter()
        look(RealHost({}), packages(), str(tmp_path))
        return time.perf_counter() - started

    assert min(cost() for _ in range(7)) < 0.02


def test_a_flashinfer_that_writes_the_file_anew_has_none_of_them_read() -> None:
    host = Counting({CORE: REWRITES, **PROC, f"{OPS}/silu/build.ninja": ninja("silu")})
    found = look(host)
    assert found.rewrites and found.ops == ()
    assert f"{OPS}/silu/build.ninja" not in host.opened
    assert [folder.path for folder in found.folders] == [OPS]


@pytest.mark.parametrize(
    ("version", "rewrites"),
    [
        ("0.3.1", True), ("0.4.0", False), ("0.5.3", False), ("0.6.11", False), ("0.6.11.post1", True),
        ("0.6.12", True), ("0.7.2.post1", True), ("0.5.3+cu128", False), ("", False), ("garbage", True),
    ],
)  # fmt: skip
def test_where_the_source_cannot_be_read_the_version_tells(version: str, rewrites: bool) -> None:
    assert seen({}, packages(version), core="").rewrites == rewrites


def test_only_the_installed_version_counts() -> None:
    files = {f"{HOME}/.cache/flashinfer/0.6.4/86/cached_ops/silu/build.ninja": ninja("silu")}
    assert seen(files) == Caches()


def test_a_layout_that_all_versions_shared_is_left_alone() -> None:
    files = {f"{HOME}/.cache/flashinfer/86/cached_ops/silu/build.ninja": ninja("silu")}
    assert seen(files, packages("0.4.0")) == Caches()


def test_an_operator_that_was_moved_aside_is_one_no_more() -> None:
    files = {
        f"{OPS}/silu.stale/build.ninja": ninja("silu"),
        f"{OPS}/.silu.cudadoctor-aside/build.ninja": ninja("silu"),
        f"{OPS}/tmp/silu.lock": "",
    }
    assert seen(files).ops == ()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00" * 999,
        b"name = silu\n",
        ninja("silu")[:200],
        b"rule x\n",
        OSError(errno.EIO, "I/O error"),
    ],
)
def test_a_damaged_build_file_is_passed_over(content: object) -> None:
    files = {
        f"{OPS}/silu/build.ninja": content,
        f"{OPS}/whole/build.ninja": ninja("whole"),
        f"{OPS}/file": "x",
    }
    assert [op.name for op in seen(files).ops] == ["whole"]


def test_the_workspace_variable_moves_the_cache() -> None:
    ops = "/scratch/.cache/flashinfer/0.5.3/86/cached_ops"
    files = {f"{ops}/silu/build.ninja": ninja("silu"), f"{OPS}/page/build.ninja": ninja("page")}
    found = seen(files, FLASHINFER_WORKSPACE_BASE="/scratch")
    assert [op.name for op in found.ops] == ["silu"]
    assert found.folders[0].source == "FLASHINFER_WORKSPACE_BASE"


def test_a_relative_workspace_is_below_the_current_folder() -> None:
    files = {"/here/.cache/flashinfer/0.5.3/86/cached_ops/silu/build.ninja": ninja("silu")}
    assert len(seen(files, FLASHINFER_WORKSPACE_BASE="").ops) == 1


@pytest.mark.parametrize(
    ("architectures", "names"),
    [
        ("8.6", ["silu"]),
        ("9.0a 8.9", ["page"]),
        ("7.5", ["page", "silu"]),  # not there: the name is made by another rule
        ("native", ["page", "silu"]),
        ("", ["page", "silu"]),
    ],
)
def test_the_architectures_choose_the_folder(architectures: str, names: list[str]) -> None:
    files = {
        f"{OPS}/silu/build.ninja": ninja("silu"),
        f"{BASE}/89_90a/cached_ops/page/build.ninja": ninja("page"),
    }
    assert sorted(op.name for op in seen(files, FLASHINFER_CUDA_ARCH_LIST=architectures).ops) == names


def test_a_cache_behind_a_link_is_named_by_its_real_place() -> None:
    ops = "/scratch/ada/flashinfer/0.5.3/86/cached_ops"
    files = {f"{HOME}/.cache": Link("/scratch/ada"), f"{ops}/silu/build.ninja": ninja("silu")}
    found = seen(files)
    assert found.ops[0].path == f"{ops}/silu" and found.folders[0].path == ops


def test_a_toolkit_behind_a_link_is_named_by_both() -> None:
    files = {
        "/opt/cuda": Link("cuda-12.8"),
        "/opt/cuda-12.8/": "",
        f"{OPS}/silu/build.ninja": ninja("silu"),
    }
    assert seen(files).ops[0].cuda_home_real == "/opt/cuda-12.8"


def test_without_caches_there_is_nothing_and_next_to_nothing_is_asked() -> None:
    host = Counting({CORE: KEEPS})
    assert look(host) == Caches()
    assert host.opened == [CORE] and host.listed == [BASE, EXTENSIONS]
    assert look(FakeHost(), Packages(())) == Caches()


# --- operators that are built -------------------------------------------------------------------------------


def library(folder: Path, *needed: str) -> bytes:
    """Return a shared library that needs libraries of these names, made by the real linker."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not on PATH")
    folder.mkdir(exist_ok=True)
    for name in needed:
        link = [
            "gcc",
            "-shared",
            "-nostdlib",
            f"-Wl,-soname,{name}",
            "-o",
            f"{folder}/{name}",
            "-x",
            "c",
            "-",
        ]
        subprocess.run(link, input="", text=True, check=True)
    own = ["gcc", "-shared", "-nostdlib", "-Wl,--no-as-needed", "-o", f"{folder}/own.so"]
    source = ["-x", "c", "/dev/null", "-x", "none", *(f"{folder}/{name}" for name in needed)]
    subprocess.run([*own, *source], check=True)
    return (folder / "own.so").read_bytes()


def built(so: bytes, *names: str, cuda_home: str = "/opt/cuda") -> dict[str, object]:
    """Return operators that are built, with a toolkit that is there."""
    files: dict[str, object] = {f"{cuda_home}/bin/nvcc": "x"}
    for name in names or ("silu",):
        files |= {f"{OPS}/{name}/build.ninja": ninja(name, cuda_home), f"{OPS}/{name}/{name}.so": so}
    return files


def test_an_operator_of_a_cuda_that_is_gone_is_told(tmp_path: Path) -> None:
    so = library(tmp_path, "libcudart.so.13")
    (op,) = seen(built(so), packages("0.5.3", "2.9.0", "12.8")).built
    assert (op.path, op.missing, op.gone) == (f"{OPS}/silu", "libcudart.so.13", False)


def test_an_operator_of_torchs_own_cuda_is_none_of_them(tmp_path: Path) -> None:
    so = library(tmp_path, "libcudart.so.12", "libc.so.6")
    assert seen(built(so), packages("0.5.3", "2.9.0", "12.8")).built == ()


@pytest.mark.parametrize(
    "place", ["/l/libcudart.so.13", "/v/lib/libcudart.so.13", "/usr/lib/libcudart.so.13", "/etc/ld.so.cache"]
)
def test_an_operator_of_another_cuda_whose_library_is_found_is_none_of_them(
    place: str, tmp_path: Path
) -> None:
    files = {**built(library(tmp_path, "libcudart.so.13")), place: "...libcudart.so.13..."}
    assert seen(files, LD_LIBRARY_PATH="/x:/l").built == ()


@pytest.mark.parametrize(
    ("wheel", "version"), [("nvidia-cuda-runtime", "13.0.96"), ("nvidia-cuda-runtime-cu13", "13.0")]
)
def test_a_wheel_of_that_cuda_may_be_loaded_already(wheel: str, version: str, tmp_path: Path) -> None:
    installed = packages("0.5.3", "2.9.0", "12.8")
    with_wheel = structs.replace(
        installed, distributions=(*installed.distributions, Distribution(wheel, version, SITE))
    )
    assert seen(built(library(tmp_path, "libcudart.so.13")), with_wheel).built == ()


@pytest.mark.parametrize("old", [0, 3, 7, 50, 98])
def test_the_only_operator_of_another_cuda_is_found_wherever_it_is(old: int, tmp_path: Path) -> None:
    so, fine = library(tmp_path, "libcudart.so.13"), library(tmp_path, "libcudart.so.12")
    files = {**built(fine, *(f"op{number:02}" for number in range(99))), **built(so, f"op{old:02}")}
    assert [op.name for op in seen(files).built] == [f"op{old:02}"]


def test_every_operator_of_another_cuda_is_told(tmp_path: Path) -> None:
    so, fine = library(tmp_path, "libcudart.so.13"), library(tmp_path, "libcudart.so.12")
    files = {**built(so, *(f"op{number}" for number in range(8))), **built(fine, "op3")}
    assert [op.name for op in seen(files).built] == ["op0", "op1", "op2", "op4", "op5", "op6", "op7"]


def deps(header: str) -> bytes:
    """Return ninja's record of an object of silu that was made of this header."""

    def record(content: bytes, flag: int = 0) -> bytes:
        return (len(content) | flag).to_bytes(4, "little") + content

    numbers = b"".join(number.to_bytes(4, "little") for number in (0, 7, 0, 1))
    paths = (record(path.encode() + bytes(-len(path) % 4 + 4)) for path in ("silu/silu.cuda.o", header))
    return b"# ninjadeps\n\x04\0\0\0" + b"".join(paths) + record(numbers, 1 << 31)


def test_an_operator_whose_toolkit_was_removed_is_told() -> None:
    files = {**built(b"\x7fELF"), f"{OPS}/.ninja_deps": deps("/opt/cuda/include/cuda_runtime.h")}
    assert seen(files).built == ()
    del files["/opt/cuda/bin/nvcc"]
    (op,) = seen(files).built
    assert op.gone and op.missing == "" and op.cuda_home == "/opt/cuda"
    own_nvcc = ninja("silu").replace("$cuda_home/bin/nvcc", "/elsewhere/nvcc")
    assert seen({**files, f"{OPS}/silu/build.ninja": own_nvcc}).built == ()
    assert seen({**files, f"{SITE}/flashinfer/data/aot/silu/silu.so": "x"}).built == ()
    for still_there in ({"/opt/cuda/include/cuda_runtime.h": "x"}, {f"{OPS}/.ninja_deps": b""}):
        assert seen({**files, **still_there}).built == (), "ninja takes what is built for good"


def test_the_log_of_all_operators_may_be_large_and_is_read_once() -> None:
    files = {CORE: KEEPS, **PROC, **built(b"\x7fELF", *(f"op{n}" for n in range(5)), "silu")}
    del files["/opt/cuda/bin/nvcc"]
    padding = b"".join((104).to_bytes(4, "little") + b"x" * 100 + bytes(4) for _ in range(100_000))
    files[f"{OPS}/.ninja_deps"] = deps("/opt/cuda/include/cuda_runtime.h") + padding
    host = Counting(files)
    assert [op.name for op in look(host).built] == ["silu"]
    assert host.opened.count(f"{OPS}/.ninja_deps") == 1


def test_without_a_cuda_of_torch_none_of_them_is_judged() -> None:
    assert (
        seen({f"{OPS}/silu/build.ninja": ninja("silu"), f"{OPS}/silu/silu.so": "x"}, packages(cuda="")).built
        == ()
    )


@pytest.mark.parametrize("so", [b"", b"\x7fELF", OSError(errno.EIO, "I/O error")])
def test_a_damaged_library_is_no_sign_of_another_cuda(so: object) -> None:
    files = {**built(b""), f"{OPS}/silu/silu.so": so}
    assert seen(files).built == ()


# --- cache folders ------------------------------------------------------------------------------------------

EVERYTHING = packages("0.5.3", "2.9.0", "12.8", "triton", "vllm", "apache-tvm-ffi")


def folders(
    files: Mapping[str, object], owners: Mapping[str, int] | None = None, /, **variables: str
) -> set[str]:
    host = FakeHost({CORE: KEEPS, **PROC, **files}, {"USER": "ada"}, owners=owners)
    return {folder.path for folder in look(host, EVERYTHING, **variables).folders}


def test_every_cache_is_found_in_its_usual_place() -> None:
    usual = {
        OPS: "flashinfer",
        EXTENSIONS: "torch-extensions",
        f"{HOME}/.triton/cache": "triton",
        f"{HOME}/.cache/vllm/torch_compile_cache": "vllm-compile",
        f"{HOME}/.cache/vllm/torch_aot_compile": "vllm-compile",
        "/tmp/torchinductor_ada": "torchinductor",
        f"{HOME}/.cache/tvm-ffi": "tvm-ffi",
    }
    more = [f"{HOME}/.cache/vllm/assets", f"{HOME}/.cache/flashinfer/cubins", f"{HOME}/.cache/huggingface"]
    host = FakeHost({CORE: KEEPS, **PROC, **{f"{path}/x": "" for path in (*usual, *more)}}, {"USER": "ada"})
    found = look(host, EVERYTHING).folders
    assert {folder.path: folder.name for folder in found} == usual
    assert {folder.source for folder in found} == {"the default"}
    assert not look(host, Packages(())).folders, "of programs that are not installed none is looked for"


def test_variables_move_them() -> None:
    at = {
        "/s/.triton/cache": {"TRITON_HOME": "/s"},
        "/x/torch_extensions/py312_cu128": {"XDG_CACHE_HOME": "/x"},
        "/x/vllm/torch_compile_cache": {"XDG_CACHE_HOME": "/x"},
        "/m/torch_compile_cache": {"VLLM_CACHE_ROOT": "/m"},
        "/t/torchinductor_ada": {"TMPDIR": "/t"},
    }
    for path, variables in at.items():
        assert folders({f"{path}/x": ""}, **variables) == {path}


NAMED = {
    "TRITON_CACHE_DIR": "A2" * 26,
    "TORCHINDUCTOR_CACHE_DIR": "fxgraph",
    "TVM_FFI_CACHE_DIR": "libtorch_c_dlpack_addon_torch29-cuda.so",
    "TORCH_EXTENSIONS_DIR": "ext/build.ninja",
}


@pytest.mark.parametrize("variable", NAMED)
def test_a_folder_that_a_variable_names_is_a_cache_if_it_holds_nothing_else(variable: str) -> None:
    whole: dict[str, object] = {f"/scratch/{NAMED[variable]}": "", "/scratch/.hidden": ""}
    assert folders(whole, **{variable: "/scratch"}) == {"/scratch"}
    assert folders({**whole, "/scratch/thesis.tex": ""}, **{variable: "/scratch"}) == set()
    assert folders({"/scratch/": ""}, **{variable: "/scratch"}) == set()


@pytest.mark.parametrize("variable", NAMED)
@pytest.mark.parametrize("place", ["/", "/tmp", HOME, "", ".", "~", "/proc/self/fd", "/nowhere", "\0"])
def test_no_place_of_other_things_becomes_a_cache(variable: str, place: str) -> None:
    files = {"/tmp/x": "", f"{HOME}/x": "", "/here/x": ""}
    assert folders(files, **{variable: place}) == set()


def test_a_folder_of_somebody_else_is_left_out() -> None:
    files = {"/tmp/torchinductor_ada/x": "", f"{HOME}/.triton/cache/x": ""}
    assert folders(files, {"/tmp/torchinductor_ada": 1001}) == {f"{HOME}/.triton/cache"}


def test_a_link_to_a_cache_elsewhere_is_left_out() -> None:
    assert folders({f"{HOME}/.triton/cache": Link("/scratch/t"), "/scratch/t/x": ""}) == set()


# --- locks --------------------------------------------------------------------------------------------------

LOCK = f"{EXTENSIONS}/exl/lock"


def held(
    files: Mapping[str, object], source: str = BATON, owners: Mapping[str, int] | None = None
) -> tuple[bool | None, str]:
    lock = {LOCK: "", f"{SITE}/torch/utils/cpp_extension.py": source}
    (found,) = look(FakeHost({**PROC, **lock, **files}, owners=owners), packages("")).locks
    assert (found.path, found.kind) == (LOCK, "baton")
    return found.held, found.doubt


def closed(number: int, name: str, *users: int) -> dict[str, object]:
    """Return a process that may not be looked into."""
    status = f"Name:\t{name}\nUid:\t" + "\t".join(map(str, users or (OWNER,) * 4)) + "\n"
    return {f"/proc/{number}/fd/": PermissionError(errno.EACCES, "denied"), f"/proc/{number}/status": status}


def test_a_lock_that_no_process_has_open_is_stale() -> None:
    assert held({}) == (False, "")


def test_a_lock_that_a_process_has_open_is_held() -> None:
    assert held({"/proc/701/fd/5": Link(LOCK)}) == (True, "")


def test_a_lock_behind_a_link_is_compared_by_its_real_place() -> None:
    real = "/scratch/ada/torch_extensions/py312_cu128/exl/lock"
    host = FakeHost({**PROC, f"{HOME}/.cache": Link("/scratch/ada"), real: "", "/proc/701/fd/5": Link(real)})
    (lock,) = look(host, packages("")).locks
    assert (lock.path, lock.held) == (real, True)


def mounted(place: str, kind: str) -> dict[str, object]:
    """Return another file system at a place below the root."""
    root = PROC["/proc/self/mountinfo"]
    return {"/proc/self/mountinfo": f"{root}30 27 0:50 / {place} rw,nosuid - {kind} server:/x rw\n"}


@pytest.mark.parametrize(
    ("files", "why"),
    [
        ({"/proc/701/fd/5": Link("/root/.cache/torch_extensions/py312_cu128/exl/lock")}, "another path"),
        (closed(702, "python3"), "process 702 (python3)"),
        (closed(702, "python3", 0, 0, OWNER, 0), "process 702"),
        (mounted("/home", "nfs4"), "nfs4"),
        (mounted("/home/ada", "fuse.sshfs"), "sshfs"),
        ({"/proc/self/mountinfo": "garbage\n"}, "unknown"),
        ({"/proc/self/ns/pid": Link("pid:[4026532200]")}, "outside this container"),
    ],
)  # fmt: skip
def test_a_lock_whose_holder_may_be_out_of_sight_is_in_doubt(files: dict[str, object], why: str) -> None:
    verdict, doubt = held(files)
    assert verdict is None and why in doubt


def test_processes_that_cannot_be_the_holder_raise_no_doubt() -> None:
    others = {**closed(1, "systemd", 0, 0, 0, 0), **closed(703, "python3", 1001, 1001, 1001, 1001)}
    assert held({**others, **closed(704, "ssh-agent")}) == (False, "")


def test_in_a_container_its_own_files_are_nobody_elses() -> None:
    inside = {
        "/proc/self/ns/pid": Link("pid:[4026532200]"),
        "/proc/self/mountinfo": "27 1 0:9 / / rw - overlay overlay rw\n28 27 0:10 / /data rw - ext4 d rw\n",
    }
    assert held(inside) == (False, "")


def test_a_lock_of_somebody_else_is_in_doubt() -> None:
    verdict, doubt = held({}, owners={LOCK: 0})
    assert verdict is None and "another user" in doubt


def test_root_looks_into_everybody() -> None:
    root = {"/proc/self/status": "Name:\tpython3\nUid:\t0\t0\t0\t0\n"}
    assert held(root) == (False, "")
    assert held({**root, **closed(702, "python3")})[0] is None


def test_without_proc_there_is_no_telling() -> None:
    host = FakeHost({LOCK: "", "/proc/": OSError(errno.EIO, "I/O error")})
    (lock,) = look(host, packages("")).locks
    assert lock.held is None and "/proc" in lock.doubt


def test_an_advisory_lock_of_a_newer_torch_is_not_even_listed() -> None:
    files = {LOCK: "", f"{SITE}/torch/utils/cpp_extension.py": "with FileLock(lock):\n"}
    assert seen(files).locks == ()


@pytest.mark.parametrize(("version", "count"), [("2.13.0+cu130", 1), ("2.14.1", 0), ("2.6.0", 1)])
def test_where_torchs_source_cannot_be_read_its_version_tells(version: str, count: int) -> None:
    assert len(seen({LOCK: ""}, packages("", version)).locks) == count


@pytest.mark.parametrize(
    ("cuda", "include", "folder"),
    [("12.8", "/usr/include/python3.13t", "py312t_cu128"), ("", "/usr/include/python3.12", "py312_cpu")],
)
def test_the_folder_is_that_of_this_python_and_this_cuda(cuda: str, include: str, folder: str) -> None:
    lock = f"{HOME}/.cache/torch_extensions/{folder}/x/lock"
    host = FakeHost({**PROC, lock: "", LOCK: ""})
    found = probe(host, target(include), environ(), packages("", cuda=cuda), machine())
    assert [lock.path for lock in found.locks] == [lock]


def test_a_folder_called_lock_is_none() -> None:
    assert seen({f"{LOCK}/": ""}).locks == ()


# --- real processes -----------------------------------------------------------------------------------------


@contextmanager
def child(code: str, *argv: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run Python until its first line of output is there; kill it at the end."""
    process = subprocess.Popen([sys.executable, "-c", code, *argv], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.kill()
        process.wait()


HOLD = (
    "import os, sys, time; os.open(sys.argv[1], os.O_CREAT | os.O_EXCL);"
    "print('ready', flush=True); time.sleep(60)"
)
FLOCK = (
    "import fcntl, sys, time; file = open(sys.argv[1], 'w'); fcntl.flock(file, fcntl.LOCK_EX);"
    "print('ready', flush=True); time.sleep(60)"
)


def test_a_real_baton_is_held_while_its_process_lives_and_stale_when_it_was_killed(tmp_path: Path) -> None:
    folder = tmp_path / ".cache/torch_extensions/py312_cu128/exl"
    folder.mkdir(parents=True)

    def verdict() -> bool | None:
        (lock,) = look(RealHost({}), packages(""), str(tmp_path)).locks
        if lock.doubt:
            pytest.skip(f"this machine leaves doubt: {lock.doubt}")
        return lock.held

    with child(HOLD, f"{folder}/lock"):
        assert verdict() is True
    assert os.path.exists(folder / "lock")
    assert verdict() is False


def test_a_real_build_is_seen_by_its_advisory_lock(tmp_path: Path) -> None:
    folder = tmp_path / ".cache/flashinfer/0.5.3/86/cached_ops"
    (folder / "silu").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / "silu/build.ninja").write_text(ninja("silu"))
    with child(FLOCK, f"{folder}/tmp/silu.lock"):
        building = look(RealHost({}), packages(), str(tmp_path))
        assert is_building(building.ops[0], building)
    over = look(RealHost({}), packages(), str(tmp_path))
    assert not is_building(over.ops[0], over) and len(over.locks) == 1
    with open(folder / "tmp/silu.lock") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
