"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote

from cudadoctor.declare import Skip, check
from cudadoctor.facts import OpenRun, Repairs, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def repair_interrupted(repairs: Repairs, target: Target) -> Iterator[Finding]:
    """A run of `cudadoctor fix` or `cudadoctor undo` was killed before its end.

    ## What it means
    Everything a run does is written down before it is done. A run that was killed has done a part of it: each
    single file and link is whole, but not all of them may be there. Nothing is lost, and nothing else can be
    repaired here until that run is completed or taken back.

    ## How to tell
    `cudadoctor undo --list` shows the run as interrupted.

    ## What helps
    `cudadoctor fix --resume` completes it, `cudadoctor undo` with its name takes it back. A journal that
    cannot be read is passed over once it has another name; what its run did can then only be taken back by
    hand.
    """
    if not repairs.runs and not repairs.problem:
        raise Skip("nothing was repaired here")
    if repairs.problem:
        file, _, why = repairs.problem.partition(": ")
        command = f"mv {quote(file)} {quote(f'{file}.damaged')}  # what it tells of stays done"
        aside = Remedy("show", {}, command)
        said = "a journal of repairs cannot be read: fix --apply refuses to go on"
        yield Finding(said, Severity.WARNING, (Evidence(file, why),), (aside,))
    where = "" if target.active else f" --prefix {quote(target.prefix)}"
    yield from (_finding(run, where) for run in repairs.open if not run.busy)


def _finding(run: OpenRun, where: str) -> Finding:
    undoing = run.status.startswith("undo")
    what = f"undoing run {run.name} was interrupted" if undoing else f"run {run.name} of fix was interrupted"
    undo, resume = f"cudadoctor undo {run.name}{where}", f"cudadoctor fix --resume{where}"
    return Finding(
        f"{what}: what it changes is half done",
        Severity.WARNING,
        (Evidence(run.journal, "does not say that it came to its end, and no process is at it"),),
        (Remedy("show", {}, undo if undoing else f"{undo}  # or complete it: {resume}"),),
    )
