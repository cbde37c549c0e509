"""What would fit instead: a few changes of flags, each planned again by the same model before it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from msgspec import Struct, structs

from cudadoctor.simulate.gpu_memory import Card, Plan, plan
from cudadoctor.simulate.kv_cache import GIB, Flags
from cudadoctor.simulate.model_shape import Shape
from cudadoctor.simulate.overhead import batch_of, counts_graphs, graphs_beside
from cudadoctor.simulate.weights import weights_from_index

#: Above this share of the card graphs and the allocator's rounding have no room: a maintainer calls up to
#: 0.95 safe (vllm-project/vllm issue 1298), and posted starts go to 0.955.
MOST_UTILIZATION = 0.95
#: What a process holds on the card before vLLM looks at it, its CUDA context: 0.2 to 0.5 GiB in posts.
_CONTEXT = 0.5 * GIB
#: No card has more than this; what needs more has no card to be named.
_LARGEST_CARD = 4096
_Changes = dict[str, object]


class Task(Struct, frozen=True):
    """What is to be started: a model, and the size of its checkpoint where the files or the hub tell it."""

    shape: Shape
    flags: Flags
    card: Card
    checkpoint: float | None = None  #: bytes of all tensors, over all ranks


class Machine(Struct, frozen=True):
    """What may be changed to on this machine."""

    kv_dtypes: tuple[str, ...] = ()  #: KV cache dtypes that this GPU and backend really have, beside "auto"
    host_free: float | None = None  #: bytes of host memory free for cpu_offload_gb; None: not known
    offload: bool = True  #: whether cpu_offload_gb works for this model and version


class Advice(Struct, frozen=True):
    """One way to start it: flags to change, and the plan with them."""

    changes: tuple[tuple[str, object], ...]  #: by vLLM's argument, like ("gpu_memory_utilization", 0.9)
    plan: Plan

    @property
    def sure(self) -> bool:
        """Return whether it fits wherever in the range the overhead lies."""
        return self.plan.fits


class Advised(Struct, frozen=True):
    """What can be done about a task."""

    advice: tuple[Advice, ...]  #: sure ones first, then by how little they change
    raise_utilization: bool | None = None  #: True: more helps; False: less is wanted; None: neither matters
    needs: float | None = None  #: bytes of the smallest card that would do, where nothing helps on this one


def planned(task: Task, **changes: object) -> Plan:
    """Return the plan of a task with some flags changed; raises Unplannable or UnknownWeights."""
    flags = structs.replace(task.flags, **changes)
    loaded = None if task.checkpoint is None else weights_from_index(task.checkpoint, flags)
    return plan(task.shape, flags, task.card, loaded)


def advise(task: Task, machine: Machine) -> Advised:
    """Return what would start, for a task that does not or may not; raises as `planned` does."""
    now = planned(task)
    if now.fits:
        return Advised(())
    tried = [_tried(task, changes) for changes in _candidates(task, machine, now)]
    found = {one.changes: one for one in tried if one is not None}
    ranked = sorted(found.values(), key=_rank)
    useful = tuple(_worth_it([one for one in ranked if one.sure or now.outcome != "may-fit"]))
    needs = None if ranked or now.may_fit else smallest_card(task, machine)
    return Advised(useful, _direction(now, useful), needs)


def _tried(task: Task, changes: _Changes) -> Advice | None:
    """Return the change with its plan, if it starts with it."""
    try:
        again = planned(task, **changes)
    except ValueError:
        return None
    return Advice(tuple(sorted(changes.items())), again) if again.may_fit else None


def _rank(one: Advice) -> tuple[bool, bool, int]:
    # Weights in host memory are read over the bus for every token: last of what helps.
    return not one.sure, "cpu_offload_gb" in dict(one.changes), len(one.changes)


def _worth_it(ranked: list[Advice]) -> Iterator[Advice]:
    """Yield those that give a tenth more tokens than any that changes a part of the same flags."""
    kept: list[Advice] = []
    for one in ranked:
        less = [
            other.plan.at_least.tokens
            for other in kept
            if other.sure >= one.sure and set(other.changes) < set(one.changes)
        ]
        if not less or one.plan.at_least.tokens > 1.1 * max(less):
            kept.append(one)
            yield one


def _direction(now: Plan, advice: tuple[Advice, ...]) -> bool | None:
    for one in advice:
        asked = dict(one.changes).get("gpu_memory_utilization")
        if isinstance(asked, float):
            return asked > now.utilization
    return False if now.outcome == "not-free" else None


# --- candidates ---------------------------------------------------------------------------------------------


def _candidates(task: Task, machine: Machine, now: Plan) -> Iterator[_Changes]:
    """Yield changes worth a try: alone, then together with the best utilisation."""
    best = best_utilization(task)
    usable: _Changes = {}
    if (now.outcome == "not-free" and best > 0) or best > now.utilization:
        usable = {"gpu_memory_utilization": best}
        yield usable
    for changes in _single(task, machine, now):
        if now.outcome != "not-free":
            yield changes
        if usable:
            yield {**changes, **usable}
    for base in ({}, usable) if usable else ({},):
        yield from _shorter(task, machine, base)


def best_utilization(task: Task) -> float:
    """Return the highest share of the card worth asking for, in hundredths.

    No more than is free, and with room for what is not counted: the context, and until 0.19 CUDA graphs.
    """
    card = task.card
    beside = _CONTEXT + graphs_beside(task.shape, task.flags)
    room = 1.0 if card.unified else 1 - beside / card.total
    free = 1.0 if card.free is None else card.free / card.total
    return max(0.0, min(MOST_UTILIZATION, math.floor(min(room, free) * 100) / 100))


def _single(task: Task, machine: Machine, now: Plan) -> Iterator[_Changes]:
    flags = task.flags
    for dtype in machine.kv_dtypes:
        if dtype != flags.kv_cache_dtype:
            yield {"kv_cache_dtype": dtype}
    batch = batch_of(flags, task.card.total, task.card.name)
    for sequences in (64, 16, 4, 1):
        if sequences < batch.sequences:
            yield {"max_num_seqs": sequences}
    if batch.tokens.high > 2048:
        yield {"max_num_batched_tokens": 2048}
    if counts_graphs(flags):
        yield {"enforce_eager": True}
    for ranks in _tensor_sizes(task):
        yield {"tensor_parallel_size": ranks}
    if machine.offload and not flags.cpu_offload_gb:
        yield from _offloads(machine, now)


def _tensor_sizes(task: Task) -> Iterator[int]:
    """Yield the larger tensor parallel sizes that these cards and the heads of this model allow."""
    ranks = task.flags.tensor_parallel_size * 2
    while ranks * task.flags.pipeline_parallel_size <= min(task.card.count, 64):
        if task.shape.heads % ranks == 0:
            yield ranks
        ranks *= 2


def _offloads(machine: Machine, now: Plan) -> Iterator[_Changes]:
    """Yield the GiB of weights to keep in host memory: what is missing at the bad end, if there is room."""
    missing = math.ceil((now.needed - now.available.low) / GIB)
    room = math.inf if machine.host_free is None else machine.host_free
    if 0 < missing * GIB <= min(room, now.weights.high):
        yield {"cpu_offload_gb": missing}


def _shorter(task: Task, machine: Machine, base: _Changes) -> Iterator[_Changes]:
    """Yield the largest --max-model-len, as it is and with each KV cache dtype."""
    dtypes = [dtype for dtype in machine.kv_dtypes if dtype != task.flags.kv_cache_dtype]
    for change in ({}, *({"kv_cache_dtype": dtype} for dtype in dtypes)):
        changes: _Changes = {**base, **change}
        if length := _longest(task, changes):
            yield {**changes, "max_model_len": length}


def _longest(task: Task, changes: _Changes) -> int:
    """Return the longest length that surely starts with these changes, else one that may; 0 for none."""
    try:
        again = planned(task, **changes)
    except ValueError:
        return 0
    sure, hoped = again.longest
    length = sure or hoped
    return length if length < again.max_model_len or "max_num_seqs" in changes else 0


# --- what would do ------------------------------------------------------------------------------------------


def smallest_card(task: Task, machine: Machine) -> float | None:
    """Return the bytes of the smallest card that may start it at the length asked for; None: none does."""
    dtype = next(iter(machine.kv_dtypes), task.flags.kv_cache_dtype)

    def starts(gib: int) -> bool:
        card = Card(gib * GIB, task.card.name, unified=task.card.unified)
        return planned(
            structs.replace(task, card=card), gpu_memory_utilization=MOST_UTILIZATION, kv_cache_dtype=dtype
        ).may_fit

    return _least(starts)


def _least(starts: Callable[[int], bool]) -> float | None:
    low, high = 1, _LARGEST_CARD
    if not starts(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if starts(middle) else (middle + 1, high)
    return low * GIB


# --- profiles -----------------------------------------------------------------------------------------------


def longest_context(task: Task, machine: Machine) -> Advice | None:
    """Return the flags for one user with the longest context that surely fits; None where nothing does."""
    found, most = [], task.shape.positions or task.flags.max_model_len
    for dtype in dict.fromkeys((task.flags.kv_cache_dtype, *machine.kv_dtypes)):
        changes = _room(task, {"kv_cache_dtype": dtype, "max_num_seqs": 1, "max_model_len": most})
        if length := _longest(task, changes):
            found.append(_tried(task, {**changes, "max_model_len": length}))
    sure = [one for one in found if one is not None]
    # Among equal lengths the first, which changes the dtype least.
    return max(sure, key=lambda one: (one.sure, one.plan.max_model_len), default=None)


def most_users(task: Task, machine: Machine, context: int) -> Advice | None:
    """Return the flags for the most users at once with `context` tokens each; None where not one fits."""
    found = []
    for dtype in dict.fromkeys((task.flags.kv_cache_dtype, *machine.kv_dtypes)):
        changes = _room(task, {"kv_cache_dtype": dtype, "max_model_len": context})
        found.append(_crowded(task, changes))
    sure = [one for one in found if one is not None]
    return max(sure, key=lambda one: one.plan.layout.flags.max_num_seqs or 0, default=None)


def _room(task: Task, changes: _Changes) -> _Changes:
    return {**changes, "gpu_memory_utilization": best_utilization(task)}


def _crowded(task: Task, changes: _Changes) -> Advice | None:
    """Return the largest max_num_seqs that the KV cache then holds: more sequences leave less of it."""
    low, high = 0, 1024
    while low < high:
        middle = (low + high + 1) // 2
        advice = _tried(task, {**changes, "max_num_seqs": middle})
        held = advice.plan.at_least.concurrency if advice is not None and advice.sure else None
        low, high = (middle, high) if held is not None and held >= middle else (low, middle - 1)
    return _tried(task, {**changes, "max_num_seqs": low}) if low else None
