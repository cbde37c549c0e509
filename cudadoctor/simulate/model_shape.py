"""config.json -> the shape of a model: what its KV cache, weights and activations are counted from.

The keys and their order of precedence are those of vLLM's model configuration (0.12 to 0.33): the language
model's part of a nested config, `head_dim` before hidden_size / heads, `layer_types` before patterns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import cast

from msgspec import Struct

#: No model has numbers as large as this; a config that says so is broken or hostile.
LARGEST = 1 << 40
#: Nor as many layers, heads or experts, nor tensors as wide: those that are known have a tenth at most.
_MOST_LAYERS, _MOST_HEADS, _WIDEST = 10_000, 1 << 14, 1 << 22
#: Parts of a config.json that hold the language model's own numbers.
_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
#: What sizes are called, by the first that is given.
_LAYERS = ("num_hidden_layers", "n_layer", "decoder_layers", "num_layers")
_INTERMEDIATE = ("intermediate_size", "n_inner", "decoder_ffn_dim", "ffn_dim")
_AHEAD = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
#: What the layers of `layer_types` keep for past tokens.
_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "global": "full",
    "sliding_attention": "sliding",
    "local": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "recurrent",
    "mamba": "recurrent",
    "mamba2": "recurrent",
}
_PATTERNS = {"M": "recurrent", "*": "full", "-": "none", "E": "none", "L": "sliding", "G": "full"}
#: Families whose older configs name no layers: every n-th layer attends to all tokens.
_FULL_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4, "gpt_oss": 2}
#: Families whose `sliding_window` counts only where `use_sliding_window` says so.
_WINDOW_IS_OPTIONAL = ("qwen2", "qwen3")
#: Families whose Mamba2 layers can keep a state for each block (`SupportsMambaPrefixCaching` of vLLM 0.12.0).
_KEEP_PREFIXES = ("bamba", "falcon_h1", "granitemoehybrid", "nemotron_h", "zamba2")
#: Families whose layers that predict ahead take the model's own embeddings and head, and of which there is
#: one where config.json counts none (0.12.0: qwen3_next_mtp; 0.33.0: qwen3_5_mtp).
_SHARE_TABLES = ("qwen3_next", "qwen3_5")
#: Families whose feed-forward layer has no gate: two matrices, not three.
_UNGATED = (
    "gpt2", "gpt_bigcode", "gpt_neox", "opt", "falcon", "bloom", "starcoder2", "nemotron", "whisper",
)  # fmt: skip


class UnreadableShape(ValueError):
    """What a config.json says cannot be the numbers of a model, or is of a kind that is not modelled here."""


class Recurrent(Struct, frozen=True):
    """The state of one layer with linear attention: a convolution's and a recurrent one, of a fixed size."""

    kind: str  #: "gdn" (Gated DeltaNet) or "mamba2"
    value_heads: int
    value_dim: int
    key_heads: int  #: of Mamba2: its groups
    key_dim: int  #: of Mamba2: the state's size
    conv_kernel: int
    float32: bool = False  #: whether the recurrent state is kept in 32 bits, not in the model's dtype
    chunk: int = 2048  #: tokens that its kernel takes at once
    keeps_prefixes: bool = False  #: whether vLLM can keep a state for each block of this family

    @property
    def inner(self) -> int:
        """Return the width that the layer works in."""
        return self.value_heads * self.value_dim


class Latent(Struct, frozen=True):
    """Multi-head latent attention (DeepSeek, Kimi): one vector for all heads instead of keys and values."""

    rank: int  #: kv_lora_rank
    rope_dim: int  #: qk_rope_head_dim
    nope_dim: int = 0  #: qk_nope_head_dim
    value_dim: int = 0  #: v_head_dim
    q_rank: int = 0  #: q_lora_rank; 0: queries are not compressed

    @property
    def width(self) -> int:
        """Return the numbers that one token takes in one layer's cache."""
        return self.rank + self.rope_dim


class Experts(Struct, frozen=True):
    """The mixture-of-experts part of a model."""

    count: int
    intermediate: int  #: of one expert
    chosen: int  #: experts that a token passes
    shared: int = 0  #: intermediate size of what every token passes beside them
    dense_layers: int = 0  #: layers without experts


