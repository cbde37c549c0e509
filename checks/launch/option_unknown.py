"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Launch, Refused
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_SHOWN = 12  #: values of a choice that are listed


@check
def option_unknown(launch: Launch) -> Iterator[Finding]:
    """The launch gives an option, or a value, that the installed vLLM refuses.

    ## What it means
    Options come and go with vLLM's versions (`--use-v2-block-manager` is gone), and a script outlives them.
    vLLM then prints its usage and exits with 2, before anything is loaded. Which options there are is read
    off the installed vLLM's own source.

    ## How to tell
    `vllm serve --help=NAME`

    ## What helps
    The name or value that is meant; or to leave the option out. A warning is of a script that starts vLLM in
    more than one place, where only one of them gives the option.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    for each in launch.refused:
        yield Finding(
            _says(each),
            Severity.WARNING if each.uncertain else Severity.ERROR,
            (
                Evidence(each.origin, f"{each.spelled} {each.value}".rstrip()),
                Evidence(launch.options_from, _known(each)),
            ),
            _remedies(each),
        )


def _says(each: Refused) -> str:
    if each.why == "unknown":
        return f"this vLLM has no option {each.spelled}"
    if each.why == "ambiguous":
        return f"{each.spelled} may stand for {' or '.join(each.choices)}"
    if each.why == "alone":
        return f"{each.name} is given without {each.expects.removesuffix(' beside it')}"
    if each.why == "values":
        return f"{each.name} is given without a value, or with too many"
    return f"{each.name} does not take {each.value!r}"


def _known(each: Refused) -> str:
    if each.why == "unknown":
        return "lists no such option"
    if each.choices:
        more = ", ..." if len(each.choices) > _SHOWN else ""
        return f"takes {', '.join(each.choices[:_SHOWN])}{more}"
    return f"wants {each.expects}" if each.expects else "refuses it"


def _remedies(each: Refused) -> tuple[Remedy, ...]:
    if not each.nearest:
        return ()
    meant = each.nearest if each.why == "unknown" else f"{each.name} {each.nearest}"
    return (Remedy("show", {}, meant),)
