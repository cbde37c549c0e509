"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, Packages, SharedFile
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.builds import required
from cudadoctor.verdicts import pip_install, pip_of, pip_uninstall


@check
def cuda_wheels_overwritten(packages: Packages, builds: Builds) -> Iterator[Finding]:
    """Two of NVIDIA's wheels, for two CUDA majors, claim the same library.

    ## What it means
    `nvidia-nccl-cu12` and `nvidia-nccl-cu13` both bring `nvidia/nccl/lib/libnccl.so.2`; so it is with cuDNN,
    cuSPARSELt and NVSHMEM. pip takes them for two projects and puts the one over the other; changing torch's
    CUDA leaves the old ones installed. torch then loads whichever came last. Where that is its own, nothing
    is wrong until somebody uninstalls the other: that takes the library along.

    ## How to tell
    `pip list | grep nvidia` shows both; the size of the library is in the `RECORD` of one of them.

    ## What helps
    Uninstalling the one that torch does not need, then installing torch's again: in this order.
    """
    if packages.torch is None:
        raise Skip("torch is not installed")
    needed = _needed(packages)
    wrong = [file for file in builds.shared_files if file.holds and file.holds not in needed]
    latent = [file for file in builds.shared_files if file.holds in needed]
    for files, severity in ((wrong, Severity.WARNING), (latent, Severity.NOTE)):
        if files:
            yield _finding(files, severity, needed, packages)


def _needed(packages: Packages) -> set[str]:
    torch = packages.find("torch")
    return required(torch) if torch is not None else set()


def _finding(files: list[SharedFile], severity: Severity, needed: set[str], packages: Packages) -> Finding:
    others = [name for file in files for name in file.owners if name not in needed]
    own = [name for file in files for name in file.owners if name in needed]
    versions = {each.name: each.version for each in packages.distributions}
    to = pip_of(packages)
    again = pip_install(to, *(f"{name}=={versions[name]}" for name in own), again=True).summary
    if severity is Severity.WARNING:
        lies = "lies" if len(others) == 1 else "lie"
        says = f"{' and '.join(others)} {lies} over {' and '.join(own)}, which torch needs"
    else:
        says = f"uninstalling {' and '.join(others)} would remove files of {' and '.join(own)}"
    return Finding(
        says,
        severity,
        tuple(
            Evidence(file.path, f"is of {file.holds}, and claimed by {' and '.join(file.owners)}")
            for file in files
        ),
        (Remedy("show", {}, f"{pip_uninstall(to, *others)} && {again}"),),
    )
