"""What would fit instead: a few changes of flags, each planned again by the same model before it is given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from msgspec import Struct, structs

from cudadoctor.simulate.gpu_memory import Card, Plan, plan
from cudadoctor.simulate.kv_cache import GIB, Flags, blocks_per_request, kv_bytes
from cudadoctor.simulate.model_shape import Shape
from cudadoctor.simulate.overhead import Batch, batch_of, counts_graphs, graphs_beside
from cudadoctor.simulate.parallel import divides
from cudadoctor.simulate.weights import weights_from_index

#: Above this share of the card graphs and the allocator's rounding have no room: a maintainer calls up to
#: 0.95 safe (vllm-project/vllm issue 1298), and posted starts go to 0.955.
MOST_UTILIZATION = 0.95
#: What a process holds on the card before vLLM looks at it, its CUDA context: 0.2 to 0.5 GiB in posts.
_CONTEXT = 0.5 * GIB
#: No card has more than this; what needs more has no card to be named.
_LARGEST_CARD = 4096
#: What a change costs its user: room of the card is nothing to him that nobody else uses, weights in host
#: memory are read over the bus for every token.
_COSTS = {
    "gpu_memory_utilization": 1, "max_num_seqs": 2, "max_num_batched_tokens": 2, "tensor_parallel_size": 2,
    "max_loras": 3, "kv_cache_dtype": 3, "enforce_eager": 4, "kv_cache_memory_bytes": 2,
    "num_gpu_blocks_override": 2, "max_model_len": 6, "cpu_offload_gb": 12,
}  # fmt: skip
#: More room is worth a line from this factor on.
_CLEARLY = 1.3
#: A length below this is of no use to anybody who asked for more.
_USEFUL = 512
#: What is tried for --max-num-seqs, the least change first.
_FEWER_SEQUENCES = (128, 64, 32, 16, 8, 4, 1)
_Changes = dict[str, object]


class Task(Struct, frozen=True):
    """What is to be started: a model, and the size of its checkpoint where the files or the hub tell it."""

    shape: Shape
    flags: Flags
    card: Card
    checkpoint: float | None = None  #: bytes of all tensors, over all ranks
    replicas: int = 1  #: --data-parallel-size: how often all of it is held, on GPUs of its own
    group: int = 0  #: weights that share a scale: what a rank gets is a multiple of it; 0: no matter

    @property
    def ranks(self) -> int:
        """Return how many GPUs it takes."""
        return self.flags.tensor_parallel_size * self.flags.pipeline_parallel_size * self.replicas


class Machine(Struct, frozen=True):
    """What may be changed to on this machine."""

    kv_dtypes: tuple[str, ...] = ()  #: KV cache dtypes that this GPU and backend really have, beside "auto"
    host_free: float | None = None  #: bytes of host memory free for cpu_offload_gb; None: not known
    offload: bool = True  #: whether cpu_offload_gb works for this model and version


class Advice(Struct, frozen=True):
    """One way to start it: flags to change, and the plan with them."""

    changes: tuple[tuple[str, object], ...]  #: by vLLM's argument, like ("gpu_memory_utilization", 0.9)
    plan: Plan
    kind: str = "would fit"  #: or "may fit", where it starts at the good end only; or "more room"

    @property
    def sure(self) -> bool:
        """Return whether it fits wherever in the range the overhead lies."""
        return self.plan.fits

    @property
    def cost(self) -> int:
        """Return what the changes take from the user; 0 for nothing."""
        return _cost(dict(self.changes))


class Advised(Struct, frozen=True):
    """What can be done about a task."""

    advice: tuple[Advice, ...]  #: what would fit, the least change first; then what gives more room
    raise_utilization: bool | None = None  #: True: more helps; False: less is wanted; None: neither matters
    needs: float | None = None  #: bytes of the smallest card that would do, where nothing helps on this one


def _cost(changes: _Changes) -> int:
    return sum(_COSTS.get(name, 0) for name in changes)


def planned(task: Task, **changes: object) -> Plan:
    """Return the plan of a task with some flags changed; raises Unplannable or UnknownWeights."""
    flags = structs.replace(task.flags, **changes) if changes else task.flags
    loaded = None if task.checkpoint is None else weights_from_index(task.checkpoint, flags, task.shape)
    return plan(task.shape, flags, task.card, loaded)


def advise(task: Task, machine: Machine) -> Advised:
    """Return what would start, for a task that does not or may not; raises as `planned` does."""
    now = planned(task)
    if now.fits:
        return Advised(())
    fitting = _fitting(task, machine, now)
    if not fitting:
        return Advised((), _direction(now, ()), _needs(task, machine, now))
    more = list(_more_room(task, machine, fitting[0])) if fitting[0].sure else []
    return Advised((*fitting, *more), _direction(now, fitting[:1]))


def _needs(task: Task, machine: Machine, now: Plan) -> float | None:
    """Return the smallest card that would do, where this one would not do with all of its memory free."""
    whole = structs.replace(task, card=structs.replace(task.card, free=None))
    if now.may_fit or (now.outcome == "not-free" and _fitting(whole, machine, planned(whole))):
        return None
    if now.outcome == "not-free" and planned(whole).fits:
        return None
    return smallest_card(task, machine)


def _direction(now: Plan, fitting: tuple[Advice, ...]) -> bool | None:
    """Return which way the utilisation is to go."""
    asked = [dict(one.changes).get("gpu_memory_utilization") for one in fitting]
    if now.outcome == "not-free":
        return False if any(asked) else None
    if now.outcome == "no-kv-cache":
        return True
    return True if any(isinstance(value, float) and value > now.utilization for value in asked) else None


# --- what would fit -----------------------------------------------------------------------------------------


def _fitting(task: Task, machine: Machine, now: Plan) -> tuple[Advice, ...]:
    """Return the least change that leaves the length, and the largest length: whichever costs less first."""
    kept = _first(task, now, _candidates(task, machine, now))
    cut = _shorter(task, machine, now)
    found = sorted((one for one in (kept, cut) if one is not None), key=lambda one: (not one.sure, one.cost))
    if found and not found[0].sure:
        # What may not start either is worth a line only where the launch itself surely will not.
        return () if now.outcome == "may-fit" else (structs.replace(found[0], kind="may fit"),)
    return tuple(one for one in found if one.sure)


def _candidates(task: Task, machine: Machine, now: Plan) -> list[_Changes]:
    """Return changes that leave the length: what costs least first, alone and with the best utilisation."""
    if now.outcome == "weights-do-not-fit":
        spread = _spread(task)
        steps = [*_elsewhere(task, machine, now), *({**_utmost(task, machine), **each} for each in spread)]
    else:
        steps = [{}, *_less_asked(task, now), *_steps(task, machine, now), _utmost(task, machine)]
    found: list[_Changes] = []
    for changes in steps:
        if changes and now.outcome != "not-free":
            found.append(changes)
        if (best := _raised(task, changes, now)) > 0:
            found.append({**changes, "gpu_memory_utilization": best})
    return sorted(found, key=_cost)


def _less_asked(task: Task, now: Plan) -> Iterator[_Changes]:
    """Yield the KV cache that the card surely has room for, where one is given that may be too large."""
    if now.asked is None or now.room is None or not 0 < now.room.low < now.asked:
        return
    if task.flags.num_gpu_blocks_override is not None:
        yield {"num_gpu_blocks_override": int(now.room.low // now.layout.bytes_per_block)}
    else:
        yield {"kv_cache_memory_bytes": int(now.room.low) >> 20 << 20}


def _raised(task: Task, changes: _Changes, now: Plan) -> float:
    """Return the best utilisation where that is one to change to; else 0."""
    if task.flags.kv_cache_memory_bytes is not None and now.outcome != "not-free":
        return 0.0  # the cache is of the size that is given, whatever the utilisation
    best = best_utilization(_changed(task, changes))
    return best if now.outcome == "not-free" or best > now.utilization else 0.0


def _first(task: Task, now: Plan, candidates: list[_Changes]) -> Advice | None:
    """Return the first that surely starts, with no more utilisation than it needs; else one that may."""
    hoped: Advice | None = None
    for changes in candidates:
        one = _tried(task, changes)
        if one is not None and one.sure:
            fewer = _pruned(task, changes, now)
            return _least_utilization(task, now, fewer, _tried(task, fewer) or one)
        hoped = hoped or one
    return hoped


def _pruned(task: Task, changes: _Changes, now: Plan) -> _Changes:
    """Return the changes without those that are not needed, and with as many sequences as can be."""
    for name in sorted(changes, key=lambda name: -_COSTS.get(name, 0)) if len(changes) > 2 else ():
        fewer = {key: value for key, value in changes.items() if key != name}
        if name == "gpu_memory_utilization" and now.outcome == "not-free":
            continue
        if _sure(task, fewer):
            changes = fewer
    return _more_sequences(task, changes)


def _more_sequences(task: Task, changes: _Changes) -> _Changes:
    """Return the changes with as many sequences as they leave room for."""
    if len(changes) > 1 and "max_num_seqs" in changes:
        batch = batch_of(task.flags, task.card.total, task.card.name)
        for sequences in _FEWER_SEQUENCES:
            if sequences < batch.sequences and _sure(task, {**changes, "max_num_seqs": sequences}):
                return {**changes, "max_num_seqs": sequences}
    return changes


def _sure(task: Task, changes: _Changes) -> bool:
    one = _tried(task, changes)
    return one is not None and one.sure


def _least_utilization(task: Task, now: Plan, changes: _Changes, highest: Advice) -> Advice:
    """Return the same change with a round utilisation, the lowest that surely starts; else in hundredths.

    Where less is free than was asked for, it is the highest that is round: no more is given up than need be.
    """
    best = changes.get("gpu_memory_utilization")
    if not isinstance(best, float):
        return highest
    last = round(best * 100)
    if now.outcome == "not-free":
        shares = [last // 5 * 5 or last]
    else:
        first = math.floor(now.utilization * 100 + 1e-6) + 1
        shares = [share for share in range(first, last) if share % 5 == 0] + [*range(first, last)]
    for share in shares:
        one = _tried(task, {**changes, "gpu_memory_utilization": share / 100})
        if one is not None and one.sure:
            return one
    return highest


def _shorter(task: Task, machine: Machine, now: Plan) -> Advice | None:
    """Return the largest --max-model-len: as it is, else with more utilisation or a narrower KV cache."""
    found: list[_Changes] = []
    dtypes: list[_Changes] = [{"kv_cache_dtype": dtype} for dtype in _narrower(task, machine)]
    bases = [{}, *dtypes, _utmost(task, machine)]
    if now.outcome == "weights-do-not-fit":
        bases = [{**base, **ranks} for base in bases for ranks in _spread(task)]
    for base in bases:
        best = _raised(task, base, now)
        raised: list[_Changes] = [{**base, "gpu_memory_utilization": best}] if best else []
        for changes in (*([base] if now.outcome != "not-free" else []), *raised):
            if length := _longest(task, changes):
                found.append({**changes, "max_model_len": length})
    hoped: Advice | None = None
    for changes in found:
        one = _tried(task, changes)
        if one is not None and one.sure:
            needed = _needed(task, changes, now)
            whole = {name: value for name, value in needed.items() if name != "max_model_len"}
            return None if whole and _sure(task, whole) else _tried(task, needed) or one
        hoped = hoped or one
    return hoped


def _needed(task: Task, changes: _Changes, now: Plan) -> _Changes:
    """Return a shorter length with the changes beside it that it cannot do without."""
    for name in sorted(changes, key=lambda name: -_COSTS.get(name, 0)):
        if name == "max_model_len" or (name == "gpu_memory_utilization" and now.outcome == "not-free"):
            continue
        fewer = {key: value for key, value in changes.items() if key != name}
        if _sure(task, fewer):
            changes = fewer
    return _more_sequences(task, changes)


def _longest(task: Task, changes: _Changes) -> int:
    """Return the longest useful length that surely starts with these changes, else one that may; 0: none."""
    try:
        again = planned(task, **changes)
    except ValueError:
        return 0
    sure, hoped = again.longest
    length = _round(sure or hoped)
    return length if min(_USEFUL, again.max_model_len - 1) <= length < again.max_model_len else 0


def _round(length: int) -> int:
    """Return a length as one would write it: in whole blocks, long ones in steps of 256 to 1024."""
    step = 1024 if length >= 32768 else 512 if length >= 4096 else 256 if length >= 1024 else 16
    return length // step * step or length


def _tried(task: Task, changes: _Changes) -> Advice | None:
    """Return the change with its plan, if it starts with it."""
    try:
        again = planned(task, **changes)
    except ValueError:
        return None
    return Advice(tuple(sorted(changes.items())), again) if again.may_fit else None


def _changed(task: Task, changes: _Changes) -> Task:
    return structs.replace(task, flags=structs.replace(task.flags, **changes)) if changes else task


def best_utilization(task: Task) -> float:
    """Return the highest share of the card worth asking for, in hundredths.

    No more than is free, and with room for what is not counted: the context, and until 0.19 CUDA graphs.
    """
    card = task.card
    beside = 0.0 if card.unified else _CONTEXT + graphs_beside(task.shape, task.flags)
    free = card.total if card.free is None else card.free
    share = (min(card.total, free) - beside) / card.total
    return max(0.0, min(MOST_UTILIZATION, math.floor(share * 100) / 100))


# --- single changes -----------------------------------------------------------------------------------------


def _steps(task: Task, machine: Machine, now: Plan) -> Iterator[_Changes]:
    """Yield changes worth a try by themselves, but of the length."""
    flags = task.flags
    batch = batch_of(flags, task.card.total, task.card.name)
    for sequences in _FEWER_SEQUENCES:
        if sequences < batch.sequences:
            yield {"max_num_seqs": sequences}
    yield from _leaner(flags, batch)
    for dtype in _narrower(task, machine):
        yield {"kv_cache_dtype": dtype}
    yield from _elsewhere(task, machine, now)


def _elsewhere(task: Task, machine: Machine, now: Plan) -> Iterator[_Changes]:
    """Yield what takes weights off this card: on several, or into the host's memory."""
    yield from _spread(task)
    if machine.offload and not task.flags.cpu_offload_gb and not task.card.unified:
        yield from _offloads(task, machine, now)


