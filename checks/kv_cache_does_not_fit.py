"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Card, Launch, Machine, Model, Packages
from cudadoctor.findings import Finding, Severity
from cudadoctor.planning import advice_of, evidence_of, in_gib, plan_of, remedies_of, task_of
from cudadoctor.simulate.gpu_memory import Plan

_STOPS = "No available memory for the cache blocks"


@check
def kv_cache_does_not_fit(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine
) -> Iterator[Finding]:
    """What is left of the GPU's memory holds no KV cache, or none for one request of that length.

    ## What it means
    vLLM takes `--gpu-memory-utilization` of the memory that CUDA reports. The weights come off that, and what
    a first run of the model needs for its activations, the CUDA context and, from 0.20 on, the CUDA graphs.
    The rest is the KV cache. Nothing left: `No available memory for the cache blocks`. Not enough for one
    request: `To serve at least one request with the model's max seq len`. A lower utilisation makes both
    worse. What a run needs beside the weights can only be bounded before it: with a warning it may fit.

    ## How to tell
    vLLM logs `Available KV cache memory: ... GiB` when the weights are loaded, after minutes.

    ## What helps
    What is printed: each line was planned again with it.
    """
    task = task_of(launch, model, card, packages)
    plan = plan_of(task)
    if plan.outcome not in ("no-kv-cache", "too-long", "may-fit"):
        return
    advised = advice_of(task, machine, card)
    sure = plan.outcome != "may-fit"
    worse = "; lowering utilisation makes it worse" if advised.raise_utilization else ""
    yield Finding(
        f"{_says(plan)}{worse}",
        Severity.ERROR if sure else Severity.WARNING,
        evidence_of(plan, card),
        remedies_of(advised, card),
    )


def _says(plan: Plan) -> str:
    needed = f"{plan.max_model_len} tokens need {in_gib(plan.needed)}"
    if plan.outcome == "no-kv-cache":
        return f'will stop with "{_STOPS}"'
    room = f"{in_gib(max(0, plan.available.low))} to {in_gib(plan.available.high)} are left"
    if plan.outcome == "too-long":
        return f"one request does not fit: {needed}, {room}"
    return f"may stop for want of KV cache: {needed}, {room}"
