"""Reports made by hand for the tests of the renderers."""

from cudadoctor.facts import (
    Distribution,
    Environ,
    Facts,
    FlashInfer,
    Machine,
    NvccOnPath,
    Packages,
    Selection,
    Target,
    Toolkit,
    Toolkits,
    TorchBuild,
    Unknown,
)
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.outcomes import Crashed, Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.report import Report, Tool

HOME = "/home/ada"
SITE = f"{HOME}/envs/vllm/lib/python3.11/site-packages"
ROOT = "/usr/local/cuda-13.0"
NVCC = NvccOnPath("/usr/local/bin/nvcc", "script", f"{ROOT}/bin/nvcc", f"line 2: exec {ROOT}/bin/nvcc")
SELECTION = Selection("flashinfer", "/usr/local", "two folders up from /usr/local/bin/nvcc", True, True)
TOOLKIT = Toolkit(ROOT, ROOT, "cuda", "13.0.88", "nvcc", ("nvcc on PATH",), f"{ROOT}/bin/nvcc")
PACKAGES = Packages(
    tuple(
        Distribution(name, version, SITE)
        for name, version in (
            ("torch", "2.14.1"),
            ("vllm", "0.12.0"),
            ("flashinfer-python", "0.7.2.post1"),
            ("triton", "3.5.1"),
        )
    ),
    TorchBuild("2.14.1+cu130", f"{SITE}/torch", "13.0"),
    FlashInfer("0.7.2.post1", (), "known form"),
)


def finding(
    summary: str = "something is wrong",
    severity: Severity = Severity.ERROR,
    evidence: tuple[Evidence, ...] = (),
    remedies: tuple[Remedy, ...] = (),
    suppressed: str = "",
) -> Finding:
    """Return a finding."""
    return Finding(summary, severity, evidence, remedies, suppressed)


def target() -> Target:
    """Return an active venv."""
    prefix = f"{HOME}/envs/vllm"
    include = "/usr/include/python3.11"
    return Target(
        prefix, "venv", f"{prefix}/bin/python", "3.11.7", "/usr", (SITE,), include, "VIRTUAL_ENV", True
    )


def toolkits(
    found: tuple[Toolkit, ...], selection: Selection | None = None, nvcc: NvccOnPath | None = None
) -> Toolkits:
    """Return toolkits without headers."""
    return Toolkits(found, (selection,) if selection else (), {}, nvcc)


def outcomes() -> tuple[Outcome, ...]:
    """Return one outcome of every kind, in no order."""
    remedy = Remedy("cuda-home", {"CUDA_HOME": ROOT}, f"export CUDA_HOME={ROOT}")
    by_hand = Remedy("show", {}, f'export PATH="{HOME}/envs/vllm/bin:$PATH"')
    wrong = finding(
        "torch and vLLM will take CUDA_HOME=/usr/local: no headers",
        evidence=(
            Evidence("/usr/local/bin/nvcc", f"is a script, line 2: exec {ROOT}/bin/nvcc"),
            Evidence("/usr/local", "no include/cuda_runtime.h in it"),
        ),
        remedies=(remedy,),
    )
    link = finding(
        "the link will stop with: cannot find -lcudart",
        evidence=(Evidence("/usr/local/lib64", "no such folder"),),
        remedies=(remedy,),
    )
    ninja = finding(
        "ninja is not on the PATH that FlashInfer will see",
        Severity.WARNING,
        (Evidence(f"{HOME}/envs/vllm/bin/ninja", "exists"),),
        (by_hand,),
    )
    return (
        Passed("b-passes", duration_ms=0.25),
        Inconclusive("host-compiler-unsupported", "compilers: did not end in time"),
        Failed("ninja-missing", findings=(ninja,)),
        Failed("cuda-home-wrong", findings=(wrong,)),
        Failed("cudart-link-missing", findings=(link,)),
        Failed(
            "libcuda-link-missing",
            findings=(finding("no stub", Severity.WARNING, suppressed="built elsewhere"),),
        ),
        Crashed("plug-in-check", "ZeroDivisionError: division by zero at /x/y.py:3"),
        Skipped("jit-build-fails", "deep: runs only with --deep"),
        Passed("a-passes"),
    )


def report(
    *ended: Outcome,
    target: Target | Unknown | None = None,
    toolkits: Toolkits | Unknown | None = None,
    packages: Packages | Unknown = PACKAGES,
    judged: str = "the current variables",
    replayed: bool = False,
) -> Report:
    """Return a report with these outcomes, or with one of every kind."""
    chosen = _TARGET if target is None else target
    seen = Facts(
        target=chosen,
        environ=Environ({}, judged),
        packages=packages,
        toolkits=toolkits or Toolkits((TOOLKIT,), (SELECTION,), {}, NVCC),
        machine=Machine("x86_64", "Linux", "Debian", "6.1", 8, 1, 1, 8192, None, home=HOME),
    )
    tool = Tool("cudadoctor", "0.1.0")
    return Report(tool, "2026-11-21T09:00:00Z", chosen, seen, ended or outcomes(), 142.3, replayed)


_TARGET = target()
