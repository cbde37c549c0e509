"""Will this model start on this card, and with how much KV cache: vLLM's memory plan before it is made.

    budget        what CUDA reports as total x gpu_memory_utilization
    available     budget - weights - overhead: a range, as the overhead is one
    needed        KV cache of one request of max_model_len tokens

A KV cache of a size that is given, in bytes or blocks, is held against the whole card instead of the budget.
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
from cudadoctor.simulate.overhead import Part, batch_of, default_utilization, graphs_beside, overhead
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
    asked: int | None = None  #: bytes of a KV cache that is given in bytes or blocks; None: vLLM finds it
    room: Range | None = None  #: then: what the card has for it beside the weights and the overhead

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
    "cache-too-large",  # of a size that is given, and more than the card has for it: out of memory
    "weights-do-not-fit",  # the weights alone are more than the card has
    "not-free",  # less is free than the budget: "Free memory on device ... is less than desired"
    "too-many-sequences",  # hybrids: "max_num_seqs exceeds available Mamba cache blocks"
)


def plan(shape: Shape, flags: Flags, card: Card, loaded: Range | None = None) -> Plan:
    """Return the plan; `loaded` are the bytes of weights on one rank, where the checkpoint tells them.

    Raises Unplannable or UnknownWeights (both ValueError) where the numbers are impossible or not enough.
    """
    flags, length = _settled(shape, flags)
    weights = loaded or weights_from_shape(shape, flags)
    _check(card, weights)
    utilization = flags.gpu_memory_utilization
    utilization = default_utilization(flags.release) if utilization is None else utilization
    budget = card.total * utilization
    layouts = _layouts(shape, flags, card)
    weights = _offloaded(weights, flags)
    parts = overhead(shape, flags, card.total, card.name, card.unified)
    asked = _asked(layouts[0])
    room = None if asked is None else _room(card, weights, parts, shape, flags)
    available = _available(budget, weights, parts, flags, asked)
    ends = [math.floor(max(0.0, end)) for end in (available.low, available.high)]
    most = shape.positions or length
    needed = [needed_bytes(layout, length) for layout in layouts]
    low, high = (capacity(layout, end) for layout, end in zip(layouts, ends, strict=True))
    longest = [largest_len(layout, end, most) for layout, end in zip(layouts, ends, strict=True)]
    found = Plan(
        "fits", utilization, budget, weights, parts, available, needed[0], length, layouts[0], low, high,
        (longest[0], longest[1]), asked, room,
    )  # fmt: skip
    return structs.replace(found, outcome=_outcome(found, card, ends, needed[1]))


def _layouts(shape: Shape, flags: Flags, card: Card) -> tuple[Layout, Layout]:
    """Return the layout at both ends: with windows, it depends on a default that may not be known."""
    tokens = batch_of(flags, card.total, card.name).tokens
    careful = lay_out(shape, flags, int(tokens.high))
    known = tokens.low == tokens.high
    return careful, careful if known else lay_out(shape, flags, int(tokens.low))


def _settled(shape: Shape, flags: Flags) -> tuple[Flags, int]:
    """Return the flags with a length: as given, or what the model is made for."""
    length = checked(flags).max_model_len or shape.positions
    if not length:
        raise Unplannable("neither --max-model-len nor max_position_embeddings is given")
    return structs.replace(flags, max_model_len=length), length


def _check(card: Card, weights: Range) -> None:
    given = [("the card's memory", card.total), ("free memory", card.free)]
    for name, value in (*given, *(("weights", end) for end in (weights.low, weights.high))):
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


def _asked(layout: Layout) -> int | None:
    """Return the bytes of a KV cache whose size is given, in bytes or in blocks."""
    blocks = layout.flags.num_gpu_blocks_override
    return layout.flags.kv_cache_memory_bytes if blocks is None else blocks * layout.bytes_per_block


#: The last release whose source holds the length against what was found and the first that holds it against
#: --num-gpu-blocks-override: `get_kv_cache_configs` of vLLM 0.20.0 and 0.25.0.
_FOUND, _OVERRIDDEN = (0, 20), (0, 25)


def _available(
    budget: float, weights: Range, parts: tuple[Part, ...], flags: Flags, asked: int | None
) -> Range:
    """Return what the length is held against: what vLLM finds, or what it is told."""
    blocks, release = flags.num_gpu_blocks_override, flags.release[:2]
    if blocks is not None and _FOUND < release < _OVERRIDDEN:
        raise Unplannable("how --num-gpu-blocks-override counts in this release was not looked at")
    if asked is not None and (blocks is None or release >= _OVERRIDDEN):
        return Range(asked, asked)
    taken = weights
    for part in parts:
        taken = taken.plus(part.bytes)
    found = Range(budget - taken.high, budget - taken.low)
    if flags.kv_cache_memory_bytes is not None:
        found = Range(flags.kv_cache_memory_bytes, flags.kv_cache_memory_bytes)
    # A request longer than the blocks that are left would wait for ever.
    return found if asked is None else Range(min(found.low, asked), min(found.high, asked))


#: What a process holds on the card before vLLM looks at it, its CUDA context: 0.2 to 0.5 GiB in posts.
_CONTEXT = 0.5 * GIB


def _room(card: Card, weights: Range, parts: tuple[Part, ...], shape: Shape, flags: Flags) -> Range:
    """Return what the whole card has for a KV cache whose size is given: vLLM makes it and looks no further.

    Activations come and go: at the good end they are gone when the cache is made. Of unified memory what is
    free now is no bound: the page cache gives way.
    """
    whole = card.total if card.free is None or card.unified else min(card.total, card.free)
    low = sum((part.bytes.high for part in parts), graphs_beside(shape, flags))
    high = sum(part.bytes.low for part in parts if part.name != "activations")
    return Range(whole - weights.high - low - (0 if card.unified else _CONTEXT), whole - weights.low - high)


def _outcome(plan: Plan, card: Card, ends: list[int], needed_at_least: int) -> str:
    """Return what becomes of it: `plan` has all but that, `ends` the bytes that hold requests."""
    if plan.weights.low >= card.total:
        return "weights-do-not-fit"
    if card.free is not None and card.free < plan.budget:
        return "not-free"
    if plan.asked is not None and plan.room is not None and plan.asked > plan.room.high:
        return "cache-too-large"
    if plan.available.high <= 0:
        return "no-kv-cache"
    if ends[1] < needed_at_least:
        return "too-long"
    states = states_needed(plan.layout, card)
    if plan.at_most.num_blocks < states:
        return "too-many-sequences"
    surely = ends[0] >= plan.needed and plan.at_least.num_blocks >= states
    return "fits" if surely and (plan.room is None or (plan.asked or 0) <= plan.room.low) else "may-fit"


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
