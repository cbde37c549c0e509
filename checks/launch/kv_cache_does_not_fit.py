"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cudadoctor.declare import check
from cudadoctor.facts import Card, Environ, Launch, Machine, Model, Packages
from cudadoctor.findings import Finding, Severity
from cudadoctor.planning import advice_of, described, evidence_of, nowhere, remedies_of
from cudadoctor.tasks import in_gib, plan_of, task_of

if TYPE_CHECKING:
    from cudadoctor.simulate.advice import Advised, Task
    from cudadoctor.simulate.gpu_memory import Plan

_OUTCOMES = ("no-kv-cache", "too-long", "too-many-sequences", "cache-too-large", "may-fit")
_STOPS = "No available memory for the cache blocks"
_EXCEEDS = "exceeds available Mamba cache blocks"


@check
def kv_cache_does_not_fit(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine,
    environ: Environ | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """What is left of the GPU's memory holds no KV cache, or none for one request of that length.

    ## What it means
    vLLM takes `--gpu-memory-utilization` of the memory that CUDA reports. The weights come off that, and what
    a first run of the model needs for its activations, what is outside of torch, slots for LoRA adapters and,
    from 0.20 on, the CUDA graphs. The rest is the KV cache. Nothing left: `No available memory for the cache
    blocks`. Not enough for one request: `To serve at least one request with the model's max seq len`. Hybrid
    models (Mamba, Gated DeltaNet) need a block for the state of each sequence as well: `max_num_seqs exceeds
    available Mamba cache blocks`. A lower utilisation makes all of it worse. What a run needs beside the
    weights can only be bounded before it: with a warning it may fit. A cache of a size that is given
    (`--kv-cache-memory-bytes`, `--num-gpu-blocks-override`) is made whether the card has room for it or not.

    ## How to tell
    vLLM logs `Available KV cache memory: ... GiB` when the weights are loaded, after minutes.

    ## What helps
    What is printed: each line was planned again with it. `would fit` is the least change that surely starts,
    `more room` what holds clearly more; `may fit` depends on what only the run can tell.
    """
    task = task_of(launch, model, card, packages, environ)
    plan = plan_of(task)
    if plan.outcome not in _OUTCOMES:
        return
    advised = advice_of(task, launch, model, card, packages, machine, environ)
    sure = plan.outcome != "may-fit"
    worse = "; lowering utilisation makes it worse" if advised.raise_utilization else ""
    yield Finding(
        f"{_says(task, plan)}{worse}{_nowhere(advised)}",
        Severity.ERROR if sure else Severity.WARNING,
        evidence_of(described(launch, model, card, packages, environ)),
        remedies_of(advised, task, launch, card),
    )


def _nowhere(advised: Advised) -> str:
    setting = nowhere(advised)
    return f"; the card is too small{setting}" if setting else ""


def _says(task: Task, plan: Plan) -> str:
    from cudadoctor.simulate.gpu_memory import states_needed

    states = states_needed(plan.layout, task.card)
    if plan.outcome == "too-many-sequences":
        return f'will stop with "max_num_seqs ({states}) {_EXCEEDS} ({plan.at_most.num_blocks})"'
    if plan.asked is not None and plan.room is not None and plan.asked > plan.room.low:
        left = (
            f"{in_gib(max(0, plan.room.low))} to {in_gib(max(0, plan.room.high))} of the card are left for it"
        )
        sure = "does" if plan.outcome == "cache-too-large" else "may"
        return f"a KV cache of {in_gib(plan.asked)} is asked for, which {sure} not fit: {left}"
    needed = f"{plan.max_model_len} tokens need {in_gib(plan.needed)}"
    if plan.outcome == "no-kv-cache":
        return f'will stop with "{_STOPS}"'
    room = f"{in_gib(max(0, plan.available.low))} to {in_gib(plan.available.high)} are left"
    if plan.outcome == "too-long":
        return f"one request does not fit: {needed}, {room}"
    if plan.available.low >= plan.needed:
        return f'may stop with "max_num_seqs ({states}) {_EXCEEDS} ({plan.at_least.num_blocks})"'
    return f"may stop for want of KV cache: {needed}, {room}"
