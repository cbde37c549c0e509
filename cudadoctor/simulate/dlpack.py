"""Whether FlashInfer can be handed an FP8 tensor: tvm-ffi's own rule for its torch add-on, step by step.

As `_optional_torch_c_dlpack.py` and `_build_optional_torch_c_dlpack.py` have it (apache-tvm-ffi 0.1.5, 0.1.9,
0.1.12, 0.1.13 and 0.1.15.post2, read 2026-11-21): torch itself, the wheel, the cached file, a build. What
goes wrong is a warning and no more; torch before 2.10 then raises BufferError at the first FP8 tensor.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct

from cudadoctor.facts import BuildTools, Compilers, Dlpack, DlpackAddon, Driver, Environ, Packages, Toolkits
from cudadoctor.simulate.choice import headers_at
from cudadoctor.simulate.lines import include_folders
from cudadoctor.versions import numbers

SWITCH = "TVM_FFI_DISABLE_TORCH_C_DLPACK"
#: What c10/cuda/CUDAStream.h includes of CUDA's, one of each folder (torch 2.9.0, read 2026-11-21).
_HEADERS = ("cuda_runtime_api.h", "cuda.h", "crt/host_config.h")
_OLDEST = {"gcc": 9, "clang": 9}  #: c10/util/C++17.h of torch 2.9.0 refuses anything older

Cause = Literal[
    "none", "torch", "wheel", "cached", "switch", "damaged", "read-only", "setuptools", "compiler",
    "python-headers", "cuda-headers", "unknown",
]  # fmt: skip


class Verdict(Struct, frozen=True):
    """How an FP8 tensor fares, by what, and what shows it (each thing seen, and what it says)."""

    ends: Literal["unused", "works", "builds", "fails", "unsure"]
    cause: Cause
    why: str = ""
    seen: tuple[tuple[str, str], ...] = ()


class Scene(Struct, frozen=True):
    """The facts that the add-on depends on."""

    packages: Packages
    dlpack: Dlpack
    environ: Environ
    compilers: Compilers
    toolkits: Toolkits
    tools: BuildTools
    driver: Driver


def verdict(scene: Scene) -> Verdict:
    """Return how FlashInfer fares with an FP8 tensor of this torch."""
    if reason := _unused(scene.packages):
        return Verdict("unused", "none", reason)
    dlpack, environ = scene.dlpack, scene.environ
    if dlpack.native:
        return Verdict("works", "torch")
    if dlpack.native is None or not dlpack.source:
        what = (
            "tvm-ffi, which FlashInfer needs, is not found"
            if dlpack.native is False
            else "this torch is a pre-release"
        )
        return Verdict("unsure", "unknown", what)
    if dlpack.switch and environ.get(SWITCH) not in (None, "0"):
        seen = (environ.where(SWITCH), f"{SWITCH}={environ.get(SWITCH)}")
        return Verdict("fails", "switch", f"{SWITCH} switches tvm-ffi's add-on off", (seen,))
    found = [of_device(device, scene) for device in devices(scene)]
    if len({each.ends for each in found}) > 1:
        return Verdict("unsure", "unknown", "whether torch can use a GPU here is not known")
    return found[0]


def _unused(packages: Packages) -> str:
    """Return why nobody hands FP8 tensors over through dlpack here, or ""."""
    torch, flashinfer = packages.torch, packages.flashinfer
    if torch is None or flashinfer is None:
        return f"{'FlashInfer' if flashinfer is None else 'torch'} is not installed"
    if torch.hip:
        return f"not applicable: torch is built for ROCm {torch.hip}"
    if numbers(flashinfer.version) < (0, 4):
        return f"FlashInfer {flashinfer.version} takes torch's tensors without dlpack"
    return ""


def devices(scene: Scene) -> tuple[str, ...]:
    """Return for which device the add-on is: as `torch.cuda.is_available()` will say, both where unknown."""
    hidden = scene.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    torch = scene.packages.torch
    if hidden or not scene.driver.signs() or torch is None or not torch.cuda:
        return ("cpu",)
    return ("cuda",) if scene.driver.gpus else ("cpu", "cuda")


def of_device(device: str, scene: Scene) -> Verdict:
    """Return how the add-on for this device is had: prebuilt, cached, to be built, or not at all."""
    dlpack = scene.dlpack
    addon = dlpack.addon(device)
    if dlpack.build != "script" or addon is None:
        return Verdict("unsure", "unknown", "this tvm-ffi builds its add-on in another way; --deep tries it")
    if addon.prebuilt and dlpack.takes_wheel and "packaging" not in dlpack.missing:
        return Verdict("works", "wheel", seen=((addon.prebuilt, "is prebuilt for this torch"),))
    if addon.exists:
        return _cached(addon)
    if addon.locked:
        return Verdict("unsure", "unknown", f"{addon.cached} is being built by another process")
    problem = _ground(dlpack) or _compiler(scene) or _python(scene) or (device == "cuda" and _cuda(scene))
    if not problem:
        return Verdict("builds", "compiler", "tvm-ffi compiles its add-on when it is first imported")
    return Verdict(
        problem.ends, problem.cause, problem.why, (*problem.seen, (addon.cached, "no add-on is cached"))
    )


def _cached(addon: DlpackAddon) -> Verdict:
    if addon.problem:
        why = "tvm-ffi's cached add-on cannot be loaded, and it builds no other while that is there"
        return Verdict("fails", "damaged", why, ((addon.cached, addon.problem),))
    return Verdict("works", "cached", seen=((addon.cached, "is in the cache"),))


def _ground(dlpack: Dlpack) -> Verdict | None:
    """Return why the build fails before any compiler is started, or None."""
    if "setuptools" in dlpack.missing:
        seen = ("setuptools", "not installed; torch.utils.cpp_extension, which the build uses, imports it")
        return Verdict("fails", "setuptools", "tvm-ffi cannot build its add-on without setuptools", (seen,))
    if not dlpack.writable:
        seen = (dlpack.cache, f"cannot be written to; {dlpack.cache_source} says where")
        return Verdict("fails", "read-only", "tvm-ffi has no place to put its add-on", (seen,))
    return None


def _compiler(scene: Scene) -> Verdict | None:
    """Return why the compiler will not do, or None. The whole of CXX is taken for the name of one program."""
    used, given = scene.compilers.used_by("tvm-ffi", "link"), scene.environ.get("CXX")
    place = scene.environ.where("CXX") if given is not None else "PATH"
    if used is None:
        return Verdict("unsure", "unknown", "which compiler tvm-ffi uses is not known")
    compiler = used[1]
    command = compiler.command if given is None else given
    if not compiler.path or not command:
        seen = (place, f"{command or 'CXX is empty'}: {compiler.problem or 'no such program'}")
        return _broken(f"there is no {command or 'compiler'} to build tvm-ffi's add-on with", seen)
    if re.match(r"exit status [1-9]", compiler.problem):
        seen = (compiler.path, compiler.problem)
        return _broken(f"{command}, which shall build tvm-ffi's add-on, is no working compiler", seen)
    if compiler.problem:
        return Verdict("unsure", "unknown", f"{command}: {compiler.problem}")
    if len(command.split()) > 1:
        why = "tvm-ffi takes the whole of CXX for the name of one program, and builds no add-on"
        return _broken(why, (place, f"CXX={command}"))
    major = numbers(compiler.version)[:1]
    if major and major < (_OLDEST.get(compiler.family, 0),):
        seen = (
            compiler.path,
            f"{compiler.family} {compiler.version}; torch's headers need {_OLDEST[compiler.family]}",
        )
        return _broken(f"{command} is too old to build tvm-ffi's add-on", seen)
    return None


def _broken(why: str, seen: tuple[str, str]) -> Verdict:
    return Verdict("fails", "compiler", why, (seen,))


def _python(scene: Scene) -> Verdict | None:
    if scene.tools.python_header:
        return None
    if not scene.tools.python_header_looked:
        return Verdict("unsure", "unknown", "where Python.h belongs is not known")
    if closed := scene.tools.python_header_barred:
        return Verdict("unsure", "unknown", f"Python.h may be there: this user may not enter {closed}")
    seen = tuple((path, "no such file") for path in scene.tools.python_header_looked)
    return Verdict("fails", "python-headers", "tvm-ffi cannot build its add-on without Python.h", seen)


def _cuda(scene: Scene) -> Verdict | None:
    """Return why the add-on for a GPU does not compile: CUDA's headers come by CUDA_HOME and CPATH alone."""
    selection = scene.toolkits.selected("torch")
    if selection is None:
        seen = ("CUDA_HOME", "not set, no nvcc on PATH, no /usr/local/cuda")
        return Verdict("fails", "cuda-headers", "tvm-ffi cannot build its add-on without a toolkit", (seen,))
    folders = include_folders(selection.root, scene.environ)
    folders += filter(None, [scene.environ.get("CUDA_INC_PATH")])
    at_root = headers_at(selection.root, scene.toolkits)
    known = [scene.toolkits.headers.get(folder) for folder in folders]
    known = [at_root if each is None and at_root is not None else each for each in known]
    present = {name for each in known if each is not None for name in each.headers}
    missing = [name for name in _HEADERS if name not in present]
    if not missing:
        return None
    if None in known:
        return Verdict("unsure", "unknown", f"{folders[known.index(None)]} was not looked into")
    why = f"g++ will not find {missing[0]} for tvm-ffi's add-on"
    return Verdict("fails", "cuda-headers", why, tuple((folder, f"no {missing[0]}") for folder in folders))
