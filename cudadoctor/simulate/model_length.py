"""The longest --max-model-len that vLLM takes for a model, by the rule of its `_get_and_verify_max_len`.

Read in vLLM 0.9.2 to 0.33.0 (config/model.py; from 0.14 on model_arch_config_convertor.py) on 2026-11-21.
What config.json leaves out gets a default of transformers' own: then it is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import cast

from msgspec import Struct, structs

from cudadoctor.simulate.model_shape import LARGEST, Shape
from cudadoctor.versions import numbers

_KEYS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_target_positions", "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
#: One of these has to be there: what is left out gets a default that may be shorter than the other keys.
_STATED = frozenset(("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions"))
_FIRST, _LAST = (0, 9, 2), (0, 33)
#: Scalings whose max_position_embeddings are those of the scaled model. YaRN's are counted anew up to 0.28.
_SCALED = ("su", "longrope", "llama3", "mrope", "default")
_YARN = ("yarn", "deepseek_yarn", "deepseek_llama_scaling")
_YARN_COUNTED, _YARN_TAKEN = (0, 28), (0, 30)
_LAYER_KINDS = frozenset(("full_attention", "sliding_attention", "chunked_attention", "linear_attention"))


class Undecided(ValueError):
    """What a config.json says does not tell the length."""


class Limit(Struct, frozen=True):
    """The longest length, and the key of config.json that it is of."""

    tokens: int
    key: str
    value: int  #: of that key, before any scaling
    scaling: str = ""  #: "yarn, factor 4 of 32768"


def limit_of(config: Mapping[str, object], version: str) -> Limit:
    """Return the longest --max-model-len that this vLLM takes; raises Undecided."""
    release = numbers(version)
    if not _FIRST <= release < (0, _LAST[1] + 1):
        raise Undecided(f"how vLLM {version} finds the longest length was not looked at")
    inner = _text(config)
    found = {key: _size(inner, key) for key in _KEYS if inner.get(key) is not None}
    if not _STATED & set(found):
        raise Undecided("config.json has no max_position_embeddings, so a default of transformers counts")
    key = "model_max_length" if found.get("model_max_length") else min(found, key=lambda name: found[name])
    scaled = _scaled(inner, config, found[key], release)
    tokens = max(scaled.tokens, found.get("model_max_length", 0))
    return Limit(tokens, key, found[key], scaled.scaling)


def with_length(shape: Shape, config: Mapping[str, object], version: str) -> Shape:
    """Return the shape with the positions that this vLLM takes for it, scaling of RoPE and all.

    Where that is not decided they stay what max_position_embeddings says.
    """
    try:
        tokens = limit_of(config, version).tokens
    except Undecided:
        return shape
    return structs.replace(shape, positions=tokens) if 0 < tokens < LARGEST else shape


def _text(config: Mapping[str, object]) -> Mapping[str, object]:
    """Return the part of a config.json that the language model's numbers are in."""
    for name in ("thinker_config", "language_config"):
        if isinstance(config.get(name), Mapping):
            raise Undecided(f"which part of config.json counts, beside {name}, was not looked at")
    for name in ("text_config", "llm_config"):
        part = config.get(name)
        if isinstance(part, Mapping) and part:
            return cast(Mapping[str, object], part)
    return config


class _Scaled(Struct, frozen=True):
    tokens: int
    scaling: str = ""


def _scaled(
    inner: Mapping[str, object], outer: Mapping[str, object], length: int, release: tuple[int, ...]
) -> _Scaled:
    family = str(inner.get("model_type") or outer.get("model_type") or "")
    result = _Scaled(length)
    if "gemma3" in family:
        return result
    for rope in _ropes(inner):
        kind = str(rope.get("rope_type") or rope.get("type") or "")
        if not kind:
            raise Undecided("rope_scaling does not say of which type it is")
        if kind not in _SCALED:
            result = _of(kind, rope, inner, length, release)
    return result


def _of(
    kind: str, rope: Mapping[str, object], inner: Mapping[str, object], length: int, release: tuple[int, ...]
) -> _Scaled:
    """Return the length with one scaling, which is that of all layers."""
    if kind in _YARN and release >= _YARN_TAKEN:
        return _Scaled(length)
    factor = rope.get("factor", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < LARGEST:
        raise Undecided(f"rope_scaling has a factor of {str(factor)[:40]!r}")
    if kind in _YARN:
        if kind != "yarn" or release[:2] > _YARN_COUNTED:
            raise Undecided(f"how vLLM counts a scaling of type {kind} in this release was not looked at")
        before = inner.get("original_max_position_embeddings") or rope.get("original_max_position_embeddings")
        if isinstance(before, bool) or not isinstance(before, int) or not 0 < before < LARGEST:
            raise Undecided("rope_scaling has no original_max_position_embeddings")
        length = before
    return _Scaled(int(length * factor), f"{kind}, factor {factor:g} of {length}")


def _ropes(inner: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
    """Yield each scaling: one for all layers, or one for each kind of layer."""
    for name in ("rope_scaling", "rope_parameters"):
        given = inner.get(name)
        if given is None:
            continue
        if not isinstance(given, Mapping):
            raise Undecided(f"{name} is no object")
        held = cast(Mapping[str, object], given)
        parts = list(held.values()) if held and set(held) <= _LAYER_KINDS else [held] if held else []
        for part in parts:
            if not isinstance(part, Mapping):
                raise Undecided(f"{name} has a part that is no object")
            yield cast(Mapping[str, object], part)


def _size(config: Mapping[str, object], key: str) -> int:
    value = config[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < LARGEST:
        raise Undecided(f"{key} is {str(value)[:40]!r}")
    return int(value)
