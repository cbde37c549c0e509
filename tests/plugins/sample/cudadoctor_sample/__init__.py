"""Checks of a plug-in."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Machine, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def disk_label_odd(target: Target, machine: Machine) -> Iterator[Finding]:
    """The environment's folder has an odd name.

    ## What it means
    Nothing: it shows what a plug-in can do.

    ## How to tell
    By looking.

    ## What helps
    Nothing needs to.
    """
    evidence = Evidence(target.prefix, f"seen on {machine.arch}")
    yield Finding("a plug-in was here", Severity.WARNING, (evidence,), (Remedy("show", {}, "true"),))


@check
def always_crashes(target: Target) -> Iterator[Finding]:
    """A check with a bug."""
    yield Finding(target.prefix, Severity.NOTE)
    raise RuntimeError("a bug of the plug-in")


@check
def never_ends(target: Target) -> Iterator[Finding]:
    """A check that loops."""
    while True:
        pass
    yield Finding(target.prefix, Severity.NOTE)
