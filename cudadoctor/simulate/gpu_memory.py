"""Will this model start on this card, and with how much KV cache: vLLM's memory plan before it is made.

    budget        what CUDA reports as total x gpu_memory_utilization
    available     budget - weights - overhead: a range, as the overhead is one
    needed        KV cache of one request of max_model_len tokens

What is needed, and how many tokens given bytes hold, is computed as vLLM computes it (`kv_cache`); what is
available before a run can only be bounded (`overhead`).
"""

from __future__ import annotations

import math

from msgspec import Struct, structs

from cudadoctor.simulate.kv_cache import (
    GIB,
    Capacity,
    Flags,
    Layout,
    Unplannable,
    capacity,
    checked,
    largest_len,
    lay_out,
    needed_bytes,
)
from cudadoctor.simulate.model_shape import LARGEST, Shape
from cudadoctor.simulate.overhead import Part, batch_of, default_utilization, overhead
from cudadoctor.simulate.weights import Range, weights_from_shape


class Card(Struct, frozen=True):
    """One of the cards that vLLM would use; with several, the one with the least memory."""

    total: float  #: bytes, as CUDA reports them
    name: str = ""
    free: float | None = None  #: bytes free now, before the process starts; None: not known
    unified: bool = False  #: whether the memory is the host's (GB10, Jetson)
    count: int = 1


class Plan(Struct, frozen=True):
    """What vLLM would do with this model, these flags and this card. Bytes are those of one rank."""

    outcome: str  #: see `OUTCOMES`
    utilization: float
    budget: float
    weights: Range
    overhead: tuple[Part, ...]
    available: Range  #: for the KV cache; below 0 there is none
    needed: int  #: for one request of max_model_len tokens
    max_model_len: int  #: as given, or what the model's config says
    layout: Layout
    at_least: Capacity  #: what the low end of `available` holds
    at_most: Capacity
    longest: tuple[int, int]  #: the largest --max-model-len at both ends, up to what the model is made for

    @property
    def fits(self) -> bool:
        """Return whether it starts wherever in the range the overhead lies."""
        return self.outcome == "fits"

    @property
    def may_fit(self) -> bool:
        """Return whether it starts at least at the good end of the range."""
        return self.outcome in ("fits", "may-fit")


OUTCOMES = (
    "fits",  # at both ends of the range
    "may-fit",  # at the good end only
    "too-long",  # there is a KV cache, but not for one request of max_model_len tokens
    "no-kv-cache",  # nothing is left of the budget: "No available memory for the cache blocks"
    "weights-do-not-fit",  # the weights alone are more than the card has
    "not-free",  # less is free than the budget: "Free memory on device ... is less than desired"
    "too-many-sequences",  # hybrids: "max_num_seqs exceeds available Mamba cache blocks"
)


def plan(shape: Shape, flags: Flags, card: Card, loaded: Range | None = None) -> Plan:
    """Return the plan; `loaded` are the bytes of weights on one rank, where the checkpoint tells them.

    Raises Unplannable or UnknownWeights (both ValueError) where the numbers are impossible or not enough.
    """
    flags, length = _settled(shape, flags)
    _check(card, loaded)
    utilization = flags.gpu_memory_utilization
    utilization = default_utilization(flags.release) if utilization is None else utilization
    budget = card.total * utilization
    layout = lay_out(shape, flags)
    weights = _offloaded(loaded or weights_from_shape(shape, flags), flags)
    parts = overhead(shape, flags, card.total, card.name, card.unified)
    available = _available(budget, weights, parts, flags)
    ends = [math.floor(max(0.0, end)) for end in (available.low, available.high)]
    most = shape.positions or length
    needed = needed_bytes(layout, length)
    low, high = (capacity(layout, end) for end in ends)
    return Plan(
        _outcome(card, budget, weights, available, needed, layout, (low, high)),
        utilization, budget, weights, parts, available, needed, length, layout, low, high,
        (largest_len(layout, ends[0], most), largest_len(layout, ends[1], most)),
    )  # fmt: skip


def _settled(shape: Shape, flags: Flags) -> tuple[Flags, int]:
    """Return the flags with a length: as given, or what the model is made for."""
    length = checked(flags).max_model_len or shape.positions
    if not length:
        raise Unplannable("neither --max-model-len nor max_position_embeddings is given")
    return structs.replace(flags, max_model_len=length), length


def _check(card: Card, loaded: Range | None) -> None:
    weights = (loaded.low, loaded.high) if loaded else ()
    given = [("the card's memory", card.total), ("free memory", card.free)]
    for name, value in (*given, *(("weights", end) for end in weights)):
        if value is None and name == "free memory":
            continue
        # "not (a <= b)" also holds for a NaN.
        if not isinstance(value, int | float) or not 0 <= value < LARGEST * 8:
            raise Unplannable(f"{name}: {str(value)[:40]} bytes are impossible")
    if not card.total:
        raise Unplannable("the card has no memory")


def _offloaded(weights: Range, flags: Flags) -> Range:
    """Return what stays on the card with cpu_offload_gb: embeddings and whatever is more than that."""
    off = flags.cpu_offload_gb * GIB
    return Range(max(0.0, weights.low - off), max(min(weights.high, 2.0 * GIB), weights.high - off))


def _available(budget: float, weights: Range, parts: tuple[Part, ...], flags: Flags) -> Range:
    if flags.kv_cache_memory_bytes is not None:
        return Range(flags.kv_cache_memory_bytes, flags.kv_cache_memory_bytes)
    taken = weights
    for part in parts:
        taken = taken.plus(part.bytes)
    return Range(budget - taken.high, budget - taken.low)


def _outcome(
    card: Card, budget: float, weights: Range, available: Range, needed: int, layout: Layout,
    ends: tuple[Capacity, Capacity],
) -> str:  # fmt: skip
    if weights.low >= card.total:
        return "weights-do-not-fit"
    if layout.flags.kv_cache_memory_bytes is None and card.free is not None and card.free < budget:
        return "not-free"
    if available.high <= 0:
        return "no-kv-cache"
    if available.high < needed:
        return "too-long"
    states = states_needed(layout, card)
    if ends[1].num_blocks < states:
        return "too-many-sequences"
    return "fits" if available.low >= needed and ends[0].num_blocks >= states else "may-fit"


def states_needed(layout: Layout, card: Card) -> int:
    """Return how many blocks must be there, for a state of each sequence; 0 where that is not asked.

    Graphs of the decoding are captured for all of them, so there must be one each (vllm-project/vllm pull
    request 38270, merged in 2026-03; starts of 0.23.1, 0.25.1 and 0.28.0 that stop for it: issue 49064 and
    kaito-project/kaito issue 2319). Whether releases before 0.23 ask is not known, 0.12.0 does not.
    """
    flags = layout.flags
    if not layout.shape.recurrent or flags.enforce_eager or flags.release < (0, 23, 0):
        return 0
    return batch_of(flags, card.total, card.name).sequences