def _spread(task: Task) -> list[_Changes]:
    """Return the larger tensor parallel sizes that are to be had here, the smallest first."""
    return [{"tensor_parallel_size": ranks} for ranks in _tensor_sizes(task, task.card.count)]


def _narrower(task: Task, machine: Machine) -> Iterator[str]:
    """Yield the KV cache dtypes that take less than the one asked for."""
    width = kv_bytes(task.shape, task.flags)
    for dtype in machine.kv_dtypes:
        if kv_bytes(task.shape, structs.replace(task.flags, kv_cache_dtype=dtype)) < width:
            yield dtype


def _utmost(task: Task, machine: Machine) -> _Changes:
    """Return every change at once that leaves the length and the weights where they are."""
    batch = batch_of(task.flags, task.card.total, task.card.name)
    changes: _Changes = {"max_num_seqs": 1} if batch.sequences > 1 else {}
    for dtype in list(_narrower(task, machine))[:1]:
        changes["kv_cache_dtype"] = dtype
    if batch.tokens.high > 2048:
        changes["max_num_batched_tokens"] = 2048
    if counts_graphs(task.flags):
        changes["enforce_eager"] = True
    return changes


def _tensor_sizes(task: Task, count: int) -> Iterator[int]:
    """Yield the larger tensor parallel sizes that so many cards and the parts of this model allow."""
    most = min(count, 64) // (task.flags.pipeline_parallel_size * task.replicas)
    for ranks in range(task.flags.tensor_parallel_size + 1, most + 1):
        if divides(task.shape, ranks, task.group):
            yield ranks


