"""Which attention backend of vLLM takes which KV cache dtype on which GPU.

Read from `platforms/cuda.py` (their order), `v1/attention/backends/` (what each takes) and `fa_utils.py` in
the source distributions of vLLM 0.11.1, 0.11.2, 0.13.0, 0.14.0, 0.16.0 to 0.26.0, 0.28.0, 0.30.0 and 0.33.0,
and in the wheel of 0.12.0, on 2026-11-21. What is true of releases on both sides of one that was not read is
true of that one. Triton has no `fp8e4nv` below 8.9 (triton 3.5.0, backends/nvidia/compiler.py), which the
kernels of TRITON_ATTN read every FP8 cache as; since 0.24 that backend says so itself.
"""

from __future__ import annotations

import re
from typing import Literal

from msgspec import Struct, structs

from cudadoctor.versions import numbers

Ended = Literal["taken", "refused", "breaks", "unsure"]
_FIRST = (0, 11, 1)  #: the first release that asks each backend what it takes
_READ = (*range(11, 15), *range(16, 27), 28, 30, 33)
_NEWEST = _READ[-1]
_HIGHEST = 999
#: Dtypes that are judged here; int8_per_token_head, turboquant and nvfp4 have rules of their own.
DTYPES = ("auto", "float16", "bfloat16", "fp8", "fp8_e4m3", "fp8_e5m2", "fp8_inc", "fp8_ds_mla")
_FP8 = "fp8 fp8_e4m3"
_FP8_BOTH = f"{_FP8} fp8_e5m2"


class Row(Struct, frozen=True):
    """What a backend makes of some dtypes in releases 0.`first` to 0.`last`, on GPUs from `low` to `high`."""

    backend: str
    first: int
    last: int
    dtypes: str
    low: int = 0  #: 86 for compute capability 8.6
    high: int = _HIGHEST
    ended: Ended = "taken"
    why: str = ""


_UNNAMED = 'takes it, then stops with "Unrecognized FP8 dtype"'
_NO_TRITON = 'takes it, then stops with "type fp8e4nv not supported in this architecture"'
_SAYS_SO = 'stops with "FP8 KV cache is not supported by the Triton attention backend"'
_ROWS = (
    Row("FLASH_ATTN", 11, _NEWEST, "auto", 80),
    Row("FLASH_ATTN", 16, _NEWEST, "bfloat16", 80),
    Row("FLASH_ATTN", 18, _NEWEST, "float16", 80),
    Row("FLASH_ATTN", 11, _NEWEST, _FP8, 90, 99),
    Row("FLASH_ATTN", 11, 21, "fp8_e5m2 fp8_inc fp8_ds_mla", 90, 99, "breaks", _UNNAMED),
    Row("FLASH_ATTN", 28, _NEWEST, _FP8, 100, 109, "unsure"),
    Row("FLASHINFER", 11, 23, "auto", 75, 121),
    Row("FLASHINFER", 24, _NEWEST, "auto", 80, 121),
    Row("FLASHINFER", 16, _NEWEST, "bfloat16", 80, 121),
    Row("FLASHINFER", 18, _NEWEST, "float16", 80, 121),
    Row("FLASHINFER", 11, _NEWEST, _FP8_BOTH, 80, 121),
    Row("FLASHINFER", 11, 23, _FP8_BOTH, 75, 79, "unsure"),
    Row("TRITON_ATTN", 11, _NEWEST, "auto"),
    Row("TRITON_ATTN", 16, _NEWEST, "bfloat16", 80),
    Row("TRITON_ATTN", 16, _NEWEST, "bfloat16", 0, 79, "unsure"),
    Row("TRITON_ATTN", 18, _NEWEST, "float16"),
    Row("TRITON_ATTN", 11, _NEWEST, _FP8_BOTH, 89),
    Row("TRITON_ATTN", 11, 23, _FP8_BOTH, 0, 88, "breaks", _NO_TRITON),
    Row("TRITON_ATTN", 24, _NEWEST, _FP8_BOTH, 0, 88, "breaks", _SAYS_SO),
    Row("FLEX_ATTENTION", 11, _NEWEST, "auto"),
    Row("FLEX_ATTENTION", 16, _NEWEST, "bfloat16"),
    Row("FLEX_ATTENTION", 18, _NEWEST, "float16"),
    Row("CUTLASS_MLA", 11, _NEWEST, f"auto {_FP8}", 100, 109),
    Row("FLASHINFER_MLA", 11, _NEWEST, f"auto {_FP8}", 100, 109),
    Row("FLASH_ATTN_MLA", 11, _NEWEST, "auto", 90, 99),
    Row("FLASHMLA", 11, _NEWEST, f"auto {_FP8}", 90, 99),
    Row("TRITON_MLA", 11, _NEWEST, "auto"),
    Row("TRITON_MLA", 16, _NEWEST, "bfloat16"),
    Row("TRITON_MLA", 18, _NEWEST, "float16"),
    Row("TRITON_MLA", 18, _NEWEST, _FP8, 89),
    Row("TRITON_MLA", 18, 23, _FP8, 0, 88, "unsure"),
    Row("TRITON_MLA", 24, _NEWEST, _FP8, 0, 88, "breaks", _SAYS_SO.replace("attention", "MLA")),
)
_PLAIN = ("FLASH_ATTN", "FLASHINFER", "TRITON_ATTN", "FLEX_ATTENTION")
_LATENT = ("CUTLASS_MLA", "FLASHINFER_MLA", "FLASH_ATTN_MLA", "FLASHMLA", "TRITON_MLA")
_LATENT_WIDTH = 576  #: of every model with MLA whose backends were read: 512 + 64
_SINKS_VARY = 100  #: from here on it depends on more than the release which backends have attention sinks


