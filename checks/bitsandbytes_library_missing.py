"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from cudadoctor.declare import Skip, check
from cudadoctor.facts import BitsAndBytes, Builds, Environ, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.builds import library_for
from cudadoctor.verdicts import pip_install, pip_of


@check
def bitsandbytes_library_missing(packages: Packages, builds: Builds, environ: Environ) -> Iterator[Finding]:
    """bitsandbytes has no library for the CUDA that it will ask for.

    ## What it means
    It opens `libbitsandbytes_cuda128.so` where torch is built for CUDA 12.8, whatever toolkit is installed.
    Up to 0.49 that very file must be there; since 0.50 another minor of the same major does, the next lower
    one first. `BNB_CUDA_VERSION` names another, and then nothing else is tried. The import succeeds all the
    same: it is the first quantised layer on a GPU that stops, with `CUDA VERSION MISMATCH` or "binary not
    found".

    ## How to tell
    `python -m bitsandbytes`; `ls` of the package's folder shows the files.

    ## What helps
    A newer bitsandbytes; without one, `BNB_CUDA_VERSION` with a library of the same major that is there.
    """
    found = builds.bitsandbytes
    if found is None:
        raise Skip("bitsandbytes is not installed")
    if packages.torch is None or not packages.torch.cuda:
        raise Skip("torch is not built for CUDA")
    cuda = packages.torch.cuda
    override = environ.get("BNB_CUDA_VERSION")
    if override or (override is not None and found.falls_back):
        yield from _overridden(found, override, environ)
    elif not library_for(found, cuda):
        yield Finding(
            f"bitsandbytes {found.version} has no library for CUDA {cuda}, which torch is built for",
            Severity.ERROR,
            (
                Evidence(builds.torch_source, f"cuda is '{cuda}'"),
                Evidence(found.root, _brought(found)),
                Evidence(
                    found.source, "takes the exact minor" if not found.falls_back else "takes the major"
                ),
            ),
            tuple(_remedies(found, cuda, packages)),
        )


def _overridden(found: BitsAndBytes, override: str, environ: Environ) -> Iterator[Finding]:
    """Judge BNB_CUDA_VERSION: since 0.50 anything but digits raises, an empty value too."""
    if found.falls_back and not (override.isascii() and override.isdigit()):
        says = "which is no number: bitsandbytes raises a RuntimeError"
    elif not library_for(found, "", override):
        says = f"of which bitsandbytes {found.version} has no library"
    else:
        return
    yield Finding(
        f"BNB_CUDA_VERSION is {override or 'empty'}, {says}",
        Severity.ERROR,
        (
            Evidence(environ.where("BNB_CUDA_VERSION"), f"BNB_CUDA_VERSION={override}"),
            Evidence(found.root, _brought(found)),
        ),
        (Remedy("show", {}, "unset BNB_CUDA_VERSION"),),
    )


def _brought(found: BitsAndBytes) -> str:
    return f"has libraries for CUDA {', '.join(found.cuda)}" if found.cuda else "has no CUDA library at all"


def _of_major(found: BitsAndBytes, cuda: str) -> list[str]:
    return [release for release in found.cuda if release.partition(".")[0] == cuda.partition(".")[0]]


def _remedies(found: BitsAndBytes, cuda: str, packages: Packages) -> Iterator[Remedy]:
    near = _of_major(found, cuda)
    other = export("show", BNB_CUDA_VERSION=near[-1].replace(".", "")) if near else None
    if not found.falls_back and cuda.partition(".")[0] in _MAJORS:
        newer = "bitsandbytes>=0.50.0"
        yield structs.replace(pip_install(pip_of(packages), newer), instead=(other,) if other else ())
    elif other:
        yield other


#: The CUDA majors that the wheels of bitsandbytes 0.50 have libraries for: 0.50.2, listed 2026-11-21.
_MAJORS = ("11", "12", "13")
