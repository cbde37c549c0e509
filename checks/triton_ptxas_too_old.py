"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Environ, Gpu, Packages, Ptxas, PtxasUse
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.knowledge.drivers import SINCE, UNTIL, cuda_of
from cudadoctor.knowledge.triton import bringing
from cudadoctor.simulate.devices import visible
from cudadoctor.verdicts import answered
from cudadoctor.versions import numbers


@check
def triton_ptxas_too_old(
    driver: Driver, ptxas: Ptxas, packages: Packages, environ: Environ
) -> Iterator[Finding]:
    """The ptxas that Triton runs does not know this GPU: its kernels will not compile.

    ## What it means
    Triton compiles its kernels at run time, with a ptxas of its own and not with the toolkit's. That of
    Triton 3.5 is of CUDA 12.8, which does not know a GB10 (12.1) or a B300 (10.3): `ptxas fatal : Value
    'sm_121a' is not defined for option 'gpu-name'`. From 3.6 on a second one, `ptxas-blackwell`, serves
    these. vLLM has kernels of Triton's in most models; torch needs them for torch.compile alone.

    ## How to tell
    `$(python -c "import triton, os; print(os.path.dirname(triton.__file__))")/backends/nvidia/bin/ptxas
    --version`

    ## What helps
    A newer ptxas, named by `TRITON_PTXAS_PATH`, from Triton 3.6 on by `TRITON_PTXAS_BLACKWELL_PATH`: one that
    cannot be run is passed over without a word. It must be of no newer CUDA major than the driver. Or a
    newer Triton, which comes with a newer torch.
    """
    answered(driver)
    if packages.triton is None:
        raise Skip("Triton is not installed")
    seen = visible(driver.gpus, environ)
    every = {gpu.capability: gpu for gpu in seen.gpus}
    gpus = {kind: gpu for kind, gpu in every.items() if kind}
    uses = [use for use in ptxas.uses if use.capability in gpus]
    if ptxas.doubt and any(numbers(SINCE.get(kind, "")) >= (12, 8) for kind in gpus):
        raise CannotTell(ptxas.doubt)
    if any(not use.path and not use.problem for use in uses):
        raise CannotTell(f"{ptxas.source}: of the ptxas that it names none could be run")
    failing = [use for use in uses if use.problem or _is_too_old(use, packages)]
    if failing and not seen.holds(failing, every):
        raise CannotTell(seen.doubt)
    raising = {use.variable: use for use in failing if use.problem}
    yield from (_raises(use, environ.get(use.variable), ptxas, packages) for use in raising.values())
    old = [use for use in failing if not use.problem]
    for use in old:
        yield _finding(use, gpus[use.capability], ptxas, packages, driver, alone=len(old) == len(gpus))


def _knows(version: str, capability: str) -> bool:
    since, until = SINCE.get(capability, ""), UNTIL.get(version.partition(".")[0], "")
    return numbers(since) <= numbers(version)[:2] and numbers(until) <= numbers(capability)


def _raises(use: PtxasUse, named: str | None, ptxas: Ptxas, packages: Packages) -> Finding:
    what = use.path or f"(empty) of {use.variable}"
    helps = f"chmod +x {shlex.quote(use.path)}" if named is None else f"unset {use.variable}"
    return Finding(
        f"Triton cannot run its ptxas {what}: {use.problem}",
        Severity.ERROR if packages.find("vllm") is not None else Severity.WARNING,
        (
            Evidence(use.path if named is None else use.variable, f"{use.path or '(empty)'}: {use.problem}"),
            Evidence(ptxas.source, "raises, where a file that is not there would be passed over"),
        ),
        (Remedy("show", {}, helps),),
    )


def _compiles(use: PtxasUse) -> bool:
    """Return whether torch.compile fares better: it takes torch's own ptxas where there is one."""
    return bool(use.compile_version) and _knows(use.compile_version, use.capability)


def _is_too_old(use: PtxasUse, packages: Packages) -> bool:
    spared = _compiles(use) and packages.find("vllm") is None
    return not spared and not _knows(use.version, use.capability)


def _finding(
    use: PtxasUse, gpu: Gpu, ptxas: Ptxas, packages: Packages, driver: Driver, *, alone: bool
) -> Finding:
    needed = packages.find("vllm") is not None and not _compiles(use)
    since = SINCE.get(use.capability, "")
    architecture = f"sm_{use.capability.replace('.', '')}" + "a" * (numbers(use.capability) >= (9, 0))
    came = f"; {architecture} came with {since}" if since else f", which has no {architecture}"
    evidence = [
        Evidence(use.path, f"is of CUDA {use.version}{came}"),
        Evidence("NVML", f"GPU {gpu.index}: {gpu.name}, compute capability {use.capability}"),
        Evidence(ptxas.source, "chooses this ptxas"),
    ]
    if use.passed_over:
        evidence.append(Evidence(use.variable, f"{use.passed_over} cannot be run: Triton passes it over"))
    first, *others = _remedies(use, since, ptxas, driver)
    return Finding(
        f"Triton's ptxas {use.version} does not know {gpu.name} (compute capability {use.capability})",
        Severity.ERROR if needed and alone else Severity.WARNING,
        tuple(evidence),
        (Remedy("show", {}, first, tuple(Remedy("show", {}, other) for other in others)),),
    )


def _remedies(use: PtxasUse, since: str, ptxas: Ptxas, driver: Driver) -> list[str]:
    """Return what helps: a ptxas within reach that the driver can follow, and a Triton that brings one."""
    if numbers(use.version) >= numbers(since):
        return [f"unset {use.variable}"]  # one too new for the GPU is none that Triton brings
    reach = numbers(driver.nvml.cuda or cuda_of(driver.version))[:1] or (99,)
    known = sorted(ptxas.others.items(), key=lambda other: numbers(other[1]))
    fit = [
        path
        for path, version in known
        if numbers(version)[:2] >= numbers(since) and numbers(version)[:1] <= reach
    ]
    found = [export("show", **{use.variable: path}).summary for path in fit[:1]]
    newer = bringing(since)
    return [*found, newer or f"a Triton whose ptxas is of CUDA {since} or newer"]
