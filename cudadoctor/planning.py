"""What the checks of a launch share: its plan, what would start instead, and how both are told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.declare import CannotTell
from cudadoctor.facts import Card, Environ, Facts, Launch, Machine, Model, Packages, Unknown
from cudadoctor.findings import Evidence, Remedy
from cudadoctor.latest import latest
from cudadoctor.planned import MemoryPlan, Profile, Share, Span
from cudadoctor.tasks import GIB, in_gib, loaded_whole, plan_of, rules_of, task_of, version_of

if TYPE_CHECKING:  # the planner is imported by what plans: every run loads the checks that ask it
    from cudadoctor.simulate.advice import Advice, Advised, Task
    from cudadoctor.simulate.advice import Machine as Means
    from cudadoctor.simulate.model_shape import Shape
    from cudadoctor.simulate.weights import Range


@latest
def advice_of(
    task: Task, launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine,
    environ: Environ | None = None,
) -> Advised:  # fmt: skip
    """Return what would start instead; nothing where what that would take is not modelled."""
    from cudadoctor.simulate.advice import Advised, advise

    if task.shape.dtype_bytes > 2 or loaded_whole(task, model):
        return Advised(())
    return advise(task, _means(task, launch, model, card, packages, machine, environ))


def _means(
    task: Task, launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine,
    environ: Environ | None,
) -> Means:  # fmt: skip
    """Return what may be changed to; the memory of another machine's host is not known."""
    from cudadoctor.simulate.advice import Machine as Means

    here = not card.source.startswith("--gpu")
    free = float(machine.memory_available_bytes) if here else None
    # Several kinds of layers refuse cpu_offload_gb in some releases: it is advised for none of them.
    mixed = task.shape.recurrent or (task.shape.sliding and task.shape.full)
    dtypes = kv_dtypes(task.shape, launch, model, card, packages, environ)
    return Means(dtypes, free, not mixed)


def kv_dtypes(
    shape: Shape, launch: Launch, model: Model, card: Card, packages: Packages, environ: Environ | None = None
) -> tuple[str, ...]:
    """Return the KV cache dtypes beside "auto" that surely have a backend: this GPU, model and vLLM."""
    from cudadoctor.attention import asked_of
    from cudadoctor.knowledge.attention import kv_dtypes as known

    try:
        return known(asked_of(launch, model, shape, card, packages, version_of(launch, packages), environ))
    except CannotTell:
        return ()


def described(
    launch: Launch, model: Model, card: Card, packages: Packages, environ: Environ | None = None
) -> MemoryPlan:
    """Return the plan as the report has it, without profiles; raise Skip and CannotTell as `task_of` does."""
    plan = plan_of(task_of(launch, model, card, packages, environ))
    vllm, assumed = rules_of(launch, packages)
    low, high = plan.at_least, plan.at_most
    return MemoryPlan(
        vllm, assumed, called(card), card.count, card.source, card.total_bytes or 0,
        plan.utilization,
        round(plan.budget),
        _span(plan.weights),
        tuple(Share(part.name, _span(part.bytes), part.reason) for part in plan.overhead),
        _span(plan.available),
        plan.needed,
        plan.max_model_len,
        Span(low.tokens, high.tokens),
        Span(round(low.concurrency or 0, 2), round(high.concurrency or 0, 2)),
        Span(*plan.longest),
        plan.outcome,
    )  # fmt: skip


def memory_plan(facts: Facts) -> MemoryPlan | None:
    """Return the plan with its profiles; None where nothing is started, or it is not known enough.

    It never raises: numbers that break the planner are told by the checks, which break as well.
    """
    launch, model, card, packages, machine = (
        facts.launch, facts.model, facts.card, facts.packages, facts.machine
    )  # fmt: skip
    if isinstance(launch, Unknown) or isinstance(model, Unknown) or isinstance(card, Unknown):
        return None
    if isinstance(packages, Unknown):
        return None
    environ = None if isinstance(facts.environ, Unknown) else facts.environ
    try:
        plan = described(launch, model, card, packages, environ)
        if plan.outcome != "fits" or isinstance(machine, Unknown):
            return plan
        task = task_of(launch, model, card, packages, environ)
        means = _means(task, launch, model, card, packages, machine, environ)
        return structs.replace(plan, profiles=tuple(_profiles(task, means, launch, plan)))
    except Exception:  # Skip and CannotTell too
        return None


