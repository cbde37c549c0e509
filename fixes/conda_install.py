"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, Install, Safety, Show
from cudadoctor.declare import fix
from cudadoctor.facts import Facts, Target, Toolkits
from cudadoctor.findings import Remedy


@fix(Safety.UNSAFE)
def conda_install(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Installs packages into the conda environment that is diagnosed.

    ## What it does
    conda, mamba or micromamba installs what a finding names, with `cuda-version` or the release beside it, so
    that all CUDA packages stay of one release. For another environment than the diagnosed one, and for one
    that a pixi project owns, the command is shown and not run.

    ## Why it is safe
    It is not: packages come from the network, and the solver may replace others. So it is done with
    `--unsafe` only, after every package has been written down with its version and build.

    ## How it is undone
    The packages that were there are installed again in their former versions and builds; what came in
    addition is removed.
    """
    prefix, packages = values.path(remedy, "prefix"), values.packages(remedy, "conda")
    if _is_diagnosed(prefix, facts):
        yield Install("conda", packages)
    elif remedy.summary:
        yield Show(remedy.summary)
    else:
        raise ValueError(f"{remedy.fix}: {prefix!r} is not the environment that is diagnosed")


def _is_diagnosed(prefix: str, facts: Facts) -> bool:
    """Return whether this is the target's own prefix, by whatever spelling led to the toolkit in it."""
    target, toolkits = facts.target, facts.toolkits
    if not isinstance(target, Target) or target.kind != "conda":
        return False
    if prefix.rstrip("/") == target.prefix.rstrip("/"):
        return True
    found = toolkits.at(prefix) if isinstance(toolkits, Toolkits) else None
    return found is not None and isinstance(toolkits, Toolkits) and found == toolkits.at(target.prefix)
