"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from msgspec import structs

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import (
    BuildTools,
    Caches,
    Card,
    Compilers,
    Dlpack,
    Driver,
    Environ,
    Launch,
    Model,
    Packages,
    Target,
    Toolkits,
)
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.dlpack import SWITCH, Scene, Verdict, devices, of_device, verdict
from cudadoctor.verdicts import pip_for, pip_install
from cudadoctor.versions import numbers

_WHEEL = "torch-c-dlpack-ext"
_STOPS = "; this launch will stop with BufferError"


@check
def fp8_dlpack_unsupported(
    packages: Packages,
    dlpack: Dlpack,
    environ: Environ,
    compilers: Compilers,
    toolkits: Toolkits,
    tools: BuildTools,
    driver: Driver,
    caches: Caches,
    target: Target,
    launch: Launch | None = None,
    model: Model | None = None,
    card: Card | None = None,
) -> Iterator[Finding]:
    """FlashInfer cannot be handed FP8 tensors by this torch: an FP8 KV cache will stop with BufferError.

    ## What it means
    FlashInfer 0.4 and later takes tensors of torch through tvm-ffi and dlpack. torch exports FP8 so since
    2.10. Before, a small C++ add-on of tvm-ffi does it: prebuilt in the wheel `torch-c-dlpack-ext`, else
    compiled when tvm-ffi is first imported (half a minute), else taken from its cache. `BufferError: float8
    types are not supported by dlpack` says that this add-on was not built or not loaded: no limit of torch's.
    Only FP8 tensors are affected: with `--kv-cache-dtype auto` all is well. Of a launch it is known which
    backend takes its KV cache: it stops where that is FlashInfer, and nothing is said where it is another.

    ## How to tell
    `python -c "import torch, tvm_ffi"` warns `Failed to JIT torch c dlpack extension`.

    ## What helps
    `torch-c-dlpack-ext`, of 1 MB, which needs no compiler (for torch 2.4 to 2.9). A compiler that works, with
    CUDA's headers under `$CUDA_HOME/include` or in CPATH, does as well. A cached add-on that is damaged has
    to be moved aside: tvm-ffi builds no other while it is there. torch 2.10 (vLLM 0.17 and later) needs no
    add-on, and another KV cache type no FP8.
    """
    scene = Scene(packages, dlpack, environ, compilers, toolkits, tools, driver)
    found = verdict(scene)
    if found.ends == "unused":
        raise Skip(found.why)
    if found.ends == "unsure":
        raise CannotTell(found.why)
    if found.ends != "fails":
        return
    sure = launch is not None and _is_handed(launch, model, card, packages, environ)
    version = packages.torch.version if packages.torch else ""
    evidence = [Evidence(source, detail) for source, detail in found.seen]
    if dlpack.wheel and "packaging" in dlpack.missing:
        evidence.append(
            Evidence(dlpack.wheel, "is passed over: the module packaging, which it imports, is missing")
        )
    if sure and launch is not None and (given := launch.options.get("--kv-cache-dtype")) is not None:
        evidence.append(Evidence(given.origin, f"{given.spelled} {given.values[-1]}, by FlashInfer"))
    evidence.append(Evidence(f"torch {version}", "exports no FP8 through dlpack by itself (2.10 does)"))
    first, *others = _remedies(found, scene, caches, target)
    yield Finding(
        f"FlashInfer cannot be handed FP8 tensors: {found.why}{_STOPS if sure else ''}",
        Severity.ERROR if sure else Severity.WARNING,
        tuple(evidence),
        (structs.replace(first, instead=tuple(others)),),
    )


def _is_handed(
    launch: Launch, model: Model | None, card: Card | None, packages: Packages, environ: Environ
) -> bool:
    """Return whether this launch is sure to hand FlashInfer an FP8 tensor; raise Skip where it is not to."""
    from cudadoctor.attention import hands_flashinfer_fp8
    from cudadoctor.tasks import version_of

    return hands_flashinfer_fp8(launch, model, card, packages, version_of(launch, packages), environ)


def _remedies(found: Verdict, scene: Scene, caches: Caches, target: Target) -> Iterator[Remedy]:
    """Yield what helps, the lightest first."""
    if found.cause == "switch":
        yield Remedy("show", {}, f"unset {SWITCH}")
    if found.cause == "damaged" and _builds_then(scene):
        yield _aside(found, scene, caches)
    if wheel := _wheel(scene, target):
        yield wheel
    if found.cause in ("setuptools", "compiler", "read-only"):
        yield _repair(found, target, scene.packages)
    yield Remedy(
        "show", {}, "vLLM 0.17 or later, which brings torch 2.10; or --kv-cache-dtype auto, without FP8"
    )


def _builds_then(scene: Scene) -> bool:
    """Return whether the add-on would be built if the cached one were not there."""
    gone = tuple(structs.replace(addon, exists=False, problem="") for addon in scene.dlpack.addons)
    without = structs.replace(scene, dlpack=structs.replace(scene.dlpack, addons=gone))
    return all(of_device(device, without).ends == "builds" for device in devices(without))


def _aside(found: Verdict, scene: Scene, caches: Caches) -> Remedy:
    """Move the folder aside where it is tvm-ffi's alone; else show how the one file is."""
    folder = next((f.path for f in caches.folders if f.name == "tvm-ffi"), "")
    path = folder or found.seen[0][0]
    command = f"mv {shlex.quote(path)} {shlex.quote(path + '.aside')}"
    return Remedy("jit-caches", {folder: ""}, command) if folder else Remedy("show", {}, command)


def _wheel(scene: Scene, target: Target) -> Remedy | None:
    """Return the install that makes the prebuilt add-on count; None where there is none for this torch."""
    dlpack, torch = scene.dlpack, scene.packages.torch
    release = numbers(torch.version)[:2] if torch else ()
    # The wheel 0.1.5 holds libraries for torch 2.4 to 2.9 (its file list, 2026-11-21).
    if not (2, 4) <= release <= (2, 9) or not dlpack.takes_wheel:
        return None
    wanted = [] if dlpack.wheel else [_WHEEL]
    wanted += ["packaging"] if "packaging" in dlpack.missing else []
    if not wanted:
        return None
    return pip_install(pip_for(target, scene.packages), *wanted)


def _repair(found: Verdict, target: Target, packages: Packages) -> Remedy:
    """Return what makes the build work."""
    if found.cause == "setuptools":
        return pip_install(pip_for(target, packages), "setuptools")
    if found.cause == "read-only":
        return Remedy("show", {}, "export TVM_FFI_CACHE_DIR=/path  # a folder that you may write to")
    return Remedy("show", {}, "export CXX=g++  # a compiler that works: g++ of Debian, gxx_linux-64 of conda")
