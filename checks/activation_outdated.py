"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Repairs
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def activation_outdated(repairs: Repairs) -> Iterator[Finding]:
    """This shell was activated before `cudadoctor fix` changed what activation exports.

    ## What it means
    A fix that sets a variable puts it into the environment's own activation files, which a shell reads when
    the environment is activated. A shell that was open before still has the old values, and so has everything
    that it starts. Findings about those variables are true for this shell alone.

    ## How to tell
    `cudadoctor env` prints what the shell lacks.

    ## What helps
    To activate the environment again, or `eval "$(cudadoctor env)"` in this shell or in the launch script.
    """
    if not repairs.runs:
        raise Skip("nothing was repaired here")
    if repairs.pending:
        names = ", ".join(repairs.pending)
        yield Finding(
            f"this shell does not have what activation sets by now: {names}",
            Severity.NOTE,
            (Evidence(repairs.source, f"sets {names} otherwise"),),
            (Remedy("show", {}, 'eval "$(cudadoctor env)"'),),
        )