def _offloads(task: Task, machine: Machine, now: Plan) -> Iterator[_Changes]:
    """Yield the GiB of weights to keep in host memory: what is missing at the bad end, if there is room.

    Each rank keeps as much there.
    """
    missing = math.ceil((now.needed - now.available.low) / GIB)
    room = math.inf if machine.host_free is None else machine.host_free
    if 0 < missing * GIB <= min(room / task.ranks, now.weights.high):
        yield {"cpu_offload_gb": missing}


# --- more room ----------------------------------------------------------------------------------------------


def _more_room(task: Task, machine: Machine, base: Advice) -> Iterator[Advice]:
    """Yield at most two changes more that clearly hold more tokens than what would fit."""
    given, found = dict(base.changes), 0
    for extra in _extras(task, machine, base):
        changes = {**given, **extra}
        if "max_model_len" in given:
            changes.pop("max_model_len")
            length = _longest(task, changes)
            if length:
                changes["max_model_len"] = length
        one = _tried(task, changes)
        if one is None or not one.sure or one.plan.at_least.tokens < _CLEARLY * base.plan.at_least.tokens:
            continue
        yield structs.replace(one, kind="more room")
        found += 1
        if found == 2:
            return


def _extras(task: Task, machine: Machine, base: Advice) -> Iterator[_Changes]:
    """Yield changes that give room beside those made: what doubles the tokens first."""
    given = dict(base.changes)
    flags = structs.replace(task.flags, **given)
    if "kv_cache_dtype" not in given:
        for dtype in _narrower(task, machine):
            yield {"kv_cache_dtype": dtype}
    batch = batch_of(flags, task.card.total, task.card.name)
    # As many as the cache will hold of requests a quarter as long.
    wanted = 16
    while wanted < 4 * (base.plan.at_most.concurrency or 0):
        wanted *= 2
    if wanted * 2 <= batch.sequences:
        yield {"max_num_seqs": wanted}
    best = best_utilization(_changed(task, given))
    if best > base.plan.utilization and flags.kv_cache_memory_bytes is None:
        yield {"gpu_memory_utilization": best}
    yield from _leaner(flags, batch)


