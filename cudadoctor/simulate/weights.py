"""How many bytes of weights one rank loads, where the checkpoint's own sizes are not at hand.

The sizes in a checkpoint's index or headers are better than all of this. From config.json alone the figure
stays below what vLLM logs: by 0.4 % at the median of 30 posted loads, up to 2 % (facts of vLLM 0.9 to 0.33,
2026-11), because of rope caches, paddings of kernels and parts that config.json does not describe.
"""

from __future__ import annotations

from msgspec import Struct, structs

from cudadoctor.simulate.kv_cache import GIB, Flags
from cudadoctor.simulate.model_shape import Shape

#: Bytes of one weight of a linear layer, with its scales and zeros: 4 bits in groups of 128 with 16-bit
#: scales (AWQ and GPTQ also with 4-bit zeros), FP8 in blocks of 128x128, FP4 in groups of 16 or 32.
_WIDTHS = {
    "awq": 0.5 + 2.5 / 128, "gptq": 0.5 + 2.5 / 128, "w4a16": 0.5 + 2 / 128, "fp8": 1 + 4 / 16384,
    "int8": 1.0, "nvfp4": 0.5 + 1 / 16, "mxfp4": 0.5 + 1 / 32, "bitsandbytes": 0.5 + 4 / 64,
}  # fmt: skip
#: What formats are called elsewhere.
_ALIASES = {
    "awq_marlin": "awq", "gptq_marlin": "gptq", "fbgemm_fp8": "fp8", "modelopt": "fp8", "fp8_e4m3": "fp8",
    "modelopt_fp4": "nvfp4", "int4": "w4a16", "w8a8": "int8", "auto_awq": "awq", "nf4": "bitsandbytes",
}  # fmt: skip
_FOUR_BITS = 0.9  #: what is narrower than this is a 4-bit format
#: From config.json alone the log is at most this much above the sum: 16 bits and FP8 up to 0.9 % in those
#: posts, 4-bit formats up to 1.9 %, and small models by up to 0.1 GiB whatever their size.
_ABOVE, _ABOVE_FOUR_BITS, _ABOVE_AT_LEAST = 0.01, 0.02, 0.15 * GIB
#: Kernels for MXFP4 pad the experts' widths: a posted load of gpt-oss is 4 % above the sum.
_ABOVE_PADDED = 0.06
#: Above the sizes of a checkpoint's own tensors: rope caches and paddings, 0.006 to 0.2 GiB on one card in 20
#: posted loads of models from 0.9 to 68 GiB whose tensors can be counted (the 0.2 GiB of one of 31 GiB).
_ABOVE_INDEX = 0.005
#: Below it, where tensors are left out that the sum counts.
_BELOW = 0.005
#: A vision tower that config.json does not describe: posted ones have 0.4 to 0.9 GiB.
_UNKNOWN_VISION = (0.3 * GIB, 1.0 * GIB)


class Range(Struct, frozen=True):
    """A quantity in bytes between two bounds."""

    low: float
    high: float

    def plus(self, other: Range) -> Range:
        """Return the sum: the bounds add up."""
        return Range(self.low + other.low, self.high + other.high)


class UnknownWeights(ValueError):
    """config.json does not say enough to count the weights, or names a format that is not known here."""


def format_of(quantization: str) -> str:
    """Return the known name of a weight format, "" for 16 bits; raises UnknownWeights."""
    name = quantization.strip().lower().replace("-", "_")
    name = _ALIASES.get(name, name)
    if name and name not in _WIDTHS:
        raise UnknownWeights(f"the weight format {quantization[:40]!r} is not known")
    return name


class _Parameters(Struct):
    """Parameters of one rank, by how they are stored."""

    linear: float = 0  #: quantised wherever anything is
    mixed: float = 0  #: attention that 4-bit checkpoints often leave alone
    wide: float = 0  #: always 16 bits: embeddings, norms, routers


def weights_from_shape(shape: Shape, flags: Flags) -> Range:
    """Return the bytes that one rank loads, counted from the shape; raises UnknownWeights."""
    inner = shape.experts.intermediate if shape.experts else shape.intermediate
    if not (shape.hidden and shape.vocab and inner):
        raise UnknownWeights("config.json does not say hidden_size, vocab_size and intermediate_size")
    name = format_of(flags.quantization)
    counted = _count(shape, flags)
    quantised = _WIDTHS[name] if name else float(shape.dtype_bytes)
    four_bits = quantised < _FOUR_BITS
    wide = 2.0 if name else float(shape.dtype_bytes)
    mixed_low = wide if name == "mxfp4" else quantised
    base = counted.linear * quantised + counted.wide * wide
    low, high = base + counted.mixed * mixed_low, base + counted.mixed * (wide if four_bits else quantised)
    vision = shape.vision_parameters * 2.0
    unknown = _UNKNOWN_VISION if shape.multimodal and not vision else (0.0, 0.0)
    share = _ABOVE_PADDED if name == "mxfp4" else _ABOVE_FOUR_BITS if four_bits else _ABOVE
    above = max(high * share, _ABOVE_AT_LEAST)
    return Range(low * (1 - _BELOW) + vision + unknown[0], high + above + vision * 1.1 + unknown[1])


