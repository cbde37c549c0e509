"""What a launch asks of vLLM's attention backends: a KV cache dtype, a kind of attention, on this GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Card, Environ, Launch, Model, Packages, Paths
from cudadoctor.knowledge.vllm import BACKEND

if TYPE_CHECKING:  # asked for by few runs: every run loads the checks
    from cudadoctor.knowledge.attention import Asked
    from cudadoctor.simulate.model_shape import Shape

#: Models whose images attend to all of themselves; of the second kind some releases alone say so.
_IMAGES = ("gemma3",)
_MAYBE_IMAGES = ("bagel", "molmo2", "moondream3", "paligemma", "gemma4")
_WITHOUT_IMAGES = ("--limit-mm-per-prompt", "--language-model-only")
#: These change what FlashAttention can do.
_VARIABLES = ("VLLM_FLASH_ATTN_VERSION", "VLLM_BATCH_INVARIANT")
_LAST_READ = (0, 14)  #: of the variable that names a backend


def asked_of(
    launch: Launch, model: Model, shape: Shape, card: Card, packages: Packages, version: str,
    environ: Environ | None = None,
) -> Asked:  # fmt: skip
    """Return what a backend is to be chosen for by this vLLM; raise CannotTell where that is not known."""
    from cudadoctor.knowledge.attention import Asked

    if packages.torch is not None and packages.torch.hip:
        raise CannotTell(f"torch is built for ROCm {packages.torch.hip}, whose backends are others")
    if shape.cross or not shape.attention:
        raise CannotTell("attention of this model's kind has backends of its own")
    if (launch.text("--dtype") or "") in ("float", "float32"):
        raise CannotTell("which backend takes float32 was not looked at")
    config = model.config or {}
    kind = str(config.get("model_type") or "")
    return Asked(
        version,
        card.capability,
        dtype_of(launch, shape, version),
        shape.head_dim,
        mla=shape.latent is not None,
        sparse="index_topk" in config,
        sinks=True if kind == "gpt_oss" else None if any("sink" in key for key in config) else False,
        images=_images(launch, kind, shape),
        flashinfer=_has_flashinfer(launch, packages),
        backend=_backend(launch, version, environ),
    )


def dtype_of(launch: Launch, shape: Shape, version: str) -> str:
    """Return the KV cache dtype; "auto" is the checkpoint's own where it states one (0.16 and later)."""
    from cudadoctor.versions import numbers

    dtype = launch.text("--kv-cache-dtype") or "auto"
    return "fp8" if dtype == "auto" and shape.kv_scheme_bits == 8 and numbers(version) >= (0, 16) else dtype


#: vLLM samples with FlashInfer where this says so (vllm/envs.py of 0.12.0: off by default).
_SAMPLER = "VLLM_USE_FLASHINFER_SAMPLER"


def paths_of(
    launch: Launch, environ: Environ, packages: Packages, model: Model | None, card: Card | None
) -> Paths:
    """Return which parts of the stack a launch of the installed vLLM runs, as far as that is known."""
    from cudadoctor.knowledge.attention import choose
    from cudadoctor.simulate.model_shape import UnreadableShape, read_shape

    if variable_of(launch, environ, _SAMPLER) == "1":
        return Paths(True, f"{_SAMPLER}=1")
    vllm = packages.find("vllm")
    if vllm is None or model is None or card is None or model.config is None:
        missing = "no vLLM is installed here" if vllm is None else "the model or the GPU is not known"
        return Paths(None, missing)
    try:
        shape = read_shape(model.config)
        choice = choose(asked_of(launch, model, shape, card, packages, vllm.version, environ))
    except (UnreadableShape, CannotTell) as error:
        return Paths(None, str(error))
    if choice.ended != "taken" or not choice.backend:
        return Paths(None, choice.why or "its attention may be of several backends")
    # What samples, or multiplies for a mixture of experts, may be FlashInfer's whatever the attention.
    used = True if choice.backend.startswith("FLASHINFER") else None
    return Paths(used, f"attention by {choice.backend}", choice.backend)