class Shape(Struct, frozen=True):
    """A model, as far as its memory depends on it. Layers are counted by what they keep for past tokens."""

    hidden: int
    vocab: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int = 0  #: 0: config.json does not say
    full: int = 0
    sliding: int = 0
    chunked: int = 0
    recurrent: int = 0
    cross: int = 0
    without_cache: int = 0  #: layers of a feed-forward part alone
    window: int = 0  #: of the sliding layers; of the chunked ones the chunk
    latent: Latent | None = None
    state: Recurrent | None = None
    experts: Experts | None = None
    gated: bool = True  #: whether the feed-forward layer has a gate
    gated_attention: bool = False  #: whether queries come with a gate of the same width
    tied: bool = False
    positions: int = 0  #: max_position_embeddings
    encoder_positions: int = 1500
    vision_parameters: int = 0
    multimodal: bool = False
    dtype_bytes: int = 2
    kv_scheme_bits: int = 0  #: the checkpoint's own scheme of the KV cache; 0: none
    kv_scheme_modelopt: bool = False  #: whether that is ModelOpt's, which other releases take up
    indexed: bool = False  #: whether layers keep an index beside the cache (DeepSeek V3.2)
    ahead: int = 0  #: layers that predict tokens ahead (MTP): in the checkpoint, but not loaded
    ahead_alone: bool = False  #: whether each of those has embeddings and a head of its own

    @property
    def cached(self) -> int:
        """Return how many layers keep something for past tokens."""
        return self.full + self.sliding + self.chunked + self.recurrent + self.cross

    @property
    def layers(self) -> int:
        """Return the decoder's layers; a cross-attention layer is part of one that is counted."""
        return self.full + self.sliding + self.chunked + self.recurrent + self.without_cache

    @property
    def attention(self) -> int:
        """Return the layers with attention to the model's own tokens."""
        return self.full + self.sliding + self.chunked


def read_shape(config: object) -> Shape:
    """Return the shape that a decoded config.json describes; raises UnreadableShape."""
    if not isinstance(config, Mapping):
        raise UnreadableShape("config.json holds no object")
    outer = cast(Mapping[str, object], config)
    inner = _language(outer)
    heads = _number(inner, ("num_attention_heads", "n_head", "decoder_attention_heads"), 1, most=_MOST_HEADS)
    hidden = _number(inner, ("hidden_size", "n_embd", "d_model"), 0, most=_WIDEST)
    layers = _number(inner, _LAYERS, most=_MOST_LAYERS)
    kinds = _kinds(inner, layers)
    counted = {kind: kinds.count(kind) for kind in ("full", "sliding", "chunked", "recurrent")}
    latent = _latent(inner)
    family = str(inner.get("model_type") or outer.get("model_type") or "")
    scheme_bits, modelopt = _kv_scheme(outer)
    return Shape(
        hidden=hidden,
        vocab=_number(inner, ("vocab_size",), 0, most=_WIDEST),
        heads=heads,
        kv_heads=1 if latent else _kv_heads(inner, heads),
        head_dim=latent.width if latent else _head_dim(inner, hidden, heads),
        intermediate=_number(inner, _INTERMEDIATE, 0, most=_WIDEST),
        **counted,
        cross=layers if family == "whisper" or "decoder_layers" in inner else 0,
        without_cache=kinds.count("none"),
        window=_number(inner, ("sliding_window", "attention_chunk_size"), 0),
        latent=latent,
        state=_state(inner, family) if counted["recurrent"] else None,
        experts=_experts(inner, layers),
        gated=not family.startswith(_UNGATED),
        gated_attention=bool(inner.get("attn_output_gate", "full_attention_interval" in inner)),
        tied=bool(inner.get("tie_word_embeddings", outer.get("tie_word_embeddings", False))),
        positions=_number(inner, ("max_position_embeddings", "n_positions", "max_target_positions"), 0),
        encoder_positions=_number(inner, ("max_source_positions",), 1500),
        vision_parameters=_vision(outer),
        multimodal="vision_config" in outer or "vision_config" in inner,
        dtype_bytes=4 if "32" in str(inner.get("torch_dtype") or inner.get("dtype") or "") else 2,
        kv_scheme_bits=scheme_bits,
        kv_scheme_modelopt=modelopt,
        indexed=_number(inner, ("index_topk",), 0) > 0,
        ahead=_number(inner, _AHEAD, int(family.startswith(_SHARE_TABLES)), most=_MOST_LAYERS),
        ahead_alone=not family.startswith(_SHARE_TABLES),
    )