#: Releases that take a variable's value only where it is a backend's name to the letter (vllm/envs.py).
_TO_THE_LETTER = ((0, 11, 1), (0, 14))
_XFORMERS_UNTIL = (0, 12)  #: it has no backend of that name from here on


class Asked(Struct, frozen=True):
    """What a backend is chosen for."""

    version: str  #: of vLLM: "0.12.0"
    capability: str  #: "8.6"
    dtype: str  #: of the KV cache: "fp8"
    head_dim: int
    mla: bool = False
    sparse: bool = False  #: attention to chosen tokens (DeepSeek V3.2)
    sinks: bool | None = False  #: attention sinks (gpt-oss); None: not known
    images: bool | None = False  #: images attend to all of themselves (Gemma 3); None: not known
    flashinfer: bool = True  #: whether FlashInfer is installed
    backend: str = ""  #: the one that is asked for


class Choice(Struct, frozen=True):
    """The backend that is chosen, or why none is."""

    ended: Ended
    backend: str = ""  #: "" where it is one of several, or none
    why: str = ""  #: for breaks and unsure
    refusals: tuple[tuple[str, str], ...] = ()  #: each backend that was passed over, and why


def choose(asked: Asked) -> Choice:
    """Return which backend this vLLM takes; `unsure` with the reason where the sources do not tell."""
    version = numbers(asked.version)
    if re.fullmatch(r"\d{1,2}(\.\d)?", asked.capability) is None:
        return Choice("unsure", why="the compute capability is not known")
    if version[:1] != (0,) or not _FIRST <= version < (0, _NEWEST + 1):
        return Choice("unsure", why=f"the attention backends of vLLM {asked.version} were not looked at")
    if asked.dtype not in DTYPES:
        return Choice("unsure", why=f"a KV cache of {asked.dtype} has backends of its own")
    if asked.sparse or (asked.mla and asked.head_dim != _LATENT_WIDTH):
        return Choice("unsure", why="attention of this model's kind has backends of its own")
    # What is not known is tried both ways, and a release between two that were read counts as either.
    scenes = [
        structs.replace(asked, sinks=sinks, images=images)
        for sinks in _either(asked.sinks)
        for images in _either(asked.images)
    ]
    return _same([_chosen(scene, minor) for scene in scenes for minor in _releases(asked.version)])


def kv_dtypes(asked: Asked) -> tuple[str, ...]:
    """Return the KV cache dtypes beside "auto" that will work, whatever dtype is asked for."""
    return ("fp8",) if choose(structs.replace(asked, dtype="fp8")).ended == "taken" else ()


def _either(known: bool | None) -> tuple[bool, ...]:
    return (False, True) if known is None else (known,)


def _releases(version: str) -> tuple[int, ...]:
    """Return the releases that were read and that this one is, or lies between."""
    minor = numbers(version)[1]
    below = max(each for each in _READ if each <= minor)
    above = min(each for each in _READ if each >= minor)
    if ".dev" in version and minor < _NEWEST:  # on its way to the next
        above = min(each for each in _READ if each > minor)
    return (below,) if below == above else (below, above)


