"""What vLLM takes of its budget beside weights and KV cache: a range, with a reason for each part of it.

The formulas follow what the profile run allocates (`GPUModelRunner.profile_run`, `_dummy_sampler_run`,
`TopKTopPSampler` of vLLM 0.12.0); what they leave open is bounded by posted logs. Where a bound is a number
of its own it says which logs it is from. Nothing here was measured on a GPU by us.
"""

from __future__ import annotations

from msgspec import Struct

from cudadoctor.simulate.kv_cache import GIB, Flags
from cudadoctor.simulate.lora import adapters
from cudadoctor.simulate.model_shape import Shape
from cudadoctor.simulate.weights import Range


class Part(Struct, frozen=True):
    """One part of the overhead, and why it is as large as that."""

    name: str  #: "activations", "non-torch", "CUDA graphs" or "LoRA adapters"
    bytes: Range
    reason: str


class Batch(Struct, frozen=True):
    """The batch that the profile run is made with."""

    tokens: Range  #: max_num_batched_tokens
    sequences: int  #: max_num_seqs
    why: str


def default_utilization(release: tuple[int, int, int]) -> float:
    """Return vLLM's default of --gpu-memory-utilization: `config/cache.py` of 0.19.0 and 0.20.0."""
    return 0.92 if release >= (0, 20, 0) else 0.9


def batch_of(flags: Flags, total: float, card: str) -> Batch:
    """Return the batch of the profile run: as asked, or by `EngineArgs.get_batch_defaults` for this card."""
    # Cards of 70 GiB and more have larger defaults, but the A100 (vllm-project/vllm pull request 17885).
    large = total >= 70 * GIB and "a100" not in card.lower()
    server, llm = (8192, 16384) if large else (2048, 8192)
    sequences = flags.max_num_seqs or (1024 if large else 256)
    if flags.max_num_batched_tokens:
        asked = flags.max_num_batched_tokens
        return Batch(Range(asked, asked), min(sequences, asked), f"max_num_batched_tokens {asked}")
    low, high = {"server": (server, server), "llm": (llm, llm)}.get(flags.usage, (server, llm))
    if flags.max_model_len:
        low, high = (min(number, sequences * flags.max_model_len) for number in (low, high))
    tokens = f"{low}" if low == high else f"{low} (vllm serve) or {high} (the class LLM)"
    return Batch(Range(low, high), min(sequences, int(high)), f"max_num_batched_tokens {tokens} by default")


def overhead(shape: Shape, flags: Flags, total: float, card: str, unified: bool) -> tuple[Part, ...]:
    """Return the parts of the overhead on one rank of a card with `total` bytes."""
    batch = batch_of(flags, total, card)
    parts = [_activations(shape, flags, batch), _non_torch(flags, unified, total)]
    if counts_graphs(flags):
        parts.append(_graphs(shape, flags))
    if flags.max_loras:
        parts.append(_adapters(shape, flags))
    return tuple(parts)


def _adapters(shape: Shape, flags: Flags) -> Part:
    slots = adapters(shape, flags)
    # Graphs are captured twice, with adapters and without (`cudagraph_specialize_lora` of 0.12.0).
    again = _graphs(shape, flags).bytes.high if counts_graphs(flags) else 0.0
    many = f"{flags.max_loras} adapters" if flags.max_loras > 1 else "one adapter"
    reason = f"slots for {many} of rank {flags.max_lora_rank} in every linear layer"
    return Part("LoRA adapters", Range(slots.low, slots.high + again), reason)


def counts_graphs(flags: Flags) -> bool:
    """Return whether CUDA graphs are taken off the KV cache: by default since 0.20.0 (`envs.py`)."""
    if flags.enforce_eager:
        return False
    return flags.release >= (0, 20, 0) if flags.counts_graphs is None else flags.counts_graphs


# --- activations --------------------------------------------------------------------------------------------

#: Tensors of max_num_batched_tokens x hidden_size beside those of the feed-forward part, at its peak: the
#: hidden states and the residual at least; with norms and the attention's in- and output at most 6.
_HIDDEN_TENSORS = (2, 6)
#: What profiling a vision encoder takes at most: posted starts of LLaVA and Qwen3-VL have 1.4 to 3 GiB.
_ENCODER = 3.0 * GIB


