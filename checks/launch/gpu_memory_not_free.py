"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cudadoctor.declare import check
from cudadoctor.facts import Card, Driver, Environ, GpuProcess, Launch, Machine, Model, Packages
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.planning import advice_of, called, freer, remedies_of, share
from cudadoctor.tasks import in_gib, plan_of, task_of

if TYPE_CHECKING:
    from cudadoctor.simulate.advice import Advised


@check
def gpu_memory_not_free(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine, driver: Driver,
    environ: Environ | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """Less of the GPU's memory is free than the launch will ask for.

    ## What it means
    vLLM stops where `--gpu-memory-utilization` of the memory is not free when it starts: `Free memory on
    device cuda:0 (a/b GiB) on startup is less than desired GPU memory utilization`. Mostly an earlier run
    still has it.

    ## How to tell
    `nvidia-smi --query-compute-apps=pid,used_memory --format=csv`

    ## What helps
    Another GPU of the kind, where one has enough free: then its number is printed. A utilisation that leaves
    alone what is held, where what is left is enough: it is printed as it was planned with. Where it is not,
    asking for less does not help: end what holds the memory.
    """
    task = task_of(launch, model, card, packages, environ)
    plan = plan_of(task)
    if plan.outcome != "not-free" or card.free_bytes is None:
        return
    holders = _holders(driver, card)
    held = tuple(
        Evidence(f"process {process.pid}", f"holds {in_gib(process.memory_bytes or 0)}")
        for process in holders
    )
    advised = advice_of(task, launch, model, card, packages, machine, environ)
    asked = f"{in_gib(plan.budget)} are asked for (utilisation {share(plan.utilization)})"
    other = freer(task, launch, card)
    number = "" if card.index is None or len(card.alike) < 2 else f"GPU {card.index}, "
    yield Finding(
        f"{in_gib(card.free_bytes)} of {in_gib(card.total_bytes or 0)} are free, and {asked}"
        f"{'; another GPU has enough free' if other else _helps(advised, bool(holders))}",
        Severity.ERROR,
        (Evidence(card.source, f"{number}{called(card)}: {in_gib(card.free_bytes)} free"), *held),
        (*([other] if other else []), *remedies_of(advised, task, launch, card)),
    )


def _holders(driver: Driver, card: Card) -> list[GpuProcess]:
    """Return the processes that hold memory of the GPU that is planned for, the largest first."""
    same = [
        gpu
        for gpu in driver.gpus
        if (
            gpu.memory_free_bytes in (card.free_bytes, None)
            if card.index is None
            else gpu.index == card.index
        )
    ]
    held = [process for gpu in same for process in gpu.processes]
    return sorted(held, key=lambda process: -(process.memory_bytes or 0))[:5]


def _helps(advised: Advised, named: bool) -> str:
    """Return which of the two helps: asking for less, or freeing what is held."""
    if advised.advice:
        return f"; what is free {'is' if advised.advice[0].sure else 'may be'} enough"
    if advised.needs:
        return "; it does not fit on this card when all of it is free either"
    end = "end what holds the rest" if named else "find and end what holds the rest"
    return f"; what is free is too little, so asking for less does not help: {end}"
