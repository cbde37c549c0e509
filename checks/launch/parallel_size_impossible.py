"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Card, Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.tasks import refusal, shape_of, sizes_that_divide, version_of

_SIZES = ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size")


@check
def parallel_size_impossible(
    launch: Launch, packages: Packages, model: Model | None = None, card: Card | None = None
) -> Iterator[Finding]:
    """The launch asks for more GPUs than there are, or for a number that its model cannot be divided by.

    ## What it means
    `--tensor-parallel-size` divides each layer: the attention heads must be a multiple of it, and the heads
    of keys and values a multiple or a divisor. Tensor x pipeline x data parallel size is the number of GPUs
    that are taken, and vLLM stops where so many are not visible. Ranks on other machines (Ray, `--nnodes`)
    are not judged.

    ## How to tell
    `num_attention_heads` and `num_key_value_heads` in config.json; `nvidia-smi -L` and CUDA_VISIBLE_DEVICES.

    ## What helps
    A size that divides the heads and is no more than the GPUs: those are printed.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    given = [launch.options[name] for name in _SIZES if name in launch.options]
    if not given or any(each.name in _SIZES for each in launch.refused):
        return
    shape = None
    try:
        shape = shape_of(model) if model is not None else None
    except CannotTell:
        pass  # the GPUs can be counted without it
    why = refusal(launch, shape, card, version_of(launch, packages))
    if not why:
        return
    evidence = [Evidence(each.origin, f"{each.spelled} {' '.join(each.values)}") for each in given]
    if shape is not None and model is not None:
        heads = f"{shape.heads} attention heads, {shape.kv_heads} of keys and values"
        evidence.append(Evidence(model.config_path, heads))
    if card is not None:
        evidence.append(Evidence(card.source, f"{card.count} x {card.name or 'a card'}"))
    sizes = () if shape is None or card is None else sizes_that_divide(launch, shape, card)
    yield Finding(why, Severity.ERROR, tuple(evidence), _remedies(sizes))


def _remedies(sizes: tuple[int, ...]) -> tuple[Remedy, ...]:
    if not sizes:
        return ()
    told = " or ".join(str(size) for size in sizes)
    return (Remedy("show", {}, f"--tensor-parallel-size {told}: what the heads and the GPUs allow"),)
