"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.attention import asked_of
from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Card, Environ, Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.vllm import BACKEND
from cudadoctor.tasks import shape_of, version_of
from cudadoctor.verdicts import pip_for, pip_install
from cudadoctor.versions import numbers

if TYPE_CHECKING:
    from cudadoctor.knowledge.attention import Asked, Choice
    from cudadoctor.simulate.model_shape import Shape

#: Methods whose weights bring a method for the KV cache too, which refuses e5m2 (vLLM 0.9.2 to 0.33.0).
_WITH_KV = ("fp8", "modelopt", "modelopt_fp4", "compressed-tensors")
#: Since 0.24 compressed-tensors does so only where it states a scheme for the cache.
_ONLY_WITH_SCHEME = (0, 24)
_OPTION = "--kv-cache-dtype"
_E5M2 = "fp8_e5m2 kv-cache is not supported with fp8 checkpoints."


@check
def fp8_kv_backend_unavailable(
    launch: Launch, packages: Packages, environ: Environ, model: Model | None = None, card: Card | None = None
) -> Iterator[Finding]:
    """No attention backend of this vLLM can do the KV cache's dtype on this GPU, or with this model.

    ## What it means
    Which backend takes which dtype differs. FlashAttention takes FP8 on 9.x alone, FlashInfer from 8.0 on,
    for heads of 64, 128 or 256; Triton's kernels need 8.9: below it they stop with `type fp8e4nv not
    supported in this architecture`, after the weights are loaded. Models with MLA have FP8 on 9.x and 10.x,
    and from vLLM 0.18 on from 8.9. `fp8_e5m2` is refused for checkpoints whose weights are FP8, `fp8_inc` is
    for Intel's Gaudi, and up to 0.14 even `bfloat16` is for DeepSeek V3.2 alone. A backend that is asked for
    is the only one tried.

    ## How to tell
    vLLM logs `Using ... backend`, or raises `No valid attention backend found` with the reason of each.

    ## What helps
    Another dtype, `auto` at least; no backend by name; FlashInfer.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    if model is None or card is None:
        if (launch.text(_OPTION) or "auto") == "auto" and not launch.unknown(_OPTION):
            raise Skip("no dtype of the KV cache is asked for")
        raise CannotTell("the model or the GPU is not known (see --gpu)")
    shape = shape_of(model)
    version = version_of(launch, packages)
    asked = asked_of(launch, model, shape, card, packages, version, environ)
    if asked.dtype == "auto":
        return
    if _refuses_e5m2(asked, model, shape):
        yield _with_fp8_weights(asked, launch, model)
        return
    from cudadoctor.knowledge.attention import choose

    choice = choose(asked)
    if choice.ended == "unsure":
        raise CannotTell(choice.why)
    if choice.ended != "taken":
        yield _without_backend(asked, choice, launch, card, packages)


def _refuses_e5m2(asked: Asked, model: Model, shape: Shape) -> bool:
    stated = model.quantization
    if asked.dtype != "fp8_e5m2" or asked.mla or stated is None or stated.method not in _WITH_KV:
        return False
    version = numbers(asked.version)
    if stated.method == "compressed-tensors" and version >= _ONLY_WITH_SCHEME and not shape.kv_scheme_bits:
        return False
    return (0, 9, 2) <= version < (0, 34)


def _with_fp8_weights(asked: Asked, launch: Launch, model: Model) -> Finding:
    from cudadoctor.knowledge.attention import kv_dtypes

    stated = model.quantization
    held = [Evidence(stated.source, f"the weights are quantised: {stated.method}")] if stated else []
    return Finding(
        f'vLLM {asked.version} will stop with "{_E5M2}"',
        Severity.ERROR,
        (_given(launch), *held),
        _first_of(_dtypes(kv_dtypes(asked))),
    )


def _without_backend(asked: Asked, choice: Choice, launch: Launch, card: Card, packages: Packages) -> Finding:
    passed = [*choice.refusals, *([(choice.backend, choice.why)] if choice.ended == "breaks" else [])]
    return Finding(
        _says(asked, choice),
        Severity.ERROR,
        (
            _given(launch),
            Evidence(card.source, f"{card.name or 'the card'}: compute capability {card.capability}"),
            *(Evidence(backend or "the backend", why) for backend, why in passed),
        ),
        _first_of(_remedies(asked, launch, packages)),
    )


def _given(launch: Launch) -> Evidence:
    given = launch.options.get(_OPTION)
    if given is None:
        return Evidence("config.json", "states an FP8 KV cache: kv_cache_scheme")
    return Evidence(given.origin, f"{given.spelled} {launch.text(_OPTION)}")


def _says(asked: Asked, choice: Choice) -> str:
    of = f"vLLM {asked.version}"
    cache = f"a KV cache of {asked.dtype} on compute capability {asked.capability}"
    if asked.backend:
        return f"{asked.backend}, which is asked for, cannot do {cache}: {of} will stop"
    if choice.ended == "refused":
        return f"no attention backend of {of} takes {cache}{' with MLA' if asked.mla else ''}: it will stop"
    return f"{choice.backend or 'the backend'}, which is left to {of}, cannot do {cache}: it will stop"


def _remedies(asked: Asked, launch: Launch, packages: Packages) -> Iterator[Remedy]:
    """Yield what helps, that which keeps the dtype first."""
    from cudadoctor.knowledge.attention import choose, kv_dtypes

    free = structs.replace(asked, backend="")
    if asked.backend and choose(free).ended == "taken":
        named = "--attention-backend" in launch.options
        yield Remedy("show", {}, "leave --attention-backend out" if named else f"unset {BACKEND}")
    if not asked.flashinfer and choose(structs.replace(free, flashinfer=True)).ended == "taken":
        yield _flashinfer(packages)
    yield from _dtypes(tuple(each for each in kv_dtypes(asked) if each != asked.dtype))


def _flashinfer(packages: Packages) -> Remedy:
    """Install the FlashInfer that the installed vLLM requires, where it names one."""
    vllm = packages.find("vllm")
    required = (each.partition(";")[0].strip() for each in (vllm.requires if vllm else ()))
    wanted = next((each for each in required if each.startswith("flashinfer-python")), "flashinfer-python")
    if packages.target is None:
        return Remedy("show", {}, f"pip install {wanted}")
    return pip_install(pip_for(packages.target, packages), wanted)


def _dtypes(work: tuple[str, ...]) -> Iterator[Remedy]:
    for dtype in (*work, "auto"):
        yield Remedy("show", {}, f"{_OPTION} {dtype}")


def _first_of(remedies: Iterator[Remedy]) -> tuple[Remedy, ...]:
    first, *others = remedies
    return (structs.replace(first, instead=tuple(others)),)
