"""What the checks of a launch share: the task for the memory planner, and how its answer is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Card, Facts, Launch, Machine, Model, Packages, Unknown
from cudadoctor.findings import Evidence, Remedy
from cudadoctor.latest import latest
from cudadoctor.planned import MemoryPlan, Profile, Share, Span

if TYPE_CHECKING:  # the planner is imported by what plans: every run loads the checks that ask it
    from cudadoctor.simulate.advice import Advice, Advised, Task
    from cudadoctor.simulate.advice import Machine as Means
    from cudadoctor.simulate.gpu_memory import Plan
    from cudadoctor.simulate.kv_cache import Flags
    from cudadoctor.simulate.model_shape import Shape
    from cudadoctor.simulate.weights import Range

GIB = 1 << 30
#: What is planned for where no vLLM is installed here and no image names one: the newest that was read.
NEWEST = "0.33.0"
#: Ways of speculation that load no model of their own.
_WITHOUT_DRAFTER = ("ngram", "suffix")


@latest
def task_of(launch: Launch, model: Model, card: Card, packages: Packages) -> Task:
    """Return the task; raise Skip for what is no launch of vLLM, CannotTell where it is not known enough."""
    from cudadoctor.simulate.advice import Task
    from cudadoctor.simulate.gpu_memory import Card as PlannedCard

    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    shape = shape_of(model)
    if card.total_bytes is None:
        raise CannotTell(f"how much memory {card.name or 'the card'} has is not known (see --gpu-memory)")
    flags = _flags(launch, model, card, packages)
    # What is quantised while it is loaded has other sizes than the files.
    as_stored = model.weights is not None and not (flags.quantization and model.quantization is None)
    weights = model.weights.tensor_bytes if model.weights is not None and as_stored else None
    seen = PlannedCard(float(card.total_bytes), card.name, _float(card.free_bytes), card.unified, card.count)
    task = Task(shape, flags, seen, _float(weights))
    return _automatic(task) if _asks_for_automatic(launch) else task


def shape_of(model: Model) -> Shape:
    """Return what the planner takes of config.json; raise CannotTell where there is none it can read."""
    from cudadoctor.simulate.model_shape import UnreadableShape, read_shape

    if model.config is None:
        raise CannotTell(without_config(model))
    try:
        return read_shape(model.config)
    except UnreadableShape as error:
        raise CannotTell(f"{model.config_path}: {error}") from None


def without_config(model: Model) -> str:
    """Return why there is no config.json to plan with, and what would bring one."""
    reason = model.reason or "the model's config.json is not here"
    if model.online is not None:
        return f"{reason}; the hub: {model.online.message or model.online.ended}"
    # The same that `--online` asks for: a name that the hub could have, in no cache that is seen.
    absent = model.state == "absent" and bool(model.cache)
    hidden = model.state == "elsewhere" and reason.startswith("the cache is in the container")
    return f"{reason}; --online asks the hub for it" if (absent or hidden) and not model.offline else reason


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


# --- flags --------------------------------------------------------------------------------------------------


def rules_of(launch: Launch, packages: Packages) -> tuple[str, str]:
    """Return the vLLM that is planned for, and why that one where it is neither installed nor the image's."""
    from cudadoctor.knowledge import images

    installed = packages.find("vllm")
    if launch.contained:
        image = launch.image or (launch.container.image if launch.container else "")
        if version := images.vllm_version(image):
            return version, ""
        return NEWEST, f"which vLLM is in {image or 'the container'} is not known, and this is the newest"
    if installed is not None and installed.version:
        return installed.version, ""
    return NEWEST, "no vLLM is installed here, and this is the newest"


def version_of(launch: Launch, packages: Packages) -> str:
    """Return the vLLM that is planned for: the image's own, the installed one, or the newest known."""
    return rules_of(launch, packages)[0]


