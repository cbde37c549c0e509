"""What compiled packages were built for, and the bridge between them."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from cudadoctor.facts.section import Section


class FlashInferPart(Struct, frozen=True, omit_defaults=True):
    """A package that brings FlashInfer's kernels prebuilt, and how the installed FlashInfer takes it."""

    distribution: str  #: flashinfer-cubin or flashinfer-jit-cache
    version: str  #: as its own source says
    source: str
    wanted: str  #: FlashInfer's own version
    wanted_source: str
    suits: bool  #: whether the two agree, by the installed FlashInfer's own rule
    otherwise: str = ""  #: what importing FlashInfer does where they do not: raises, warns, "" nothing
    rule: str = ""  #: the file and line of that rule


class BuiltFor(Struct, frozen=True, omit_defaults=True):
    """What a compiled distribution says of the torch and CUDA that it was built for."""

    distribution: str
    version: str
    source: str
    stated: str  #: as it stands there: "+cu12torch2.8cxx11abiTRUE"
    torch: str = ""  #: "2.8" or "2.9.0"
    cuda: str = ""  #: "12", "12.8", "cpu"
    cxx11_abi: bool | None = None
    requires_torch: str = ""  #: the one version of torch that its metadata allows, where it does
    exact_cuda: bool = False  #: importing it raises where torch is of another CUDA minor


class BitsAndBytes(Struct, frozen=True, omit_defaults=True):
    """The CUDA libraries that the installed bitsandbytes brings, and how it chooses one."""

    version: str
    root: str
    cuda: tuple[str, ...]  #: "12.8", in order
    source: str  #: the file with the rule
    falls_back: bool = False  #: takes another minor of the same CUDA major where the exact one is missing


class UnknownVariable(Struct, frozen=True, omit_defaults=True):
    """A variable called VLLM_* that the installed vLLM does not read."""

    name: str
    near: str = ""  #: the name that it does read and that looks most like it
    typo: bool = False  #: so much like it that nothing else can be meant


class SharedFile(Struct, frozen=True):
    """A library that the wheels of two CUDA majors both claim: the one installed last has overwritten it."""

    path: str
    owners: tuple[str, ...]  #: the distributions whose RECORD names it
    holds: str  #: the one whose file is there, by its size; "" where that cannot be told


class Builds(Section, frozen=True):
    """What the installed artefacts say of what they were built for, read off the artefacts."""

    torch_source: str = ""  #: the line of torch that states its CUDA
    torch_abi: bool | None = None  #: whether torch was built with the new C++ ABI; None: it does not say
    torch_abi_source: str = ""
    flashinfer_parts: tuple[FlashInferPart, ...] = ()
    built_for: tuple[BuiltFor, ...] = ()
    bitsandbytes: BitsAndBytes | None = None
    vllm_envs: str = ""  #: the file of the installed vLLM that names its variables
    vllm_unknown: tuple[UnknownVariable, ...] = ()
    shared_files: tuple[SharedFile, ...] = ()


class DlpackAddon(Struct, frozen=True, omit_defaults=True):
    """tvm-ffi's torch add-on for one kind of device: as a wheel brings it, and as tvm-ffi would build it."""

    device: str  #: cuda, cpu
    cached: str  #: the file that tvm-ffi looks for in its cache
    prebuilt: str = ""  #: the file in torch-c-dlpack-ext; "" where that is not installed or has none
    exists: bool = False  #: whether the cached file is there
    problem: str = ""  #: why the cached file cannot be loaded: "file too short"
    locked: bool = False  #: a live process is building it


class Dlpack(Section, frozen=True, omit_defaults=True):
    """What decides whether FlashInfer can be handed FP8 tensors, read off the installed packages.

    The add-on matters, and is looked for, only where torch does not export FP8 by itself.
    """

    native: bool | None = None  #: torch exports FP8 through dlpack by itself; None: that is not known
    source: str = ""  #: the file of tvm-ffi that loads or builds the add-on; "" where there is none
    build: Literal["", "script", "inline"] = ""  #: by a script of its own, or by torch's extension builder
    switch: bool = False  #: obeys TVM_FFI_DISABLE_TORCH_C_DLPACK
    takes_wheel: bool = False  #: tries torch-c-dlpack-ext first
    wheel: str = ""  #: the folder of the installed torch_c_dlpack_ext
    missing: tuple[str, ...] = ()  #: modules that are not installed: packaging, setuptools
    cache: str = ""  #: the folder of the cached add-ons
    cache_source: str = ""  #: the variable that says where, or "the default"
    writable: bool = True  #: whether an add-on could be put there
    addons: tuple[DlpackAddon, ...] = ()

    def addon(self, device: str) -> DlpackAddon | None:
        """Return the add-on for a kind of device."""
        return next((addon for addon in self.addons if addon.device == device), None)
