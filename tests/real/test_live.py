"""A real torch and FlashInfer, taken into use: what the files told before must be what then happens.

CUDADOCTOR_STACK names the environment; nothing is installed into it. With torch before 2.10 the add-on of
tvm-ffi decides, and every way to lose it is tried, in copies made of links.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from cudadoctor import engine
from cudadoctor.facts import Dlpack, Driver, Environ, Facts, Gpu, Live, Packages, Target
from cudadoctor.findings import Severity
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Passed
from cudadoctor.probes import live
from cudadoctor.probes.target import Request
from cudadoctor.testing import judge

pytestmark = pytest.mark.stack
NEEDED = {
    "target", "machine", "environ", "packages", "conda", "compilers", "toolkits", "tools", "driver", "caches",
    "dlpack",
}  # fmt: skip
A_GPU = Driver("580.65", "/proc/driver/nvidia/version", gpus=(Gpu(0, "NVIDIA H100", "9.0"),))
#: torch says that it has a GPU, from the moment on that tvm-ffi is looked for.
PRETEND = """
import sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "tvm_ffi" and "torch" in sys.modules:
            sys.modules["torch"].cuda.is_available = lambda: True
sys.meta_path.insert(0, Finder())
"""


@pytest.fixture
def stack() -> Path:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    return Path(named)


def collected(prefix: Path, **variables: str) -> Facts:
    """Return what the files tell of an environment that is active with these variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CUDA", "TVM_FFI"))}
    path = f"{prefix}/bin:{os.environ['PATH']}"
    host = RealHost({**kept, "VIRTUAL_ENV": str(prefix), "PATH": path, **variables})
    return engine.collect(host, NEEDED, Request())


def across(facts: Facts, **variables: str) -> Live:
    """Run the stages up to dlpack: FlashInfer and vLLM take long to import and tell no more of it."""
    assert isinstance(facts.target, Target) and isinstance(facts.environ, Environ)
    assert isinstance(facts.packages, Packages) and isinstance(facts.dlpack, Dlpack)
    some = tuple(d for d in facts.packages.distributions if d.name not in ("vllm", "flashinfer-python"))
    packages = structs.replace(facts.packages, distributions=some)
    host = RealHost({**os.environ, **variables})
    # A compiler is at work in it, on a machine that runs other tests as well.
    return live.probe(host, facts.target, facts.environ, packages, facts.dlpack, stage_s=300, total_s=900)


def says_the_same(facts: Facts) -> str:
    """Return who takes FP8 tensors; fail where the check, without running anything, says otherwise."""
    found = across(facts)
    outcome = judge("fp8-dlpack-unsupported", facts)
    stage = found.stage("dlpack")
    assert stage is not None and (stage.ended == "passed") == (found.fp8 != "nobody"), found
    assert isinstance(outcome, Passed) == (found.fp8 != "nobody"), (outcome, found)
    if found.fp8 == "nobody":
        assert stage.message == "BufferError: float8 types are not supported by dlpack"
        (finding,) = outcome.findings
        assert finding.severity is Severity.WARNING
    return found.fp8


def is_old(stack: Path) -> bool:
    found = sorted(stack.glob("lib/python3.*/site-packages/torch-2.*.dist-info"))
    return bool(found) and int(re.findall(r"torch-2\.(\d+)", found[0].name)[0]) < 10


@pytest.fixture
def old(stack: Path) -> Path:
    if not is_old(stack):
        pytest.skip("this torch exports FP8 by itself")
    return stack