def _flags(launch: Launch, model: Model, card: Card, packages: Packages) -> Flags:
    from cudadoctor.simulate.kv_cache import Flags

    _no_drafter(launch)
    tensor, pipeline = (_whole(launch, f"--{kind}-parallel-size") or 1 for kind in ("tensor", "pipeline"))
    return Flags(
        version_of(launch, packages),
        max_model_len=None if _asks_for_automatic(launch) else _whole(launch, "--max-model-len"),
        max_num_seqs=_whole(launch, "--max-num-seqs"),
        max_num_batched_tokens=_whole(launch, "--max-num-batched-tokens"),
        gpu_memory_utilization=_number(launch, "--gpu-memory-utilization"),
        kv_cache_dtype=_known(launch, "--kv-cache-dtype") or "auto",
        kv_cache_memory_bytes=_whole(launch, "--kv-cache-memory-bytes"),
        num_gpu_blocks_override=_whole(launch, "--num-gpu-blocks-override"),
        block_size=_whole(launch, "--block-size"),
        tensor_parallel_size=tensor,
        pipeline_parallel_size=pipeline,
        decode_context_parallel_size=_whole(launch, "--decode-context-parallel-size") or 1,
        enable_prefix_caching=launch.flag("--enable-prefix-caching"),
        enforce_eager=launch.flag("--enforce-eager") or False,
        disable_hybrid_kv_cache_manager=launch.flag("--disable-hybrid-kv-cache-manager") or False,
        mamba_ssm_cache_dtype=_known(launch, "--mamba-ssm-cache-dtype") or "auto",
        quantization=_quantization(launch, model, card),
        cpu_offload_gb=_number(launch, "--cpu-offload-gb") or 0,
        max_loras=(_whole(launch, "--max-loras") or 1) if launch.flag("--enable-lora") else 0,
        max_lora_rank=_whole(launch, "--max-lora-rank") or 16,
        fully_sharded_loras=launch.flag("--fully-sharded-loras") or False,
        usage="llm" if launch.kind == "vllm-llm" else "server",
        counts_graphs=_counts_graphs(launch),
    )


def _quantization(launch: Launch, model: Model, card: Card) -> str:
    """Return the weights' format as vLLM will call it, with the kernel that it takes."""
    from cudadoctor.simulate.quantization import loading

    stated, asked = model.quantization, _known(launch, "--quantization") or ""
    if model.methods is None:
        return stated.method if stated else asked
    capability = card.capability.replace(".", "")
    number = int(capability) if capability.isdecimal() else None
    return loading(stated, asked, model.methods, model.quantization_files, number).method


def _no_drafter(launch: Launch) -> None:
    """Raise CannotTell where a model is loaded beside this one, to speculate."""
    given = launch.options.get("--speculative-config")
    told = " ".join(given.values) if given is not None else ""
    if given is not None and told != "None" and not any(f'"{each}"' in told for each in _WITHOUT_DRAFTER):
        raise CannotTell("the memory of a drafter (--speculative-config) is not modelled")