#: Weights that nothing of FlashInfer's multiplies; others it may, from 9.0 on (its FP8 and MoE kernels).
_NOT_FP8 = ("", "awq", "awq_marlin", "gptq", "gptq_marlin", "bitsandbytes", "gguf")
_SIXTEEN_BITS = ("auto", "float16", "bfloat16")


def hands_flashinfer_fp8(
    launch: Launch, model: Model | None, card: Card | None, packages: Packages, version: str, environ: Environ
) -> bool:
    """Return whether this launch is sure to hand FlashInfer an FP8 tensor; raise Skip where it is not to."""
    if launch.kind == "other":
        return False
    if launch.contained:
        raise Skip("the launch runs in a container, whose packages are its own")
    if card is None or not card.capability or model is None or model.config is None:
        return False
    from cudadoctor.knowledge.attention import choose
    from cudadoctor.simulate.model_shape import UnreadableShape, read_shape
    from cudadoctor.versions import numbers

    otherwise = numbers(card.capability) >= (9,) and not _is_known_not_fp8(launch, model)
    try:
        shape = read_shape(model.config)
        asked = asked_of(launch, model, shape, card, packages, version, environ)
    except (UnreadableShape, CannotTell):
        return False
    stated = model.quantization.method if model.quantization is not None else ""
    if stated.startswith("modelopt") and asked.dtype == "auto":
        return False  # it may state an FP8 cache in a way of its own: kv_cache_quant_algo
    if asked.dtype in _SIXTEEN_BITS and not otherwise:
        raise Skip("this launch has no FP8 KV cache, and nothing else hands FlashInfer FP8 tensors")
    choice = choose(asked) if asked.dtype.startswith("fp8") else None
    if choice is None or choice.ended != "taken" or asked.mla:
        return False
    if choice.backend and choice.backend != "FLASHINFER" and not otherwise:
        raise Skip(f"the KV cache of this launch is taken by {choice.backend}, not by FlashInfer")
    return choice.backend == "FLASHINFER"


def _is_known_not_fp8(launch: Launch, model: Model) -> bool:
    stated = model.quantization.method if model.quantization is not None else ""
    return stated in _NOT_FP8 and (launch.text("--quantization") or "") in _NOT_FP8


def _images(launch: Launch, kind: str, shape: Shape) -> bool | None:
    if not shape.multimodal or kind not in (*_IMAGES, *_MAYBE_IMAGES):
        return False
    return None if kind in _MAYBE_IMAGES or any(name in launch.options for name in _WITHOUT_IMAGES) else True


def _has_flashinfer(launch: Launch, packages: Packages) -> bool:
    """Return whether FlashInfer is there: vLLM requires it, so where vLLM is not seen it is taken to be."""
    if launch.contained or packages.find("vllm") is None:
        return True
    return packages.find("flashinfer-python") is not None


def _backend(launch: Launch, version: str, environ: Environ | None) -> str:
    """Return the backend that is asked for, "" for none; raise CannotTell for what may change the choice."""
    from cudadoctor.versions import numbers

    option = launch.text("--attention-backend") or ""
    if "--attention-config" in launch.options or any(
        variable_of(launch, environ, each) for each in _VARIABLES
    ):
        raise CannotTell("what --attention-config or VLLM_FLASH_ATTN_VERSION change was not looked at")
    variable = variable_of(launch, environ, BACKEND) if numbers(version)[:2] <= _LAST_READ else ""
    if option and variable:
        raise CannotTell(f"--attention-backend and {BACKEND} are both given")
    return "" if option.lower() == "auto" else option or variable


def variable_of(launch: Launch, environ: Environ | None, name: str) -> str:
    """Return a variable as the program will see it: a container gets what the launch gives it alone."""
    if launch.contained:
        return launch.variables[name].value if name in launch.variables else ""
    return (environ.get(name) if environ is not None else None) or ""