def weights_from_index(size: float, flags: Flags, shape: Shape | None = None) -> Range:
    """Return the bytes that one rank loads of a checkpoint of `size` bytes (its index's total_size).

    The shape tells which of them may be layers that predict tokens ahead: those are left in the files.
    """
    ranks = flags.tensor_parallel_size * flags.pipeline_parallel_size
    loaded = size - (_not_loaded(size, shape, flags) if shape is not None else 0.0)
    if ranks == 1:
        share = _ABOVE_PADDED if flags.quantization == "mxfp4" else _ABOVE_INDEX
        return Range(loaded * (1 - _BELOW), size * (1 + share) + _ABOVE_AT_LEAST)
    # Norms, and keys where there are fewer heads than ranks, are on every rank; pipeline stages are not of
    # equal size.
    return Range(loaded / ranks * 0.995, size / ranks * 1.05 + 0.05 * GIB)


def _not_loaded(size: float, shape: Shape, flags: Flags) -> float:
    """Return the bytes of a checkpoint at most that are layers which predict ahead and are not loaded.

    Each is a layer like the last, a matrix of 2 x hidden_size to hidden_size, and in most families its own
    embeddings and head in 16 bits: deepseek_v2.py and qwen3_next.py of vLLM 0.12.0 leave out all of that.
    """
    ahead = max(0, shape.ahead - flags.draft_layers)
    if not ahead or not shape.layers:
        return 0.0
    one = structs.replace(flags, tensor_parallel_size=1, pipeline_parallel_size=1, draft_layers=0)
    tables = 2 * shape.vocab * shape.hidden if shape.ahead_alone else 0
    beside = ahead * 2 * (tables + 2 * shape.hidden * shape.hidden)
    try:
        body = weights_from_shape(shape, one).low
        layers = weights_from_shape(shape, structs.replace(one, draft_layers=ahead)).low - body
    except UnknownWeights:
        return size * ahead / (shape.layers + ahead)
    return size * (layers + beside) / (body + layers + beside)


def _count(shape: Shape, flags: Flags) -> _Parameters:
    """Return the parameters on one rank of the fullest pipeline stage."""
    share = 1 / flags.pipeline_parallel_size
    tensor = flags.tensor_parallel_size
    name = format_of(flags.quantization)
    mixed = shape.recurrent > 0 or name == "mxfp4"
    attention = shape.attention * _attention(shape, tensor) + shape.cross * _attention(shape, tensor)
    attention += flags.draft_layers * _attention(shape, tensor)
    linear, router = _feed_forward(shape, flags.draft_layers)
    tables = shape.vocab * shape.hidden * (1 if shape.tied else 2) / tensor
    if flags.pipeline_parallel_size > 1:
        # One end holds the embeddings, the other the head.
        tables = shape.vocab * shape.hidden / tensor
    wide = tables + (router + shape.layers * 2 * shape.hidden) * share
    counted = _Parameters(linear=linear / tensor * share, wide=wide)
    recurrent = shape.recurrent * _recurrent(shape) / tensor * share
    # 4-bit checkpoints leave linear attention in 16 bits, and often the attention beside it.
    if name and _WIDTHS[name] < _FOUR_BITS:
        counted.wide += recurrent
    else:
        counted.linear += recurrent
    if mixed:
        counted.mixed = attention * share
    else:
        counted.linear += attention * share
    return counted


def _attention(shape: Shape, tensor: int) -> float:
    """Return the parameters of one attention layer on one rank."""
    hidden, heads = shape.hidden, shape.heads
    if shape.latent:
        mla = shape.latent
        divided = (mla.q_rank or hidden) * heads * (mla.nope_dim + mla.rope_dim)
        divided += mla.rank * heads * (mla.nope_dim + mla.value_dim) + heads * mla.value_dim * hidden
        return mla.q_rank * hidden + hidden * mla.width + divided / tensor
    width = heads * shape.head_dim
    queries = width * (2 if shape.gated_attention else 1)
    keys = 2 * shape.kv_heads * shape.head_dim / min(tensor, shape.kv_heads)
    return hidden * ((queries + width) / tensor + keys)


def _recurrent(shape: Shape) -> float:
    """Return the parameters of one layer with linear attention."""
    state = shape.state
    if state is None:
        return 0
    keys = state.key_heads * state.key_dim
    if state.kind == "gdn":
        return shape.hidden * (2 * keys + 3 * state.inner + 2 * state.value_heads)
    return shape.hidden * (3 * state.inner + 2 * keys + state.value_heads)


def _feed_forward(shape: Shape, draft_layers: int) -> tuple[float, float]:
    """Return the parameters of all feed-forward layers together, and those of the routers."""
    matrices = 3 if shape.gated else 2
    experts, layers = shape.experts, shape.layers + draft_layers
    if experts is None:
        # Where layers stand for a feed-forward part alone, the others have none.
        count = shape.without_cache or layers
        return count * matrices * shape.hidden * shape.intermediate, 0.0
    sparse = layers - experts.dense_layers
    each = experts.count * experts.intermediate + experts.shared
    dense = experts.dense_layers * 3 * shape.hidden * shape.intermediate
    return sparse * 3 * shape.hidden * each + dense, float(sparse * shape.hidden * experts.count)
