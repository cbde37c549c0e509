"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Distribution, Packages, Target
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.verdicts import conda_install, pip_for, pip_uninstall

_COMPILED = frozenset(("torch", "torchvision", "torchaudio", "triton", "vllm", "flash-attn", "xformers"))


@check
def package_of_conda_and_pip(packages: Packages, target: Target) -> Iterator[Finding]:
    """pip has put its own version over a package that conda installed.

    ## What it means
    conda still counts the package as its own: its solver reckons with a version that is no longer there, and
    its next change of it removes or overwrites files of pip's. Where pip could not remove conda's files,
    those of both lie mixed. For torch it is worst: conda's has its libraries in the environment's `lib`,
    pip's in its own folder, and both are found.

    ## How to tell
    `conda list NAME` names a channel where `pip show -v NAME` says "Installer: pip".

    ## What helps
    One owner: `pip uninstall`, then `conda install --force-reinstall`; or `conda remove --force`, then pip
    again.
    """
    if target.kind not in ("conda", "pixi"):
        raise Skip("not a conda environment")
    for each in packages.distributions:
        if each.conda:
            yield _finding(each, packages, target)


def _finding(each: Distribution, packages: Packages, target: Target) -> Finding:
    name, version, _ = each.conda.rpartition("/")[2].removesuffix(".json").rsplit("-", 2)
    mixed = [d for d in packages.distributions if d.name == each.name and d.location == each.location]
    what = "beside" if len(mixed) > 1 else "over"
    serious = len(mixed) > 1 or each.name in _COMPILED
    first = packages.find(each.name) or each
    evidence = [
        Evidence(each.path, f"{each.name} {each.version}, put there by {each.installer}"),
        Evidence(each.conda, f"conda's record of {name} {version}"),
    ]
    live = [d for d in mixed if d.own_file]
    evidence += [Evidence(f"{d.location}/{d.own_file}", f"is the file of {d.version}") for d in live]
    back = conda_install(target.prefix, f"{name}={version}", again=True).summary
    remove = pip_uninstall(pip_for(target, packages), each.name)
    command = f"{remove} && {back}" if remove else back
    return Finding(
        f"{first.name} {each.version} of {each.installer} lies {what} conda's {name} {version}",
        Severity.WARNING if serious else Severity.NOTE,
        tuple(evidence),
        (Remedy("show", {}, command),),
    )
