"""FP8 tensors across dlpack: each way for the add-on to be had, and each way to lose it."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import (
    BuildTools,
    CacheFolder,
    Caches,
    Card,
    Compiler,
    Compilers,
    CompilerUse,
    Dlpack,
    DlpackAddon,
    Driver,
    Gpu,
    HeaderDirectory,
    Target,
    Unknown,
)
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import CUDA, PREFIX, SITE, compilers, environ, no_toolkits, one, packages, shown, toolkits, tools
from .launched import RTX_3090, launch, model

CACHE = "/home/ada/.cache/tvm-ffi"
WHEEL = f"{SITE}/torch_c_dlpack_ext"
CPU, GPU = (f"{CACHE}/libtorch_c_dlpack_addon_torch29-{device}-25ae710d.so" for device in ("cpu", "cuda"))
TARGET = Target(PREFIX, "venv", f"{PREFIX}/bin/python3", "3.12", "/usr", (SITE,), "", "VIRTUAL_ENV", True)
A_GPU = Driver("580.65", "/proc/driver/nvidia/version", gpus=(Gpu(0, "NVIDIA H100", "9.0"),))
H100 = Card("h100", 79 << 30, "9.0", source="--gpu")
L4 = Card("l4", 22 << 30, "8.9", source="--gpu")
A_DEAD_GPU = structs.replace(A_GPU, gpus=())


def dlpack(*addons: DlpackAddon, **more: Any) -> Dlpack:
    """Return torch 2.9 with a current tvm-ffi, whose cache holds no add-on."""
    made = Dlpack(
        False, f"{SITE}/tvm_ffi/_optional_torch_c_dlpack.py", "script", True, True, cache=CACHE,
        cache_source="the default", addons=addons or (DlpackAddon("cpu", CPU), DlpackAddon("cuda", GPU)),
    )  # fmt: skip
    return structs.replace(made, **more)


def a_compiler(**changes: str) -> Compilers:
    """Return the compiler of tvm-ffi with these fields changed."""
    used = compilers("tvm-ffi")
    return structs.replace(used, compilers={"c++": structs.replace(used.compilers["c++"], **changes)})


def look(found: Dlpack | None = None, **sections: Any) -> Outcome:
    """Judge a healthy FlashInfer 0.5.3 with torch 2.9.0, on a machine without a GPU."""
    healthy = {
        "packages": packages(torch="2.9.0+cu128", flashinfer="0.5.3"), "dlpack": found or dlpack(),
        "environ": environ(), "compilers": compilers("tvm-ffi"), "toolkits": toolkits(), "tools": tools(),
        "driver": Driver(), "caches": Caches(), "target": TARGET,
    }  # fmt: skip
    return judge("fp8-dlpack-unsupported", **{**healthy, **sections})


def fixes(finding: Finding) -> list[str]:
    """Return what helps, the first and what does as well instead."""
    first = finding.remedies[0]
    return [first.summary, *(remedy.summary for remedy in first.instead)]


INSTALL = f"{PREFIX}/bin/python3 -m pip install torch-c-dlpack-ext"
UPGRADE = "vLLM 0.17 or later, which brings torch 2.10; or --kv-cache-dtype auto, without FP8"


def test_is_silent_where_a_compiler_will_build_the_addon() -> None:
    assert isinstance(look(), Passed)


def test_is_silent_where_torch_exports_fp8_itself() -> None:
    broken = environ(TVM_FFI_DISABLE_TORCH_C_DLPACK="1")
    assert isinstance(look(Dlpack(True), environ=broken, compilers=Compilers({}, ())), Passed)


def test_applies_to_those_who_hand_tensors_over_through_dlpack_alone() -> None:
    for each in (packages(flashinfer=""), packages(torch=""), packages(torch="2.8.0", flashinfer="0.3.1")):
        assert isinstance(look(packages=each), Skipped)


def test_without_a_compiler_it_names_the_wheel_first() -> None:
    finding = one(look(compilers=a_compiler(path="", problem="not found on PATH")), Severity.WARNING)
    assert finding.summary == (
        "FlashInfer cannot be handed FP8 tensors: there is no c++ to build tvm-ffi's add-on with"
    )
    assert "PATH: c++: not found on PATH" in shown(finding)
    assert f"{CPU}: no add-on is cached" in shown(finding)
    assert finding.remedies[0].values == {"packages": "torch-c-dlpack-ext"}
    assert fixes(finding)[0] == INSTALL and fixes(finding)[-1] == UPGRADE


@pytest.mark.parametrize(
    ("compiler", "variables", "says"),
    [
        ({"problem": "exit status 1 without a word"}, {}, "c++, which shall build tvm-ffi's add-on, is no"),
        ({"version": "8.5.0"}, {}, "c++ is too old to build"),
        ({}, {"CXX": "c++ -O1"}, "takes the whole of CXX for the name of one program"),
        ({}, {"CXX": ""}, "there is no compiler to build"),
    ],
)
def test_a_compiler_that_will_not_do_is_told(
    compiler: dict[str, str], variables: dict[str, str], says: str
) -> None:
    outcome = look(compilers=a_compiler(**compiler), environ=environ(**variables))
    assert says in one(outcome, Severity.WARNING).summary


def test_a_compiler_that_answers_oddly_leaves_it_open() -> None:
    for problem in ("did not answer in time", "icpx: command line warning #10430"):
        assert isinstance(look(compilers=a_compiler(problem=problem)), Inconclusive)


def test_a_prebuilt_addon_needs_no_compiler() -> None:
    addon = DlpackAddon("cpu", CPU, prebuilt=f"{WHEEL}/libtorch_c_dlpack_addon_torch29-cpu.so")
    none = Compilers({}, ())
    assert isinstance(look(dlpack(addon, wheel=WHEEL), compilers=none), Passed)
    found = look(dlpack(addon, wheel=WHEEL, missing=("packaging",)), compilers=a_compiler(path=""))
    finding = one(found, Severity.WARNING)
    assert f"{WHEEL}: is passed over: the module packaging" in shown(finding)
    assert finding.remedies[0].values == {"packages": "packaging"}


def test_an_older_tvm_ffi_does_not_take_the_wheel() -> None:
    addon = DlpackAddon("cpu", CPU, prebuilt=f"{WHEEL}/libtorch_c_dlpack_addon_torch29-cpu.so")
    found = dlpack(addon, wheel=WHEEL, takes_wheel=False)
    finding = one(look(found, compilers=a_compiler(path="")))
    assert all("torch-c-dlpack-ext" not in each for each in fixes(finding))


def test_a_cached_addon_needs_no_compiler_and_a_damaged_one_is_moved_aside() -> None:
    assert isinstance(look(dlpack(DlpackAddon("cpu", CPU, exists=True)), compilers=Compilers({}, ())), Passed)
    damaged = dlpack(DlpackAddon("cpu", CPU, exists=True, problem="file too short"))
    folder = Caches(folders=(CacheFolder("tvm-ffi", CACHE, "the default"),))
    finding = one(look(damaged, caches=folder), Severity.WARNING)
    assert f"{CPU}: file too short" in shown(finding)
    assert finding.remedies[0].fix == "jit-caches" and finding.remedies[0].values == {CACHE: ""}
    assert fixes(finding) == [f"mv {CACHE} {CACHE}.aside", INSTALL, UPGRADE]
    assert fixes(one(look(damaged)))[0] == f"mv {CPU} {CPU}.aside"
    assert fixes(one(look(damaged, compilers=a_compiler(path=""))))[0] == INSTALL


def test_the_switch_is_named() -> None:
    for value in ("1", ""):
        finding = one(look(environ=environ(TVM_FFI_DISABLE_TORCH_C_DLPACK=value)), Severity.WARNING)
        assert fixes(finding)[0] == "unset TVM_FFI_DISABLE_TORCH_C_DLPACK"
    assert isinstance(look(environ=environ(TVM_FFI_DISABLE_TORCH_C_DLPACK="0")), Passed)
    assert isinstance(look(dlpack(switch=False), environ=environ(TVM_FFI_DISABLE_TORCH_C_DLPACK="1")), Passed)


def test_what_the_build_itself_needs_is_named() -> None:
    setuptools = one(look(dlpack(missing=("setuptools",))), Severity.WARNING)
    assert fixes(setuptools) == [INSTALL, INSTALL.replace("torch-c-dlpack-ext", "setuptools"), UPGRADE]
    assert "TVM_FFI_CACHE_DIR" in fixes(one(look(dlpack(writable=False))))[1]
    header = "/usr/include/python3.12/Python.h"
    assert f"{header}: no such file" in shown(one(look(tools=BuildTools({}, "", (header,)))))
    assert isinstance(look(tools=BuildTools({}, "")), Inconclusive)


def test_on_a_gpu_machine_cudas_headers_count() -> None:
    assert isinstance(look(driver=A_GPU), Passed)
    hidden = toolkits(headers="12.8", more_headers={f"{CUDA}/include": HeaderDirectory(False)})
    finding = one(look(driver=A_GPU, toolkits=hidden), Severity.WARNING)
    assert f"{CUDA}/include: no cuda_runtime_api.h" in shown(finding)
    assert isinstance(look(toolkits=hidden), Passed), "without a GPU none of CUDA's headers is included"
    assert isinstance(look(driver=A_GPU, toolkits=hidden, environ=environ(CUDA_VISIBLE_DEVICES="")), Passed)
    assert "without a toolkit" in one(look(driver=A_GPU, toolkits=no_toolkits())).summary


def test_a_gpu_that_may_or_may_not_be_usable_leaves_it_open_where_it_matters() -> None:
    assert isinstance(look(driver=A_DEAD_GPU), Passed)
    assert isinstance(look(driver=A_DEAD_GPU, toolkits=no_toolkits()), Inconclusive)


def test_what_is_not_known_leaves_it_open() -> None:
    assert isinstance(look(dlpack(native=None)), Inconclusive)
    assert isinstance(look(dlpack(source="")), Inconclusive)
    assert isinstance(look(dlpack(build="inline")), Inconclusive)
    assert isinstance(look(dlpack(DlpackAddon("cpu", CPU, locked=True))), Inconclusive)
    nobody = Compilers({"c++": Compiler("c++", "/usr/bin/c++")}, (CompilerUse("torch", "link", "c++", ""),))
    assert isinstance(look(compilers=nobody), Inconclusive)


def launched(dtype: str = "fp8", card: Card | Unknown = RTX_3090, **more: Any) -> Outcome:
    """Judge a launch beside vLLM 0.12.0, in whose environment no add-on can be built."""
    held = packages(torch="2.9.0+cu128", flashinfer="0.5.3", vllm=more.pop("version", "0.12.0"))
    options = more.pop("options", {})
    given = launch(**({"kv_cache_dtype": dtype} if dtype else {}), **options)
    sections: dict[str, Any] = {"launch": given, "model": model(), "card": card, **more}
    return look(compilers=a_compiler(path=""), packages=held, **sections)


def test_a_launch_whose_cache_flashinfer_takes_will_stop() -> None:
    for dtype in ("fp8", "fp8_e4m3", "fp8_e5m2"):
        finding = one(launched(dtype), Severity.ERROR)
        assert finding.summary.endswith("; this launch will stop with BufferError")
        assert f"command line: kv_cache_dtype {dtype}, by FlashInfer" in shown(finding)
        assert fixes(finding)[0] == INSTALL


def test_nothing_is_said_of_a_launch_that_hands_it_no_fp8() -> None:
    for dtype in ("", "auto"):
        outcome = launched(dtype)
        assert isinstance(outcome, Skipped) and "no FP8 KV cache" in outcome.reason
    by_another = launched(card=H100)
    assert isinstance(by_another, Skipped) and "taken by FLASH_ATTN" in by_another.reason
    named = launched(card=L4, environ=environ(VLLM_ATTENTION_BACKEND="TRITON_ATTN"))
    assert isinstance(named, Skipped) and "TRITON_ATTN" in named.reason
    contained = structs.replace(launch(kv_cache_dtype="fp8"), image="vllm/vllm-openai:v0.12.0")
    assert isinstance(launched(launch=contained), Skipped)


def test_what_is_not_known_of_a_launch_leaves_the_warning() -> None:
    for unsure in (
        launched(card=Unknown("no GPU")), launched(model=Unknown("not here")), launched(model=model(None)),
        launched("", card=H100, model=model(method="fp8")), launched(version="0.10.2"),
        launched(launch=launch("other")), launched(card=H100, model=model(method="fp8")),
        launched("nvfp4"), launched("", model=model(method="modelopt")),
    ):  # fmt: skip
        assert not one(unsure, Severity.WARNING).summary.endswith("BufferError")