def _language(config: Mapping[str, object]) -> Mapping[str, object]:
    for name in _NESTED:
        part = config.get(name)
        if isinstance(part, Mapping) and part:
            found = cast(Mapping[str, object], part)
            return _language(found) if name == "thinker_config" else found
    return config


def _number(
    config: Mapping[str, object], names: Sequence[str], default: int | None = None, most: int = LARGEST - 1
) -> int:
    """Return the first of these keys that is not null; raises UnreadableShape for what is no size."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LARGEST:
            raise UnreadableShape(f"{name} is {str(value)[:40]!r}, which is no size of a model")
        if value > most:
            raise UnreadableShape(f"{name} is {value}, where at most {most} can be")
        return value
    if default is None:
        raise UnreadableShape(f"{names[0]} is not given")
    return default


def _head_dim(config: Mapping[str, object], hidden: int, heads: int) -> int:
    if config.get("global_head_dim") not in (None, config.get("head_dim")):
        raise UnreadableShape("layers with heads of different sizes are not modelled")
    given = _number(config, ("head_dim", "hidden_size_per_head"), 0, most=_WIDEST)
    if not given and not (hidden and heads):
        raise UnreadableShape("neither head_dim nor hidden_size and num_attention_heads is given")
    if not given and hidden < heads:
        raise UnreadableShape(f"hidden_size is {hidden}, which leaves nothing for each of {heads} heads")
    return given or hidden // heads


def _kv_heads(config: Mapping[str, object], heads: int) -> int:
    names = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num")
    if config.get("block_configs"):
        raise UnreadableShape("block_configs (layers of different widths) are not modelled")
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return max(1, _number(config, names, heads, most=_MOST_HEADS))


def _latent(config: Mapping[str, object]) -> Latent | None:
    names = ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "q_lora_rank")
    numbers = [_number(config, (name,), 0, most=_WIDEST) for name in names]
    return Latent(*numbers) if numbers[0] else None


# --- layers -------------------------------------------------------------------------------------------------


def _kinds(config: Mapping[str, object], layers: int) -> list[str]:
    """Return what each layer keeps: "full", "sliding", "chunked", "recurrent" or "none"."""
    named = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(named, list) and named:
        names = cast(list[object], named)
        if len(names) < layers:
            raise UnreadableShape(f"layer_types names {len(names)} of {layers} layers")
        return [_kind(name) for name in names[:layers]]
    pattern = config.get("hybrid_override_pattern")
    if isinstance(pattern, str) and pattern:
        if len(pattern) > _MOST_LAYERS:
            raise UnreadableShape(f"hybrid_override_pattern has {len(pattern)} layers, which no model has")
        return list(_by_letters(pattern, len(pattern)))
    if every := _number(config, ("full_attention_interval",), 0):
        return ["full" if (layer + 1) % every == 0 else "recurrent" for layer in range(layers)]
    if every := _number(config, ("attn_layer_period",), 0):
        offset = _number(config, ("attn_layer_offset",), 0)
        return ["full" if layer % every == offset else "recurrent" for layer in range(layers)]
    return _windowed(config, layers)


def _kind(name: object) -> str:
    kind = _KINDS.get(str(name))
    if kind is None:
        raise UnreadableShape(f"layers of the kind {str(name)[:40]!r} are not modelled")
    return kind


def _by_letters(pattern: str, layers: int) -> Iterator[str]:
    for layer in range(layers):
        letter = pattern[layer % len(pattern)]
        if letter not in _PATTERNS:
            raise UnreadableShape(f"layers of the kind {letter!r} are not modelled")
        yield _PATTERNS[letter]


def _windowed(config: Mapping[str, object], layers: int) -> list[str]:
    family = str(config.get("model_type") or "")
    window = _number(config, ("sliding_window",), 0)
    optional = family.startswith(_WINDOW_IS_OPTIONAL) or "use_sliding_window" in config
    if not window or (optional and not config.get("use_sliding_window")):
        return ["full"] * layers
    pattern = config.get("sliding_window_pattern") or _FULL_EVERY.get(family)
    if isinstance(pattern, str):
        return list(_by_letters(pattern, layers))
    if isinstance(pattern, int) and pattern > 0:
        return ["full" if (layer + 1) % pattern == 0 else "sliding" for layer in range(layers)]
    return ["sliding"] * layers


def _state(config: Mapping[str, object], family: str) -> Recurrent:
    wide = "32" in str(config.get("mamba_ssm_dtype") or "")
    keys: tuple[tuple[str, ...], ...]
    if "linear_num_value_heads" in config:
        kind, keeps = "gdn", False
        keys = (
            ("linear_num_value_heads",), ("linear_value_head_dim",), ("linear_num_key_heads",),
            ("linear_key_head_dim",),
        )  # fmt: skip
        kernel = _number(config, ("linear_conv_kernel_dim",), 4, most=_WIDEST)
    else:
        kind, keeps = "mamba2", family in _KEEP_PREFIXES
        keys = (
            ("mamba_num_heads", "mamba_n_heads"), ("mamba_head_dim", "mamba_d_head"),
            ("n_groups", "mamba_n_groups"), ("ssm_state_size", "mamba_d_state", "state_size"),
        )  # fmt: skip
        kernel = _number(config, ("conv_kernel", "mamba_d_conv"), 4, most=_WIDEST)
    defaults = {"n_groups": 1}
    found = [_number(config, names, defaults.get(names[0]), most=_WIDEST) for names in keys]
    if not all(found) or not kernel:
        raise UnreadableShape("a layer with linear attention has a size of 0")
    chunk = _number(config, ("mamba_chunk_size", "chunk_size"), 2048, most=_WIDEST)
    value_heads, value_dim, key_heads, key_dim = found
    return Recurrent(
        kind, value_heads, value_dim, key_heads, key_dim, kernel, wide, max(1, chunk), keeps
    )  # fmt: skip


# --- what else takes memory ---------------------------------------------------------------------------------


def _experts(config: Mapping[str, object], layers: int) -> Experts | None:
    names = ("num_experts", "num_local_experts", "n_routed_experts")
    count = _number(config, names, 0, most=_MOST_HEADS)
    if count < 2:
        return None
    intermediate = _number(config, ("moe_intermediate_size", "intermediate_size"), 0, most=_WIDEST)
    shared = _number(config, ("shared_expert_intermediate_size",), 0, most=_WIDEST)
    return Experts(
        count,
        intermediate,
        # Most of those models choose 8; those that choose fewer say so.
        chosen=_number(config, ("num_experts_per_tok", "experts_per_token"), min(8, count), most=count),
        shared=shared or _number(config, ("n_shared_experts",), 0, most=_MOST_HEADS) * intermediate,
        dense_layers=_number(config, ("first_k_dense_replace",), 0, most=layers),
    )


def _vision(config: Mapping[str, object]) -> int:
    """Return about how many parameters the vision tower has; 0 where there is none or it says too little."""
    part = config.get("vision_config")
    if not isinstance(part, Mapping):
        return 0
    vision = cast(Mapping[str, object], part)
    hidden = _number(vision, ("hidden_size", "embed_dim", "width"), 0, most=_WIDEST)
    depth = _number(vision, ("depth", "num_hidden_layers", "layers"), 0, most=_MOST_LAYERS)
    inner = _number(vision, ("intermediate_size",), 4 * hidden, most=4 * _WIDEST)
    return depth * (4 * hidden * hidden + 3 * hidden * inner)


def _kv_scheme(config: Mapping[str, object]) -> tuple[int, bool]:
    """Return the bits of the KV cache that the checkpoint's quantisation asks for, and if it is ModelOpt's.

    0 bits for none. ModelOpt's is read as `get_kv_cache_quant_algo_string` of vLLM 0.14.0 does.
    """
    part = config.get("quantization_config") or config.get("compression_config")
    if not isinstance(part, Mapping):
        return 0, False
    held = cast(Mapping[str, object], part)
    scheme = held.get("kv_cache_scheme")
    if not str(held.get("quant_method") or "").startswith("modelopt"):
        return (_bits(scheme) if isinstance(scheme, Mapping) else 0), False
    inner = held.get("quantization")
    for source in (cast(Mapping[str, object], inner) if isinstance(inner, Mapping) else held, held):
        scheme = scheme or source.get("kv_cache_scheme") or source.get("kv_cache_quant_algo")
    if isinstance(scheme, Mapping):
        stated = cast(Mapping[str, object], scheme)
        static = stated.get("dynamic") is False and stated.get("type") == "float"
        return (_bits(scheme) if static else 0), True
    return {"fp8": 8, "nvfp4": 4}.get(str(scheme or "").lower(), 0), True


def _bits(scheme: object) -> int:
    return _number(cast(Mapping[str, object], scheme), ("num_bits",), 0, most=64)
