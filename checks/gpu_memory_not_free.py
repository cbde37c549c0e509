"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Card, Driver, Launch, Machine, Model, Packages
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.planning import advice_of, in_gib, plan_of, remedies_of, task_of


@check
def gpu_memory_not_free(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine, driver: Driver
) -> Iterator[Finding]:
    """Less of the GPU's memory is free than the launch will ask for.

    ## What it means
    vLLM stops where `--gpu-memory-utilization` of the memory is not free when it starts: `Free memory on
    device cuda:0 (a/b GiB) on startup is less than desired GPU memory utilization`. Mostly an earlier run
    still has it.

    ## How to tell
    `nvidia-smi --query-compute-apps=pid,used_memory --format=csv`

    ## What helps
    Ending what holds the memory; or a utilisation that leaves it alone, where what is left is enough.
    """
    task = task_of(launch, model, card, packages)
    plan = plan_of(task)
    if plan.outcome != "not-free" or card.free_bytes is None:
        return
    holders = [process for gpu in driver.gpus for process in gpu.processes]
    held = tuple(
        Evidence(f"process {process.pid}", f"holds {in_gib(process.memory_bytes or 0)}")
        for process in holders
    )
    yield Finding(
        f"{in_gib(card.free_bytes)} of {in_gib(card.total_bytes or 0)} are free, and "
        f"{in_gib(plan.budget)} are asked for (utilisation {plan.utilization:g})",
        Severity.ERROR,
        (Evidence(card.source, f"{card.name}: {in_gib(card.free_bytes)} free"), *held),
        remedies_of(advice_of(task, machine, card), card),
    )
