"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Distribution, Machine, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.requirements import environments, read
from cudadoctor.verdicts import Pip, pip_for, pip_install


@check
def package_metadata_broken(packages: Packages, target: Target, machine: Machine) -> Iterator[Finding]:
    """The metadata of an installed package is missing or damaged.

    ## What it means
    An interrupted install, a full disk or a half-copied environment leaves a metadata folder without its
    METADATA, or with one that is empty, cut off or full of NUL bytes. `importlib.metadata.version()` then
    fails or answers None, which is how transformers, vLLM and others look for each other: they take the
    package for absent. pip can neither judge nor remove it. One that is whole, and that only another user may
    read, is reported as that.

    ## How to tell
    `pip check` warns, `uv pip check` says "broken or incomplete".

    ## What helps
    Removing the metadata folder, then installing that version again.
    """
    if not packages.distributions:
        raise Skip("no Python packages are installed")
    whole = {(d.name, d.location) for d in packages.distributions if not d.problem}
    for each in packages.distributions:
        if each.name.startswith("~"):
            yield _leftover(each)
        elif each.problem and (each.name, each.location) not in whole:
            yield _broken(each, pip_for(target, packages), target)
    for each, line in read(packages, environments(target, machine)).unreadable:
        yield Finding(
            f"{each.name} {each.version} requires something that no installer can read: {line[:80]!r}",
            Severity.NOTE,
            (Evidence(each.path, f"{line[:200]!r}; what else it requires is not judged"),),
        )


def _leftover(each: Distribution) -> Finding:
    entry = each.problem.partition(": ")[0]
    path = f"{each.location}/{entry}"
    return Finding(
        f"{entry} was left behind by an interrupted pip",
        Severity.NOTE,
        (Evidence(path, "pip had moved it aside, and warns of it ever since"),),
        (Remedy("show", {}, f"rm -r {shlex.quote(path)}"),),
    )


def _broken(each: Distribution, pip: Pip, target: Target) -> Finding:
    entry, _, reason = each.problem.partition(": ")
    if reason == "Permission denied":
        says = f"the metadata of {each.name} {each.version} may not be read by this user".replace("  ", " ")
        return Finding(says, Severity.WARNING, (Evidence(each.path, reason),))
    folder = each.path if each.path.endswith(entry) else each.path.rpartition("/")[0]
    return Finding(
        f"the metadata of {each.name} {each.version} is broken: {reason}".replace("  ", " "),
        Severity.WARNING,
        (Evidence(each.path, reason),),
        tuple(_again(each, folder, pip, target)),
    )


def _again(each: Distribution, folder: str, pip: Pip, target: Target) -> Iterator[Remedy]:
    if not each.version or not folder.endswith(".dist-info"):
        return
    wanted = f"{each.name}=={each.version}"
    if target.kind in ("conda", "pixi") and each.installer == "conda":
        return
    install = pip_install(pip, wanted, again=True)
    removed = "" if pip.gone else f"rm -r {shlex.quote(folder)} && "
    yield Remedy("show", {}, f"{removed}{install.summary}")
