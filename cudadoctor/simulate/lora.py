"""How many bytes vLLM keeps on the card for LoRA adapters: slots, which are there before any adapter is.

After `lora/models.py` (`_create_lora_modules`), `lora/layers/` (`create_lora_weights`) and `lora/utils.py`
(`get_supported_lora_modules`) of vLLM 0.12.0: every linear layer, and every expert, gets `max_loras` pairs
of matrices of rank `max_lora_rank` in the model's dtype. They count as weights.
"""

from __future__ import annotations

from cudadoctor.simulate.kv_cache import Flags
from cudadoctor.simulate.model_shape import Shape
from cudadoctor.simulate.weights import Range

#: Linear layers that the shape does not describe (of a state, of a vision tower's connector) at most.
_BESIDE = 1.1


def adapters(shape: Shape, flags: Flags) -> Range:
    """Return the bytes of all slots on one rank.

    The high end has the embeddings and the head, which some families' models give slots as well.
    """
    each = shape.attention * _attention(shape, flags) + _recurrent(shape, flags) + _feed_forward(shape, flags)
    tables = 2 * (shape.vocab + shape.hidden)
    bytes_of = flags.max_loras * flags.max_lora_rank * shape.dtype_bytes / flags.pipeline_parallel_size
    return Range(each * bytes_of, (each * _BESIDE + tables) * bytes_of)


def _column(width: float, out: float, slices: int, flags: Flags) -> float:
    """Return numbers a rank of a layer whose outputs are divided over the ranks: its A is whole on each."""
    tensor = flags.tensor_parallel_size
    return slices * width / (tensor if flags.fully_sharded_loras else 1) + out / tensor


def _row(width: float, out: float, flags: Flags) -> float:
    """Return numbers a rank of a layer whose inputs are divided over the ranks: its B is whole on each."""
    tensor = flags.tensor_parallel_size
    return width / tensor + out / (tensor if flags.fully_sharded_loras else 1)


def _attention(shape: Shape, flags: Flags) -> float:
    hidden, heads = shape.hidden, shape.heads
    if shape.latent:
        mla = shape.latent
        queries = _column(mla.q_rank or hidden, heads * (mla.nope_dim + mla.rope_dim), 1, flags)
        queries += hidden + mla.q_rank if mla.q_rank else 0
        keys = hidden + mla.width + _column(mla.rank, heads * (mla.nope_dim + mla.value_dim), 1, flags)
        return queries + keys + _row(heads * mla.value_dim, hidden, flags)
    width = heads * shape.head_dim
    keys = 2 * shape.kv_heads * shape.head_dim
    outputs = width * (2 if shape.gated_attention else 1)
    outputs += max(keys, 2 * shape.head_dim * flags.tensor_parallel_size)
    return _column(hidden, outputs, 3, flags) + _row(width, hidden, flags)


def _recurrent(shape: Shape, flags: Flags) -> float:
    state = shape.state
    if state is None:
        return 0
    inputs = 2 * state.key_heads * state.key_dim + 2 * state.inner + 2 * state.value_heads
    return shape.recurrent * (
        _column(shape.hidden, inputs, 2, flags) + _row(state.inner, shape.hidden, flags)
    )


def _feed_forward(shape: Shape, flags: Flags) -> float:
    """Return numbers a rank of all feed-forward layers together."""
    slices = 2 if shape.gated else 1

    def one(inner: float) -> float:
        return _column(shape.hidden, slices * inner, slices, flags) + _row(inner, shape.hidden, flags)

    experts = shape.experts
    if experts is None:
        return (shape.without_cache or shape.layers) * one(shape.intermediate)
    sparse = shape.layers - experts.dense_layers
    shared = one(experts.shared) if experts.shared else 0
    return sparse * (experts.count * one(experts.intermediate) + shared) + experts.dense_layers * one(
        shape.intermediate
    )