def _leaner(flags: Flags, batch: Batch) -> Iterator[_Changes]:
    """Yield what takes less beside the KV cache, and leaves its length and dtype."""
    if batch.tokens.high > 2048:
        yield {"max_num_batched_tokens": 2048}
    if flags.max_loras > 1:
        yield {"max_loras": 1}
    if counts_graphs(flags):
        yield {"enforce_eager": True}


def held_at(one: Plan, length: int) -> tuple[float, float]:
    """Return how many requests of another length the KV cache of a plan holds at once, at both ends."""
    each = blocks_per_request(one.layout, length)
    return one.at_least.num_blocks / each, one.at_most.num_blocks / each


# --- what would do ------------------------------------------------------------------------------------------


def smallest_card(task: Task, machine: Machine) -> float | None:
    """Return the bytes of the smallest card that may start it at the length asked for; None: none does."""
    utmost = _utmost(task, machine)

    def starts(gib: int) -> bool:
        card = Card(gib * GIB, task.card.name, unified=task.card.unified)
        other = structs.replace(task, card=card)
        return planned(other, **utmost, gpu_memory_utilization=MOST_UTILIZATION).may_fit

    try:
        return _least(starts)
    except ValueError:
        return None


def _least(starts: Callable[[int], bool]) -> float | None:
    low, high = 1, _LARGEST_CARD
    if not starts(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if starts(middle) else (middle + 1, high)
    return low * GIB


def starts_on(task: Task, card: Card) -> bool:
    """Return whether it surely starts on another card, with its utilisation alone changed."""
    other = structs.replace(task, card=card)
    one = _tried(other, {"gpu_memory_utilization": best_utilization(other)})
    return one is not None and one.sure


def cards_needed(task: Task, most: int = 8) -> int:
    """Return how many of this card surely start it by tensor parallelism; 0 where up to `most` do not."""
    for ranks in _tensor_sizes(task, most):
        wider = _changed(task, {"tensor_parallel_size": ranks})
        if starts_on(wider, structs.replace(task.card, free=None, count=ranks)):
            return ranks * task.flags.pipeline_parallel_size * task.replicas
    return 0


# --- profiles -----------------------------------------------------------------------------------------------


def longest_context(task: Task, machine: Machine) -> tuple[Advice, ...]:
    """Return the flags for one user with the longest context that surely fits: as asked, and narrower.

    The second, in a KV cache of fewer bits, only where it is longer. None of them where nothing fits.
    """
    most = task.shape.positions or task.flags.max_model_len
    found: list[Advice] = []
    for dtype in (None, *_narrower(task, machine)):
        changes: _Changes = {"max_num_seqs": 1, "max_model_len": most}
        if dtype:
            changes["kv_cache_dtype"] = dtype
        try:
            sure = planned(task, **changes).longest[0]
        except ValueError:
            continue
        length = sure if sure == most else _round(sure)
        one = _tried(task, {**changes, "max_model_len": length}) if length else None
        if one is not None and one.sure and all(length > other.plan.max_model_len for other in found):
            found.append(one)
    return tuple(found)


def most_users(task: Task, machine: Machine, context: int) -> tuple[Advice, ...]:
    """Return the flags for the most users at once with `context` tokens each, as asked and narrower."""
    found: list[Advice] = []
    for dtype in (None, *_narrower(task, machine)):
        changes: _Changes = {"max_model_len": context}
        if dtype:
            changes["kv_cache_dtype"] = dtype
        one = _crowded(task, changes)
        if one is not None and all(_users(one) > _users(other) for other in found):
            found.append(one)
    return tuple(found)


def _users(one: Advice) -> int:
    return one.plan.layout.flags.max_num_seqs or 0


def _crowded(task: Task, changes: _Changes) -> Advice | None:
    """Return the largest max_num_seqs that the KV cache then holds: more sequences leave less of it."""
    low, high = 0, 1024
    best: Advice | None = None
    while low < high:
        middle = (low + high + 1) // 2
        advice = _tried(task, {**changes, "max_num_seqs": middle})
        held = advice.plan.at_least.concurrency if advice is not None and advice.sure else None
        if held is not None and held >= middle:
            low, best = middle, advice
        else:
            high = middle - 1
    return best