def _span(amount: Range) -> Span:
    return Span(round(amount.low), round(amount.high))


def called(card: Card) -> str:
    """Return a card's name as people write it: "RTX 3090"; "a card" where it has none."""
    if " " in card.name or not card.name:
        return card.name or "a card"
    return card.name.replace("-", " ").upper().replace("LAPTOP", "Laptop").replace(" TI", " Ti")


# --- how it is told -----------------------------------------------------------------------------------------


def share(utilization: float) -> str:
    """Return a utilisation as it is written: "0.90"; with more digits where it has more."""
    rounded = f"{utilization:.2f}"
    return rounded if abs(float(rounded) - utilization) < 1e-9 else f"{utilization:g}"


def evidence_of(plan: MemoryPlan) -> tuple[Evidence, ...]:
    """Return what the plan rests on: the budget, the weights, and why the overhead is what it is."""
    budget = f"{in_gib(plan.total_bytes)} x {share(plan.utilization)} = {in_gib(plan.budget_bytes)}"
    rows = [Evidence(plan.card_from, f"{plan.card}: {budget}"), Evidence("weights", _between(plan.weights))]
    rows += [Evidence(part.name, f"{_between(part.bytes)}: {part.reason}") for part in plan.overhead]
    if plan.assumed:
        rows.append(Evidence(f"planned as vLLM {plan.vllm}", plan.assumed))
    return tuple(rows)


def _between(amount: Span) -> str:
    low, high = in_gib(amount.low), in_gib(amount.high)
    return low if low == high else f"{low.removesuffix(' GiB')} to {high}"


def times(low: float, high: float) -> str:
    """Return how many requests: "about 1.2" where both ends are much the same, else "1.0 to 1.9"."""
    if high <= 1.25 * low:
        return f"about {_count((low + high) / 2)}"
    return f"{_count(low)} to {_count(high)}"


def _count(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.1f}"


def remedies_of(advised: Advised, task: Task, launch: Launch, card: Card) -> tuple[Remedy, ...]:
    """Return each way to start it as options to give, with what it comes to; else the cards that would do.

    Each has `values`: the label that it is shown with ("would fit", "may fit", "more room", "would do"),
    the options, and what they hold.
    """
    advice = advised.advice
    if not advice and advised.needs is not None:
        cards = " or ".join(_cards(task))
        return (Remedy("show", {"label": "would do"}, cards),) if cards else ()
    told = []
    for one in advice:
        options = spelled(dict(one.changes), launch)
        holds = _holds(one)
        # On 8.x FlashInfer alone takes an FP8 KV cache (knowledge/attention.py).
        if card.capability.startswith("8.") and "fp8" in options:
            holds += "; FlashInfer compiles for it at the first start"
        values = {"label": one.kind, "options": options, "holds": holds}
        told.append(Remedy("show", values, f"{options}   # {values['holds']}"))
    return tuple(told)


def freer(task: Task, launch: Launch, card: Card) -> Remedy | None:
    """Return the GPUs of the same kind that have what the launch asks for, where it would start on them."""
    if launch.contained or card.index is None:
        return None
    wanted = task.card.total * plan_of(task).utilization
    enough = [gpu for gpu in card.alike if gpu.free_bytes >= wanted][: task.ranks]
    if len(enough) < task.ranks:
        return None
    free = float(min(gpu.free_bytes for gpu in enough))
    plan = plan_of(structs.replace(task, card=structs.replace(task.card, free=free)))
    if not plan.may_fit:
        return None
    options = (
        f"CUDA_DEVICE_ORDER=PCI_BUS_ID CUDA_VISIBLE_DEVICES={','.join(str(gpu.index) for gpu in enough)}"
    )
    holds = f"{in_gib(free)} free"
    label = "would fit" if plan.fits else "may fit"
    return Remedy("show", {"label": label, "options": options, "holds": holds}, f"{options}   # {holds}")


def nowhere(advised: Advised) -> str:
    """Return the part of a sentence that says that no setting helps on this card; "" where one may."""
    needs = advised.needs
    return "" if advised.advice or needs is None else f" at any setting: it needs {needs / GIB:.0f} GiB"


