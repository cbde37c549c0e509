"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, BuiltFor, Distribution, Packages, SharedObjects, TorchBuild
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.torch import index_for
from cudadoctor.simulate.builds import is_there, runtimes
from cudadoctor.verdicts import pip_install, pip_of


@check
def built_for_another_cuda(packages: Packages, builds: Builds, objects: SharedObjects) -> Iterator[Finding]:
    """A compiled package is built for another CUDA than torch.

    ## What it means
    vLLM 0.20 and newer on the package index needs `libcudart.so.13`; torch of CUDA 12 brings
    `libcudart.so.12`. Both may have the very versions that pip asks for, as it knows nothing of CUDA. The
    import then stops at the missing library; torchvision compares the major itself and raises,
    torchaudio up to 2.9 the minor too. torchvision's CPU-only build imports, and has no `nms` for a GPU.

    ## How to tell
    `readelf -d` of the extension against `torch.version.cuda`; `torchvision.__version__` ends in `+cpu`.

    ## What helps
    The package from the index of torch's CUDA release, or torch from that of the package.
    """
    torch = packages.torch
    if torch is None or not torch.cuda:
        raise Skip("torch is not installed" if torch is None else "torch is not built for CUDA")
    told = set()
    for each in packages.distributions:
        if each.name == "torch" or each.name in told or not (majors := runtimes(objects, each.name)):
            continue
        told.add(each.name)
        if torch.cuda.partition(".")[0] not in majors:
            remedy = _remedy(each.name, each.version, torch, packages)
            yield _by_runtime(each, majors, torch, builds, objects, remedy)
    for stated in builds.built_for:
        if stated.distribution in ("torchvision", "torchaudio"):
            remedy = _remedy(stated.distribution, stated.version, torch, packages)
            yield from _by_label(stated, torch, builds, remedy, stated.distribution in told)


def _by_runtime(
    each: Distribution,
    majors: dict[str, tuple[str, str]],
    torch: TorchBuild,
    builds: Builds,
    objects: SharedObjects,
    remedy: Remedy,
) -> Finding:
    major, (path, name) = next(iter(majors.items()))
    fails = each.name == "torchvision" or not is_there(objects, name)
    return Finding(
        f"{each.name} {each.version} is built for CUDA {major}, torch {torch.version} for {torch.cuda}",
        Severity.ERROR if fails else Severity.WARNING,
        (Evidence(path, f"needs {name}"), Evidence(builds.torch_source, f"cuda is '{torch.cuda}'")),
        (remedy,),
    )


def _by_label(
    stated: BuiltFor, torch: TorchBuild, builds: Builds, remedy: Remedy, linked: bool
) -> Iterator[Finding]:
    """Judge torchvision's or torchaudio's own word; the library tells the major where it could be read."""
    if stated.cuda == "cpu":
        severity = Severity.WARNING if stated.distribution == "torchvision" else Severity.NOTE
        says = f"{stated.distribution} {stated.version} is a CPU-only build, torch is for CUDA {torch.cuda}"
    elif stated.exact_cuda and stated.cuda != torch.cuda and _same_major(stated, torch):
        severity = Severity.ERROR
        says = f"{stated.distribution} {stated.version} raises beside torch of CUDA {torch.cuda}"
    elif not linked and not _same_major(stated, torch):
        severity = Severity.ERROR
        says = (
            f"{stated.distribution} is built for CUDA {stated.cuda}, torch {torch.version} for {torch.cuda}"
        )
    else:
        return
    yield Finding(
        says,
        severity,
        (
            Evidence(stated.source, f"__version__ is '{stated.stated}'"),
            Evidence(builds.torch_source, f"cuda is '{torch.cuda}'"),
        ),
        (remedy,),
    )


def _same_major(stated: BuiltFor, torch: TorchBuild) -> bool:
    return stated.cuda.partition(".")[0] == torch.cuda.partition(".")[0]


def _remedy(name: str, version: str, torch: TorchBuild, packages: Packages) -> Remedy:
    """Return what brings a build for torch's CUDA; of a version that pins another torch, another version."""
    if name not in ("torchvision", "torchaudio"):
        return Remedy("show", {}, f"a build of {name} for CUDA {torch.cuda.partition('.')[0]}")
    index, public = index_for(torch.version, torch.cuda), version.partition("+")[0]
    to = pip_of(packages)
    pinned, beside = _pinned(packages.find(name)), torch.version.partition("+")[0]
    if pinned and pinned != beside:
        return pip_install(to, f"{name}!={public}", f"torch=={beside}", index=index)
    return pip_install(to, f"{name}=={public}", again=True, index=index)


_PINNED = re.compile(r"torch *\(? *== *([\w.]+)(?:\+\w+)? *\)? *(?:;|$)")


def _pinned(installed: Distribution | None) -> str:
    """Return the torch that a distribution asks for, without its CUDA; "" where it pins none."""
    matches = map(_PINNED.match, installed.requires if installed else ())
    return next((match[1] for match in matches if match), "")