def _counts_graphs(launch: Launch) -> bool | None:
    variable = launch.variables.get("VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    return None if variable is None or variable.value not in ("0", "1") else variable.value == "1"


def _known(launch: Launch, name: str) -> str | None:
    """Return an option's value, None where it is not given; raise CannotTell where only the run tells it."""
    given = launch.options.get(name)
    if given is None:
        return None
    if not given.values:
        raise CannotTell(
            f"{given.spelled} is not known before the launch{given.reason and ': ' + given.reason}"
        )
    return None if given.values[-1] == "None" else given.values[-1]


def _whole(launch: Launch, name: str) -> int | None:
    text = _known(launch, name)
    value = launch.integer(name)
    if text is not None and value is None:
        raise CannotTell(f"{name} {text[:40]} is no whole number")
    return value


def _number(launch: Launch, name: str) -> float | None:
    text = _known(launch, name)
    value = launch.number(name)
    if text is not None and value is None:
        raise CannotTell(f"{name} {text[:40]} is no number")
    return value


def _asks_for_automatic(launch: Launch) -> bool:
    """Return whether vLLM is to find the longest length by itself."""
    return (launch.text("--max-model-len") or "").lower() in ("auto", "-1")


def _automatic(task: Task) -> Task:
    """Return the task with the length that vLLM will find: what surely fits, else what may."""
    sure, hoped = plan_of(task).longest
    length = sure or hoped
    return structs.replace(task, flags=structs.replace(task.flags, max_model_len=length)) if length else task


# --- plans --------------------------------------------------------------------------------------------------


@latest
def plan_of(task: Task) -> Plan:
    """Return the plan; raise CannotTell where the numbers are impossible or not enough."""
    from cudadoctor.simulate.advice import planned
    from cudadoctor.simulate.kv_cache import Unplannable
    from cudadoctor.simulate.weights import UnknownWeights

    try:
        return planned(task)
    except (Unplannable, UnknownWeights) as error:
        raise CannotTell(str(error)) from None


@latest
def advice_of(
    task: Task, launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine
) -> Advised:
    """Return what would start instead."""
    from cudadoctor.simulate.advice import advise

    return advise(task, _means(task, launch, model, card, packages, machine))


def _means(
    task: Task, launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine
) -> Means:
    """Return what may be changed to; the memory of another machine's host is not known."""
    from cudadoctor.simulate.advice import Machine as Means

    here = not card.source.startswith("--gpu")
    free = float(machine.memory_available_bytes) if here else None
    # Models with a state refuse cpu_offload_gb in some releases: it is advised for none of them.
    return Means(kv_dtypes(task.shape, launch, model, card, packages), free, not task.shape.recurrent)


def kv_dtypes(shape: Shape, launch: Launch, model: Model, card: Card, packages: Packages) -> tuple[str, ...]:
    """Return the KV cache dtypes beside "auto" that surely have a backend: this GPU, model and vLLM."""
    from cudadoctor.attention import asked_of
    from cudadoctor.knowledge.attention import kv_dtypes as known

    try:
        return known(asked_of(launch, model, shape, card, packages, version_of(launch, packages)))
    except CannotTell:
        return ()


def described(launch: Launch, model: Model, card: Card, packages: Packages) -> MemoryPlan:
    """Return the plan as the report has it, without profiles; raise Skip and CannotTell as `task_of` does."""
    plan = plan_of(task_of(launch, model, card, packages))
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
    """Return the plan with its profiles; None where nothing is started, or it is not known enough."""
    launch, model, card, packages, machine = (
        facts.launch, facts.model, facts.card, facts.packages, facts.machine
    )  # fmt: skip
    if isinstance(launch, Unknown) or isinstance(model, Unknown) or isinstance(card, Unknown):
        return None
    if isinstance(packages, Unknown):
        return None
    try:
        plan = described(launch, model, card, packages)
        if plan.outcome != "fits" or isinstance(machine, Unknown):
            return plan
        task = task_of(launch, model, card, packages)
        means = _means(task, launch, model, card, packages, machine)
        return structs.replace(plan, profiles=tuple(_profiles(task, means, launch, plan)))
    except (Skip, CannotTell):
        return None


def _span(amount: Range) -> Span:
    return Span(round(amount.low), round(amount.high))


def called(card: Card) -> str:
    """Return a card's name as people write it: "RTX 3090"; "a card" where it has none."""
    if " " in card.name or not card.name:
        return card.name or "a card"
    return card.name.replace("-", " ").upper().replace("LAPTOP", "Laptop").replace(" TI", " Ti")


# --- how it is told -----------------------------------------------------------------------------------------


def in_gib(count_bytes: float) -> str:
    """Return "18.1 GiB"."""
    return f"{count_bytes / GIB:.1f} GiB"


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


def remedies_of(advised: Advised, task: Task, launch: Launch) -> tuple[Remedy, ...]:
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
        values = {"label": one.kind, "options": options, "holds": _holds(one)}
        told.append(Remedy("show", values, f"{options}   # {values['holds']}"))
    return tuple(told)


def nowhere(advised: Advised) -> str:
    """Return the part of a sentence that says that no setting helps on this card; "" where one may."""
    needs = advised.needs
    return "" if advised.advice or needs is None else f" at any setting: it needs {needs / GIB:.0f} GiB"


def _holds(one: Advice) -> str:
    """Return how many requests, of the length asked for and, where that is telling, of half of it."""
    plan = one.plan
    low, high = plan.at_least.concurrency or 0, plan.at_most.concurrency or 0
    told = f"{plan.max_model_len} tokens, {times(low, high)}"
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
        yield f"{count} x {called(Card(task.card.name, None))} (--tensor-parallel-size {count})"


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