def _holds(one: Advice) -> str:
    """Return how many requests, of the length asked for and, where that is telling, of half of it."""
    plan = one.plan
    low, high = plan.at_least.concurrency or 0, plan.at_most.concurrency or 0
    told = f"{plan.max_model_len} tokens, {times(low, high)}"
    if offload := dict(one.changes).get("cpu_offload_gb"):
        flags = plan.layout.flags
        ranks = flags.tensor_parallel_size * flags.pipeline_parallel_size
        told = (
            f"with {_value(offload)} GiB of the host's memory{' for each GPU' if ranks > 1 else ''}: {told}"
        )
    if one.kind != "more room":
        return f"{told} requests at once"
    from cudadoctor.simulate.advice import held_at

    shorter = _shorter(plan.max_model_len)
    if low < 4 and shorter and "max_model_len" not in dict(one.changes):
        return f"{told}; {shorter} tokens, {times(*held_at(plan, shorter))}"
    return told


def _shorter(length: int) -> int:
    """Return the largest power of two that is at most half of a length; 0 where that is of no use."""
    half: int = 1 << max(0, (length // 2).bit_length() - 1)
    return half if half >= 1024 else 0


def spelled(changes: Mapping[str, object], launch: Launch) -> str:
    """Return flags as the launch spells them: options of a command, or arguments of the class LLM."""
    in_python = launch.kind == "vllm-llm"
    parts = [_argument(*each) if in_python else _option(*each) for each in changes.items()]
    return (", " if in_python else " ").join(parts)


def _option(name: str, value: object) -> str:
    option = f"--{name.replace('_', '-')}"
    return option if value is True else f"{option} {_value(value)}"


def _argument(name: str, value: object) -> str:
    return f"{name}={value!r}" if isinstance(value, (bool, str)) else f"{name}={_value(value)}"


def _value(value: object) -> str:
    return share(value) if isinstance(value, float) else str(value)


# --- other cards --------------------------------------------------------------------------------------------


def _cards(task: Task) -> Iterator[str]:
    """Yield the smallest card that surely starts the task, and how many of this one do."""
    from cudadoctor.knowledge import gpus
    from cudadoctor.simulate.advice import cards_needed, starts_on
    from cudadoctor.simulate.gpu_memory import Card as PlannedCard

    larger = [gpu for gpu in gpus.GPUS if gpu.total_gib * GIB > task.card.total and not gpu.unified]
    for gpu in sorted(larger, key=lambda gpu: gpu.total_gib):
        # Below 8.0 there is no bfloat16, and few of the kernels for quantised weights.
        if gpu.capability[:1] in "89" or len(gpu.capability) > 3:
            card = PlannedCard(gpu.total_gib * GIB, gpu.name)
            if starts_on(task, card):
                known = Card(gpu.name, None)
                yield f"one {called(known)} ({gpu.total_gib:.1f} GiB)"
                break
    if "laptop" not in task.card.name.lower() and not task.card.unified and (count := cards_needed(task)):
        ranks = count // (task.flags.pipeline_parallel_size * task.replicas)
        yield f"{count} x {called(Card(task.card.name, None))} (--tensor-parallel-size {ranks})"


# --- profiles -----------------------------------------------------------------------------------------------


def _profiles(task: Task, means: Means, launch: Launch, plan: MemoryPlan) -> Iterator[Profile]:
    """Yield the longest context for one user, and the most users at the length that was asked for."""
    from cudadoctor.simulate.advice import longest_context, most_users

    alone = longest_context(task, means)
    if alone:
        lengths = [f"{one.plan.max_model_len} tokens" for one in alone]
        if alone[0].plan.max_model_len == task.shape.positions:
            lengths[0] += ", all that the model is made for"
        yield _profile("one user", alone, lengths, launch, ())
    many = most_users(task, means, plan.max_model_len)
    if many:
        counts = [f"{dict(one.changes)['max_num_seqs']}" for one in many]
        counts[0] += f" x {plan.max_model_len} tokens at once"
        yield _profile("many", many, counts, launch, ("max_model_len",))


def _profile(
    name: str, found: tuple[Advice, ...], told: list[str], launch: Launch, as_asked: tuple[str, ...]
) -> Profile:
    first, *others = ({key: value for key, value in one.changes if key not in as_asked} for one in found)
    holds = told[0]
    for other, says in zip(others, told[1:], strict=True):
        narrower = spelled({"kv_cache_dtype": other["kv_cache_dtype"]}, launch)
        holds += f"; {says} with {narrower}"
    return Profile(name, spelled(first, launch), holds)
