"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Card, Launch, Model
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_OPTION = "--quantization"
_LONGEST = 4  #: digits of a compute capability


@check
def slower_kernel_chosen(launch: Launch, model: Model, card: Card) -> Iterator[Finding]:
    """`--quantization` keeps vLLM from the faster kernels that this GPU and checkpoint allow.

    ## What it means
    Weights of AWQ and GPTQ have two implementations in vLLM. Marlin's kernels (`awq_marlin`, `gptq_marlin`)
    are the faster ones, and are taken by themselves where the GPU has compute capability 8.0 and the weights
    are of a kind that they know. An explicit `--quantization awq` or `gptq` asks for the others. All works,
    and takes longer.

    ## How to tell
    vLLM logs `Detected that the model can run with awq_marlin, however you specified quantization=awq
    explicitly, so forcing awq`.

    ## What helps
    To leave the option out, or to name the faster one.
    """
    from cudadoctor.simulate.quantization import loading

    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    asked, stated = launch.text(_OPTION), model.quantization
    if not asked or stated is None or model.methods is None:
        return
    digits = card.capability.replace(".", "")
    if not digits.isdecimal() or len(digits) > _LONGEST:
        raise CannotTell("the compute capability is not known")
    capability = int(digits)
    found = loading(stated, asked, model.methods, model.quantization_files, capability)
    if not found.faster:
        return
    given = launch.options[_OPTION]
    yield Finding(
        f"{_OPTION} {asked} forgoes {found.faster}, which is faster and can run this model here",
        Severity.NOTE,
        (
            Evidence(given.origin, f"{given.spelled} {asked}"),
            Evidence(stated.source, _weights(stated.config)),
            Evidence(card.source, f"{card.name or 'the card'}: compute capability {card.capability}"),
        ),
        (
            Remedy(
                "show", {}, f"{_OPTION} {found.faster}",
                instead=(Remedy("show", {}, f"leave {_OPTION} out: vLLM takes {found.faster} by itself"),),
            ),
        ),
    )  # fmt: skip


def _weights(config: dict[str, object]) -> str:
    said = [f"{key}: {config[key]}" for key in ("quant_method", "bits", "group_size") if key in config]
    return ", ".join(said) or "says how the weights are quantised"
