"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cudadoctor.declare import check
from cudadoctor.facts import Card, Environ, Launch, Machine, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.planning import advice_of, called, described, evidence_of, nowhere, remedies_of
from cudadoctor.tasks import host_memory, in_gib, loaded_whole, plan_of, task_of

if TYPE_CHECKING:
    from cudadoctor.simulate.advice import Task


@check
def weights_do_not_fit(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine,
    environ: Environ | None = None,
) -> Iterator[Finding]:  # fmt: skip
    """The weights alone are more than the GPU's memory, or than the host's where they are to be kept there.

    ## What it means
    Loading stops with `torch.OutOfMemoryError: CUDA out of memory`, or the driver begins to swap to the
    system's memory and nothing gets anywhere. No option but one that leaves weights elsewhere changes that.
    `--quantization fp8` for a checkpoint of 16 bits does not help vLLM 0.12: all of it is loaded first. With
    `--cpu-offload-gb` each rank keeps that much in the host's memory, which has to be there.

    ## How to tell
    The sizes of the `*.safetensors` files against `nvidia-smi --query-gpu=memory.total --format=csv`, and
    against `free -g` for what is kept in the host's memory.

    ## What helps
    What is printed, as far as anything does: more GPUs (`--tensor-parallel-size`), a part of the weights in
    the system's memory (`--cpu-offload-gb`), which is slow, or a larger card. Beside that: weights of fewer
    bits, which is another checkpoint.
    """
    task = task_of(launch, model, card, packages, environ)
    plan = plan_of(task)
    yield from _in_the_host(task, launch, card, machine)
    if plan.outcome != "weights-do-not-fit":
        return
    advised = advice_of(task, launch, model, card, packages, machine, environ)
    whole = loaded_whole(task, model)
    first = f": vLLM {plan.layout.flags.vllm} quantises them when all are loaded" if whole else ""
    yield Finding(
        f"{in_gib(plan.weights.low)} of weights do not fit on {called(card)} "
        f"({in_gib(card.total_bytes or 0)}){nowhere(advised)}{first}",
        Severity.ERROR,
        evidence_of(described(launch, model, card, packages, environ)),
        (Remedy("show", {}, _STORED),) if whole else remedies_of(advised, task, launch, card),
    )


_STORED = (
    "a checkpoint that is FP8 already, or vLLM 0.16 or later, which quantises each layer as it is loaded"
)


def _in_the_host(task: Task, launch: Launch, card: Card, machine: Machine) -> Iterator[Finding]:
    """Yield what is wrong where weights are to be kept in the host's memory, and that has no room."""
    kept, free = host_memory(task, launch, card, machine)
    if kept <= free:
        return
    given = launch.options["--cpu-offload-gb"]
    sure = kept > machine.memory_total_bytes
    yield Finding(
        f"{in_gib(kept)} of weights {'do' if sure else 'may'} not fit in the host's memory "
        f"({in_gib(machine.memory_total_bytes)}, {in_gib(free)} available)",
        Severity.ERROR if sure else Severity.WARNING,
        (Evidence(given.origin, f"{given.spelled} {' '.join(given.values)}"),),
    )