@pytest.fixture
def copy(old: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return `copy(*without)`, which makes an environment of links to all packages but these."""

    def make(*without: str) -> Path:
        prefix, theirs = tmp_path / "env", next(old.glob("lib/python3.*/site-packages"))
        python = (old / "bin/python3").resolve()
        subprocess.run([python, "-m", "venv", "--without-pip", prefix], check=True)
        ours = prefix / theirs.relative_to(old)
        for entry in theirs.iterdir():
            if re.split(r"[-.]", entry.name)[0] not in without:
                (ours / entry.name).symlink_to(entry)
        return prefix

    return make


@pytest.fixture
def empty(tmp_path: Path) -> dict[str, str]:
    """Return the variables of an add-on cache in which nothing is."""
    (tmp_path / "cache").mkdir()
    return {"TVM_FFI_CACHE_DIR": str(tmp_path / "cache")}


@pytest.fixture
def wheel(old: Path, work: Path, tmp_path: Path) -> Callable[[Path], Path]:
    """Return `wheel(site)`, which puts torch-c-dlpack-ext there and returns its folder."""

    def unpack(site: Path) -> Path:
        pip = [str(old / "bin/python3"), "-m", "pip", "install", "-q", "--no-deps"]
        argv = [*pip, "--target", str(site), "torch-c-dlpack-ext==0.1.5"]
        ran = subprocess.run(argv, capture_output=True, text=True, check=False)
        if ran.returncode:
            pytest.skip(f"torch-c-dlpack-ext could not be had: {ran.stderr[-200:]}")
        return site / "torch_c_dlpack_ext"

    return unpack


def site(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3.*/site-packages"))


def test_a_stack_passes_every_stage_but_for_what_is_known_to_conflict(stack: Path) -> None:
    variables = {**os.environ, "VIRTUAL_ENV": str(stack), "PATH": f"{stack}/bin:{os.environ['PATH']}"}
    facts = engine.collect(RealHost(variables), NEEDED | {"live"}, Request(deep=True))
    assert isinstance(facts.live, Live), facts.live
    ended = {stage.name: stage.ended for stage in facts.live.stages}
    healthy = isinstance(judge("requirement-conflict", facts), Passed)
    failed = {name for name, how in ended.items() if how == "failed"}
    assert failed <= (set() if healthy else {"vllm"}), facts.live
    assert ended["torch"] == ended["dlpack"] == ended["flashinfer"] == "passed"
    assert isinstance(judge("stack-import-fails", facts), Passed) == (not failed)
    assert isinstance(judge("fp8-dlpack-unsupported", facts), Passed)
    owners = {library.path.rpartition("/")[2].partition(".")[0]: library for library in facts.live.libraries}
    assert owners["libcublas"].distribution.startswith("nvidia-cublas"), owners
    assert facts.live.fp8 == ("add-on" if is_old(stack) else "torch")


def test_a_torch_that_exports_fp8_needs_nothing_else(stack: Path, empty: dict[str, str]) -> None:
    if is_old(stack):
        pytest.skip("this torch does not")
    facts = collected(stack, CXX="/bin/false", TVM_FFI_DISABLE_TORCH_C_DLPACK="1", **empty)
    assert says_the_same(facts) == "torch"


def test_with_a_compiler_the_addon_is_built(old: Path, empty: dict[str, str], gxx: str) -> None:
    assert says_the_same(collected(old, **empty)) == "add-on"
    assert not list(Path(empty["TVM_FFI_CACHE_DIR"]).iterdir())


@pytest.mark.parametrize("cxx", ["/bin/false", "/nowhere/g++", "", "g++ -O1"])
def test_without_a_compiler_that_works_fp8_fails(
    old: Path, empty: dict[str, str], gxx: str, cxx: str
) -> None:
    facts = collected(old, CXX=cxx, **empty)
    assert says_the_same(facts) == "nobody"
    (finding,) = judge("fp8-dlpack-unsupported", facts).findings
    assert finding.remedies[0].values == {"packages": "torch-c-dlpack-ext"}


def test_switched_off_fp8_fails(old: Path) -> None:
    facts = collected(old, TVM_FFI_DISABLE_TORCH_C_DLPACK="1")
    assert says_the_same(facts) == "nobody"
    assert says_the_same(collected(old, TVM_FFI_DISABLE_TORCH_C_DLPACK="")) == "nobody"


def test_a_cache_that_cannot_be_written_to_is_told(old: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()  # root may write to any folder, and below no file
    assert says_the_same(collected(old, TVM_FFI_CACHE_DIR=str(tmp_path / "file/cache"))) == "nobody"


def test_the_build_needs_setuptools(copy: Callable[..., Path], empty: dict[str, str], gxx: str) -> None:
    assert says_the_same(collected(copy("setuptools", "_distutils_hack", "distutils"), **empty)) == "nobody"


def test_the_prebuilt_addon_needs_no_compiler_but_packaging(
    copy: Callable[..., Path], wheel: Callable[[Path], Path], empty: dict[str, str]
) -> None:
    prefix = copy("packaging")
    wheel(site(prefix))
    facts = collected(prefix, CXX="/bin/false", **empty)
    assert says_the_same(facts) == "nobody"
    (finding,) = judge("fp8-dlpack-unsupported", facts).findings
    assert finding.remedies[0].values == {"packages": "packaging"}
    (site(prefix) / "packaging").mkdir()
    shutil.copytree(
        site(Path(os.environ["CUDADOCTOR_STACK"])) / "packaging",
        site(prefix) / "packaging",
        dirs_exist_ok=True,
    )
    assert says_the_same(collected(prefix, CXX="/bin/false", **empty)) == "add-on"


def test_a_cached_addon_counts_and_a_damaged_one_is_in_the_way(
    old: Path, wheel: Callable[[Path], Path], empty: dict[str, str], tmp_path: Path, gxx: str
) -> None:
    facts = collected(old, CXX="/bin/false", **empty)
    assert isinstance(facts.dlpack, Dlpack)
    addon = facts.dlpack.addon("cpu")
    assert addon is not None and isinstance(facts.packages, Packages) and facts.packages.torch is not None
    # tvm-ffi's own name for it, which is told only where there is something with a tag.
    identity = f"{facts.packages.torch.version}|cxx11abi=1"
    cached = addon.cached.replace("*", hashlib.sha256(identity.encode()).hexdigest()[:8])
    prebuilt = wheel(tmp_path / "wheel") / "libtorch_c_dlpack_addon_torch29-cpu.so"
    shutil.copy(prebuilt, cached)
    assert says_the_same(collected(old, CXX="/bin/false", **empty)) == "add-on"
    for size in (0, 100_000):
        os.truncate(cached, size)
        facts = collected(old, **empty)
        assert says_the_same(facts) == "nobody"
        (finding,) = judge("fp8-dlpack-unsupported", facts).findings
        assert finding.remedies[0].fix == "jit-caches"


@pytest.mark.download
def test_on_a_gpu_machine_cuda_headers_out_of_sight_lose_the_addon(
    copy: Callable[..., Path], conda13: Path, empty: dict[str, str], gxx: str
) -> None:
    prefix = copy()
    (site(prefix) / "pretend.py").write_text(PRETEND)
    (site(prefix) / "pretend.pth").write_text("import pretend\n")
    facts = structs.replace(collected(prefix, CUDA_HOME=str(conda13), **empty), driver=A_GPU)
    assert says_the_same(facts) == "nobody"
    headers = f"{conda13}/targets/x86_64-linux/include"
    facts = collected(prefix, CUDA_HOME=str(conda13), CPATH=headers, **empty)
    assert says_the_same(structs.replace(facts, driver=A_GPU)) == "add-on"