def _same(found: list[Choice]) -> Choice:
    """Return what all agree on."""
    first = found[0]
    if any(each.ended != first.ended for each in found):
        return Choice("unsure", why="it depends on more of the model, or of vLLM, than is known here")
    return (
        first if all(each.backend == first.backend for each in found) else structs.replace(first, backend="")
    )


def _chosen(asked: Asked, minor: int) -> Choice:
    if asked.sinks and _capability(asked) >= _SINKS_VARY:  # TRITON_ATTN at least has them
        if asked.backend:
            return Choice("unsure", why=f"whether {asked.backend} has attention sinks here is not known")
        return structs.replace(_first(asked, minor), backend="")
    return _named(asked, minor) if asked.backend else _first(asked, minor)


def _first(asked: Asked, minor: int) -> Choice:
    """Return what becomes of them in vLLM's order."""
    order = _LATENT if asked.mla else _PLAIN
    if not asked.mla and _capability(asked) // 10 == 10:
        order = ("FLASHINFER", "FLASH_ATTN", *_PLAIN[2:])
    refusals: list[tuple[str, str]] = []
    for backend in order:
        ended, why = _answer(backend, asked, minor)
        if ended != "refused":
            return Choice(ended, backend, why, tuple(refusals))
        refusals.append((backend, why))
    return Choice("refused", refusals=tuple(refusals))


def _named(asked: Asked, minor: int) -> Choice:
    """Return what becomes of a backend that is asked for; where it would not do anyway, unsure."""
    backend = asked.backend
    if backend not in (_LATENT if asked.mla else _PLAIN):
        return Choice("unsure", why=f"the backend {asked.backend} was not looked at")
    ended, why = _answer(backend, asked, minor)
    if ended == "refused" and _answer(backend, structs.replace(asked, dtype="auto"), minor)[0] != "taken":
        return Choice("unsure", why=f"{backend} {why}")
    refusals = ((backend, why),) if ended == "refused" else ()
    return Choice(ended, "" if refusals else backend, "" if refusals else why, refusals)


def _answer(backend: str, asked: Asked, minor: int) -> tuple[Ended, str]:
    """Return what one backend says to this model, dtype and GPU."""
    if reason := _unfit(backend, asked, minor):
        return "refused", reason
    rows = [row for row in _ROWS if row.backend == backend and row.first <= minor <= row.last]
    takes = [row for row in rows if asked.dtype in row.dtypes.split()]
    capability = _capability(asked)
    for row in takes:
        if row.low <= capability <= row.high:
            return row.ended, row.why
    if not takes:
        return "refused", f"does not take {asked.dtype}"
    return "refused", f"takes {asked.dtype} {_span(takes[0])} alone"


def _unfit(backend: str, asked: Asked, minor: int) -> str:
    """Return why a backend is none for this model, whatever its KV cache."""
    heads = (64, 128, 256, 512) if minor >= 22 else (64, 128, 256)
    if backend.startswith("FLASHINFER") and not asked.flashinfer:
        return "is not installed"
    if backend == "FLASHINFER" and asked.head_dim not in heads:
        return f"has no heads of {asked.head_dim}"
    if asked.sinks and backend != "TRITON_ATTN":
        hopper = _capability(asked) // 10 == 9
        return "" if hopper and backend == "FLASH_ATTN" else "has no attention sinks there"
    if asked.images and minor >= 13 and backend in ("FLASH_ATTN", "FLASHINFER"):
        return "has no attention both ways for images"
    return ""


def _span(row: Row) -> str:
    low, high = row.low, row.high
    if low // 10 == high // 10:
        return f"on {low // 10}.x"
    if high == _HIGHEST:
        return f"from compute capability {low // 10}.{low % 10} on"
    return f"on {low // 10}.{low % 10} to {high // 10}.{high % 10}"


def _capability(asked: Asked) -> int:
    major, _, minor = asked.capability.partition(".")
    return int(major) * 10 + int(minor or 0)


def stops_at(version: str, value: str) -> str:
    """Return what to give VLLM_ATTENTION_BACKEND instead of a value that this vLLM stops at, or "nothing".

    For a value that it takes, or that was not looked at, return "".
    """
    release = numbers(version)
    if not _TO_THE_LETTER[0] <= release < (0, _TO_THE_LETTER[1][1] + 1):
        return ""
    if not value or (value.upper().startswith("XFORMERS") and release >= _XFORMERS_UNTIL):
        return "nothing"
    plain = value.upper().removesuffix("_VLLM_V1")
    return plain if plain != value and plain in (*_PLAIN, *_LATENT) else ""
