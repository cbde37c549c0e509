"""How a launch would use one GPU's memory, as its vLLM plans it: the numbers of a report, in bytes."""

from __future__ import annotations

from msgspec import Struct


class Span(Struct, frozen=True):
    """A quantity between two bounds: bytes, tokens or requests."""

    low: float
    high: float


class Share(Struct, frozen=True):
    """What is taken of the budget beside weights and KV cache, and why it is as much as that."""

    name: str  #: "activations", "non-torch", "CUDA graphs" or "LoRA adapters"
    bytes: Span
    reason: str


class Profile(Struct, frozen=True):
    """How far a launch that fits could go."""

    name: str  #: "one user": the longest context; "many": the most requests at once, as long as was asked
    options: str  #: as the launch spells them
    holds: str  #: what it comes to


class MemoryPlan(Struct, frozen=True):
    """The memory of one GPU, of several the one with the least, with this launch."""

    vllm: str  #: the release whose rules are followed
    assumed: str  #: why that one, where it is not the installed one or the image's; else ""
    card: str
    cards: int
    card_from: str  #: "NVML", or the option that named it
    total_bytes: int
    utilization: float
    budget_bytes: int
    weights: Span
    overhead: tuple[Share, ...]
    kv_cache: Span  #: what is left for it; below 0 there is none
    needed_bytes: int  #: by one request of `max_model_len` tokens
    max_model_len: int
    kv_tokens: Span
    concurrency: Span  #: requests of `max_model_len` tokens at once
    longest: Span  #: the largest max_model_len that starts, in tokens
    outcome: str  #: fits, may-fit, too-long, no-kv-cache, weights-do-not-fit, not-free, too-many-sequences
    profiles: tuple[Profile, ...] = ()  #: where it fits
