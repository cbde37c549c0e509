"""See the check's own page."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Conda, CondaRecord
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.verdicts import conda_install
from cudadoctor.versions import numbers

# The parts of conda-forge's and NVIDIA's CUDA 12+ that carry the toolkit's own number. Others do not:
# cuda-python, cuda-bindings, cuda-core, cuda-pathfinder, cuda-compat, cuda-cccl-impl, and all lib*-dev.
# cuda-opencl is left out: NVIDIA's pytorch-cuda=12.1 always came with a 12.4 one, which harms nothing.
_STEMS = (
    "cccl|command-line-tools|compiler|crt|cudart|cuobjdump|cupti|cuxxfilt|driver|libraries|minimal-build|nvcc|"
    "nvdisasm|nvml|nvprune|nvrtc|nvtx|nvvm|profiler-api|runtime|toolkit|tools"
)
_NUMBERED = re.compile(rf"cuda-(?:{_STEMS})(?:-(?:dev|static|tools|impl))*(?:_linux-\w+)?")
_NOT_NUMBERED = ("cuda-cccl-impl",)
_COMPILER = re.compile(r"cuda-nvcc(?:-tools|-impl|-dev)?(?:_linux-\w+)?")
_HEADERS = re.compile(r"cuda-(?:cudart-dev|crt-dev|crt)(?:_linux-\w+)?")


@check
def conda_cuda_split(conda: Conda) -> Iterator[Finding]:
    """The CUDA packages of this conda environment come from different CUDA releases.

    ## What it means
    nvcc, the headers and the libraries of one build must belong to one CUDA release: headers of 12.4 under an
    nvcc of 12.8 lack what it generates calls to, and CCCL refuses the pair. A mix comes from installing
    single packages without `cuda-version`, which pins all of them together. Builds of one release differ in
    their last number (12.8.61, 12.8.93): that is no mix. Libraries such as `libcublas-dev` have numbers of
    their own, which say nothing about the release.

    ## How to tell
    `conda list | grep ^cuda-` shows more than one pair of first numbers.

    ## What helps
    One `conda install` that names `cuda-version` and the packages that are out of line.
    """
    if not conda.prefix:
        raise Skip("not a conda environment")
    known = {r: release for r in conda.records if not r.problem and (release := _release(r))}
    damaged = [record for record in conda.records if record.problem and _is_numbered(record.name)]
    if not known and not damaged:
        raise Skip("conda has installed no part of a CUDA toolkit here")
    building = [record for record in known if _builds(record.name)]
    pin = _parsed(conda.cuda_version) if building else None
    if len({*known.values(), *([pin] if pin else [])}) < 2:
        _must_be_harmless(damaged, {*known.values()})
        return
    yield _finding(conda, known, pin, damaged, bool(building))


def _is_numbered(name: str) -> bool:
    return name not in _NOT_NUMBERED and _NUMBERED.fullmatch(name) is not None


def _builds(name: str) -> bool:
    return _COMPILER.fullmatch(name) is not None or "-dev" in name or "-crt" in name


def _release(record: CondaRecord) -> tuple[int, int] | None:
    return _parsed(record.version) if _is_numbered(record.name) else None


def _parsed(version: str) -> tuple[int, int] | None:
    found = numbers(version)
    return (found[0], found[1]) if found[1:] else None


def _must_be_harmless(damaged: list[CondaRecord], releases: set[tuple[int, int]]) -> None:
    """Raise where a record that cannot be read might be of another release: its file name tells."""
    for record in damaged:
        if _parsed(record.version) not in releases:
            raise CannotTell(f"conda's record of {record.name} {record.version}: {record.problem}")


def _finding(
    conda: Conda,
    known: dict[CondaRecord, tuple[int, int]],
    pin: tuple[int, int] | None,
    damaged: list[CondaRecord],
    building: bool,
) -> Finding:
    right = _reference(known, pin)
    outliers = [record for record, release in known.items() if release != right]
    release = ".".join(map(str, right))
    names = ", ".join(f"{record.name} {record.version}" for record in _leading(outliers))
    summary = f"CUDA {release} is mixed with {names}"
    if not outliers and pin:
        summary = f"cuda-version is {conda.cuda_version}, all CUDA packages are of {release}"
    if not building:
        severity = Severity.NOTE
    else:
        severity = Severity.ERROR if _majors_clash(known) else Severity.WARNING
    evidence = tuple(_evidence(conda, known, damaged))
    return Finding(summary, severity, evidence, (_remedy(conda.prefix, release, outliers),))


def _reference(known: dict[CondaRecord, tuple[int, int]], pin: tuple[int, int] | None) -> tuple[int, int]:
    """Return cuda-version's release where some package is of it, else the most common; of equals nvcc's."""
    if pin in known.values() and pin is not None:
        return pin
    count = Counter(known.values())
    of_nvcc = {release for record, release in known.items() if _COMPILER.fullmatch(record.name)}
    return max(count, key=lambda release: (count[release], release in of_nvcc, release))


def _leading(outliers: list[CondaRecord]) -> list[CondaRecord]:
    """Return the outliers without their per-platform halves, which follow by themselves."""
    names = {record.name for record in outliers}
    return [record for record in outliers if record.name.partition("_linux-")[0] not in names - {record.name}]


def _majors_clash(known: dict[CondaRecord, tuple[int, int]]) -> bool:
    """Return whether nvcc and the headers that it compiles with are of different CUDA majors."""
    compiler = {release[0] for record, release in known.items() if _COMPILER.fullmatch(record.name)}
    headers = {release[0] for record, release in known.items() if _HEADERS.fullmatch(record.name)}
    return bool(compiler and headers) and compiler != headers


def _evidence(
    conda: Conda, known: dict[CondaRecord, tuple[int, int]], damaged: list[CondaRecord]
) -> Iterator[Evidence]:
    if conda.cuda_version:
        yield Evidence(_file(conda, conda.find("cuda-version")), f"cuda-version {conda.cuda_version}")
    for release in sorted(set(known.values()), reverse=True):
        of_it = [record for record in known if known[record] == release]
        listed = ", ".join(f"{record.name} {record.version}" for record in _leading(of_it))
        yield Evidence(_file(conda, of_it[0]), f"CUDA {'.'.join(map(str, release))}: {listed}")
    for record in damaged:
        yield Evidence(_file(conda, record), f"not counted: {record.problem}")


def _file(conda: Conda, record: CondaRecord | None) -> str:
    if record is None:
        return f"{conda.prefix}/conda-meta"
    return f"{conda.prefix}/conda-meta/{record.name}-{record.version}-{record.build}.json"


def _remedy(prefix: str, release: str, outliers: list[CondaRecord]) -> Remedy:
    names = ["cuda-version", *(record.name for record in _leading(outliers))]
    return conda_install(prefix, *(f"{name}={release}" for name in names))