def _activations(shape: Shape, flags: Flags, batch: Batch) -> Part:
    low, high = (_forward(shape, flags, tokens, count) for tokens, count in zip(
        (batch.tokens.low, batch.tokens.high), _HIDDEN_TENSORS, strict=True
    ))  # fmt: skip
    units, sampler = _sampler_units(flags)
    logits = batch.sequences * shape.vocab * 4
    # The sampler runs after the forward pass, while the hidden states of the batch are still held.
    held = batch.tokens.high * shape.hidden * 2
    peak = Range(max(low, units[0] * logits), max(high, units[1] * logits + held))
    reason = f"forward pass, {batch.why}"
    if units[1] * logits > high:
        reason = f"logits of {batch.sequences} sequences, {sampler}"
    if shape.multimodal and peak.high < _ENCODER:
        # The encoder is profiled before the forward pass: the larger of the two is the peak.
        peak, reason = Range(peak.low, _ENCODER), "vision encoder, profiled with the largest images"
    return Part("activations", peak, reason)


def _forward(shape: Shape, flags: Flags, tokens: float, hidden_tensors: int) -> float:
    """Return the bytes that the widest layer of a forward pass holds at once."""
    tensor = flags.tensor_parallel_size
    inner = (3 if shape.gated else 2) * shape.intermediate / tensor
    if shape.experts is not None:
        # The fused kernels share one buffer between what comes out of the gate and out of the experts.
        chosen, width = shape.experts.chosen, shape.experts.intermediate / tensor
        inner = chosen * (max(2 * width, shape.hidden) + width) + 3 * shape.experts.shared / tensor
    dequantised = 0.0
    if flags.quantization == "awq" and hidden_tensors == _HIDDEN_TENSORS[1]:
        # From 256 tokens on plain AWQ writes a layer's weights out in 16 bits and multiplies those.
        dequantised = 2 * shape.hidden * shape.intermediate / tensor * 2
    return tokens * (inner + hidden_tensors * shape.hidden) * 2 + dequantised


def _sampler_units(flags: Flags) -> tuple[tuple[float, float], str]:
    """Return how many float32 tensors of max_num_seqs x vocab_size the sampler holds at its peak.

    PyTorch's sort needs 9.6 to 9.9 of them: five posted breakdowns of 0.10.2 and 0.11.0. FlashInfer's and
    Triton's need the logits in 16 and in 32 bits, and up to two more: 1.5 to 4. FlashInfer was used wherever
    it was installed until 0.11.0 (pull request 26859), and is again by default since 0.21 (40376); before
    that Triton's was the default (the same), with the posted starts from 0.17 on. The model runner of later
    releases does not always profile it (48601): hence no lower bound there.
    """
    if flags.release >= (0, 17, 0) or flags.sampler == "flashinfer":
        return (0.0 if flags.release >= (0, 20, 0) else 1.5, 4.0), "with little beside them"
    if flags.sampler == "" and flags.release <= (0, 11, 0):
        return (1.5, 9.95), "sorted for top-k and top-p where FlashInfer's sampling is not used"
    return (9.4, 9.95), "sorted for top-k and top-p"


# --- outside torch ------------------------------------------------------------------------------------------


def _non_torch(flags: Flags, unified: bool, total: float) -> Part:
    """Return what is taken outside torch's allocator, as posted logs have it."""
    if unified:
        return Part("non-torch", Range(-8 * GIB, 8 * GIB), "unified memory: the page cache comes and goes")
    if flags.tensor_parallel_size * flags.pipeline_parallel_size > 1:
        return Part(
            "non-torch",
            Range(0.15 * GIB, 1.65 * GIB),
            "NCCL's buffers (posted: 0.21 to 0.95 GiB, between hosts up to 1.3, on four H100 1.6)",
        )
    return Part("non-torch", Range(0.0, 0.35 * GIB), "kernels and libraries (posted: 0.06 to 0.26 GiB)")


#: GiB of CUDA graphs a layer: posted starts have up to 0.012 for a handful of batch sizes (0.33 GiB of 28
#: layers, 8 sequences), and for all sizes up to 512 up to 0.020 on one card, 0.040 with NCCL's buffers.
_GRAPHS_FEW, _GRAPHS_ALONE, _GRAPHS_TENSOR = 0.012, 0.020, 0.040


def graphs_beside(shape: Shape, flags: Flags) -> float:
    """Return the bytes at most of CUDA graphs that come on top of the budget: where they are not counted."""
    if flags.enforce_eager or counts_graphs(flags):
        return 0.0
    return _graphs(shape, flags).bytes.high * (2 if flags.max_loras else 1)


def _graphs(shape: Shape, flags: Flags) -> Part:
    """Return what the estimate of CUDA graphs takes: by layers, and by how many batch sizes are captured."""
    most = _GRAPHS_TENSOR if flags.tensor_parallel_size > 1 else _GRAPHS_ALONE
    # Sizes are captured up to twice max_num_seqs, and not beyond 512.
    captured = min(1.0, 2 * (flags.max_num_seqs or 256) / 512)
    a_layer = _GRAPHS_FEW + (most - _GRAPHS_FEW) * captured
    return Part("CUDA graphs", Range(0, shape.layers * a_layer * GIB), "counted off the KV cache since 0.20")
