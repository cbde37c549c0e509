"""What the checks of a launch share: the task for the memory planner, and how its answer is told."""

from __future__ import annotations

from msgspec import structs

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Card, Launch, Machine, Model, Packages
from cudadoctor.findings import Evidence, Remedy
from cudadoctor.latest import latest
from cudadoctor.simulate.advice import Advice, Advised, Task, advise, planned
from cudadoctor.simulate.advice import Machine as Means
from cudadoctor.simulate.gpu_memory import Card as PlannedCard
from cudadoctor.simulate.gpu_memory import Plan
from cudadoctor.simulate.kv_cache import Flags, Unplannable
from cudadoctor.simulate.model_shape import UnreadableShape, read_shape
from cudadoctor.simulate.quantization import loading
from cudadoctor.simulate.weights import Range, UnknownWeights

GIB = 1 << 30
#: What is planned for where no vLLM is installed here and no image names one: the newest that was read.
NEWEST = "0.33.0"


@latest
def task_of(launch: Launch, model: Model, card: Card, packages: Packages) -> Task:
    """Return the task; raise Skip for what is no launch of vLLM, CannotTell where it is not known enough."""
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    if model.config is None:
        raise CannotTell(model.reason or "the model's config.json is not here")
    if card.total_bytes is None:
        raise CannotTell(f"how much memory {card.name or 'the card'} has is not known (see --gpu-memory)")
    try:
        shape = read_shape(model.config)
    except UnreadableShape as error:
        raise CannotTell(f"{model.config_path}: {error}") from None
    weights = model.weights.tensor_bytes if model.weights is not None else None
    seen = PlannedCard(float(card.total_bytes), card.name, _float(card.free_bytes), card.unified, card.count)
    return Task(shape, _flags(launch, model, card, packages), seen, _float(weights))


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


def version_of(launch: Launch, packages: Packages) -> str:
    """Return the vLLM that is planned for: the image's own, the installed one, or the newest known."""
    installed = packages.find("vllm")
    tag = launch.image.partition(":")[2].removeprefix("v").partition("-")[0]
    if launch.image and tag[:1].isdigit():
        return tag
    return installed.version if installed is not None and not launch.image else NEWEST


def _flags(launch: Launch, model: Model, card: Card, packages: Packages) -> Flags:
    capability = card.capability.replace(".", "")
    held = (
        loading(
            model.quantization,
            launch.text("--quantization") or "",
            model.methods,
            model.quantization_files,
            int(capability) if capability.isdecimal() else None,
        ).method
        if model.methods is not None
        else (model.quantization.method if model.quantization else "")
    )
    return Flags(
        version_of(launch, packages),
        max_model_len=launch.integer("--max-model-len"),
        max_num_seqs=launch.integer("--max-num-seqs"),
        max_num_batched_tokens=launch.integer("--max-num-batched-tokens"),
        gpu_memory_utilization=launch.number("--gpu-memory-utilization"),
        kv_cache_dtype=launch.text("--kv-cache-dtype") or "auto",
        kv_cache_memory_bytes=launch.integer("--kv-cache-memory-bytes"),
        num_gpu_blocks_override=launch.integer("--num-gpu-blocks-override"),
        block_size=launch.integer("--block-size"),
        tensor_parallel_size=launch.integer("--tensor-parallel-size") or 1,
        pipeline_parallel_size=launch.integer("--pipeline-parallel-size") or 1,
        enable_prefix_caching=launch.flag("--enable-prefix-caching"),
        enforce_eager=launch.flag("--enforce-eager") or False,
        quantization=held,
        cpu_offload_gb=launch.number("--cpu-offload-gb") or 0,
        usage="llm" if launch.kind == "vllm-llm" else "server",
    )


@latest
def plan_of(task: Task) -> Plan:
    """Return the plan; raise CannotTell where the numbers are impossible or not enough."""
    try:
        return planned(task)
    except (Unplannable, UnknownWeights) as error:
        raise CannotTell(str(error)) from None


@latest
def advice_of(task: Task, machine: Machine, card: Card) -> Advised:
    """Return what would start instead."""
    return advise(task, Means(kv_dtypes(card), float(machine.memory_available_bytes)))


def kv_dtypes(card: Card) -> tuple[str, ...]:
    """Return the KV cache dtypes beside "auto" that this GPU has a backend for.

    FlashInfer takes FP8 from 8.0 on; before that there is none (vLLM 0.12 to 0.33).
    """
    major = card.capability.partition(".")[0]
    return ("fp8",) if major.isdecimal() and int(major) >= 8 else ()


def in_gib(count_bytes: float) -> str:
    """Return "18.1 GiB"."""
    return f"{count_bytes / GIB:.1f} GiB"


def evidence_of(plan: Plan, card: Card) -> tuple[Evidence, ...]:
    """Return what the plan rests on: the budget, the weights, and why the overhead is what it is."""
    budget = f"{in_gib(card.total_bytes or 0)} x {plan.utilization:g} = {in_gib(plan.budget)}"
    rows = [Evidence(card.source, f"{card.name or 'the card'}: {budget}")]
    rows.append(Evidence("weights", _between(plan.weights)))
    rows += [Evidence(part.name, f"{_between(part.bytes)}: {part.reason}") for part in plan.overhead]
    return tuple(rows)


def _between(amount: Range) -> str:
    low, high = in_gib(amount.low), in_gib(amount.high)
    return low if low == high else f"{low.removesuffix(' GiB')} to {high}"


def remedies_of(advised: Advised, card: Card) -> tuple[Remedy, ...]:
    """Return each way to start it as options to give, with what it comes to; the first has the others."""
    told = [_told(each) for each in advised.advice[:3]]
    if not told and advised.needs is not None:
        told = [f"does not fit on {card.name or 'this card'} at any setting: needs {in_gib(advised.needs)}"]
    if not told:
        return ()
    first, *others = (Remedy("show", {}, text) for text in told)
    return (structs.replace(first, instead=tuple(others)),)


def _told(advice: Advice) -> str:
    options = " ".join(f"--{name.replace('_', '-')} {_value(value)}" for name, value in advice.changes)
    low, high = advice.plan.at_least.concurrency, advice.plan.at_most.concurrency
    length = advice.plan.max_model_len
    if low is None or high is None:
        return options
    times = f"{low:.1f}" if f"{low:.1f}" == f"{high:.1f}" else f"{low:.1f} to {high:.1f}"
    return f"{options}   # {length} tokens, about {times} requests at once"


def _value(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
