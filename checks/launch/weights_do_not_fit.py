"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Card, Launch, Machine, Model, Packages
from cudadoctor.findings import Finding, Severity
from cudadoctor.planning import (
    advice_of,
    called,
    described,
    evidence_of,
    in_gib,
    nowhere,
    plan_of,
    remedies_of,
    task_of,
)


@check
def weights_do_not_fit(
    launch: Launch, model: Model, card: Card, packages: Packages, machine: Machine
) -> Iterator[Finding]:
    """The weights alone are more than the GPU's memory.

    ## What it means
    Loading stops with `torch.OutOfMemoryError: CUDA out of memory`, or the driver begins to swap to the
    system's memory and nothing gets anywhere. No option but one that leaves weights elsewhere changes that.

    ## How to tell
    The sizes of the `*.safetensors` files against `nvidia-smi --query-gpu=memory.total --format=csv`.

    ## What helps
    What is printed, as far as anything does: more GPUs (`--tensor-parallel-size`), a part of the weights in
    the system's memory (`--cpu-offload-gb`), which is slow, or a larger card. Beside that: weights of fewer
    bits, which is another checkpoint.
    """
    task = task_of(launch, model, card, packages)
    plan = plan_of(task)
    if plan.outcome != "weights-do-not-fit":
        return
    advised = advice_of(task, launch, model, card, packages, machine)
    yield Finding(
        f"{in_gib(plan.weights.low)} of weights do not fit on {called(card)} "
        f"({in_gib(card.total_bytes or 0)}){nowhere(advised)}",
        Severity.ERROR,
        evidence_of(described(launch, model, card, packages)),
        remedies_of(advised, task, launch),
    )
