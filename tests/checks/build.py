"""Facts made by hand: each builder gives one section of a healthy machine, and takes what the test is about.

judge("nvcc-headers-mismatch", toolkits=toolkits(headers="13.0"), environ=environ(CPATH="/opt/inc"), ...)
"""

from __future__ import annotations

from collections.abc import Mapping

from cudadoctor.facts import (
    BuildTool,
    BuildTools,
    Compiler,
    Compilers,
    CompilerUse,
    Conda,
    CondaRecord,
    Distribution,
    Environ,
    FlashInfer,
    HeaderDirectory,
    Libraries,
    LibraryFile,
    LinkDirectory,
    LinkSearch,
    Machine,
    NvccOnPath,
    Packages,
    Selection,
    Toolkit,
    Toolkits,
    TorchBuild,
    Triton,
    Variable,
)
from cudadoctor.findings import Finding, Severity
from cudadoctor.knowledge import headers as known
from cudadoctor.outcomes import Outcome
from cudadoctor.probes.libraries import NAMES

CUDA = "/usr/local/cuda"
PREFIX = "/opt/env"
SITE = f"{PREFIX}/lib/python3.12/site-packages"
FLASHINFER_LDFLAGS = ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")
LINK_NAMES = tuple(sorted({f"lib{name}{end}" for name in NAMES for end in (".so", ".a")}))


def environ(origin: str = "environment", cwd: str = "/home/ada", /, **variables: str) -> Environ:
    """Return these variables, all from `origin`."""
    held = {name: Variable(value, origin) for name, value in variables.items()}
    return Environ(held, "the current variables", ("/usr/bin",), cwd)


def packages(torch: str = "2.10.0", cuda: str = "12.8", flashinfer: str = "0.6.4", **more: str) -> Packages:
    """Return an environment with torch and FlashInfer; "" leaves one out.

    `more` are further distributions: `nvidia_cuda_nvcc="13.3.33"`. `triton` and `jit_cache` are known.
    """
    triton, cache = more.pop("triton", ""), more.pop("jit_cache", "")
    stack = {"torch": torch, "flashinfer-python": flashinfer, "triton": triton, "flashinfer-jit-cache": cache}
    listed = {**stack, "pip": "26.0", **{name.replace("_", "-"): version for name, version in more.items()}}
    return Packages(
        tuple(Distribution(name, version, SITE, "pip") for name, version in listed.items() if version),
        TorchBuild(torch, f"{SITE}/torch", cuda) if torch else None,
        FlashInfer(flashinfer, FLASHINFER_LDFLAGS, "cpp_ext.py", cache) if flashinfer else None,
        Triton(triton, f"{SITE}/triton", ("libcuda.so.1",), "driver.py") if triton else None,
    )


def toolkit(
    root: str = CUDA,
    version: str = "12.8.93",
    layout: str = "cuda",
    *,
    nvcc: bool = True,
    arch: str = "x86_64",
) -> Toolkit:
    """Return one toolkit in the folders of its layout."""
    target = f"{root}/targets/{'x86_64-linux' if arch == 'x86_64' else 'sbsa-linux'}"
    folders = {
        "cuda": ((f"{root}/include",), (f"{root}/lib64",)),
        "conda": ((f"{root}/include", f"{target}/include"), (f"{root}/lib", f"{target}/lib")),
    }
    include, lib = folders.get(layout, ((f"{root}/include",), (f"{root}/lib",)))
    source = {"conda": "conda record of cuda-nvcc-tools", "pip-cu13": "distribution nvidia-cuda-nvcc"}.get(
        layout, f"{root}/version.json"
    )
    stubs = () if layout.startswith("pip") else tuple(f"{folder}/stubs" for folder in lib)
    path = f"{root}/bin/nvcc" if nvcc else ""
    return Toolkit(root, root, layout, version, source, ("nvcc on PATH",), path, include, lib, stubs)


def header_folder(version: str, *without: str) -> HeaderDirectory:
    """Return a complete include folder of this CUDA version, but for the headers named."""
    return HeaderDirectory(True, tuple(name for name in known.NAMES if name not in without), version, 14, 19)


def toolkits(
    *found: Toolkit,
    headers: str = "12.8",
    more_headers: Mapping[str, HeaderDirectory] | None = None,
    rule: str = "CUDA_HOME",
    root: str = "",
    nvcc_on_path: NvccOnPath | None = None,
) -> Toolkits:
    """Return the toolkits (one healthy 12.8 by default), the first of them selected by every consumer.

    Headers of version `headers` stand in the last include folder of each; `root` is another selection.
    """
    known_ones = found or (toolkit(),)
    directories = {folder: HeaderDirectory(True) for kit in known_ones for folder in kit.include}
    directories |= {kit.include[-1]: header_folder(headers) for kit in known_ones if kit.include}
    chosen = root or known_ones[0].root
    has_nvcc = any(kit.root == chosen and kit.nvcc for kit in known_ones)
    consumers = ("flashinfer", "torch", "tvm-ffi", "cmake")
    selections = tuple(Selection(name, chosen, rule, has_nvcc, True) for name in consumers)
    return Toolkits(known_ones, selections, {**directories, **(more_headers or {})}, nvcc_on_path)


def no_toolkits() -> Toolkits:
    """Return what is seen where there is no CUDA toolkit at all."""
    return Toolkits((), (), {})


def shared(link: str = "", resolved: str = "", machine: str = "x86_64") -> LibraryFile:
    """Return a shared library, or a link to one."""
    return LibraryFile("shared", machine, 64, link, resolved)


def dangling(link: str, resolved: str = "") -> LibraryFile:
    """Return a link whose target is gone."""
    return LibraryFile("dangling", link=link, resolved=resolved or link)


def folder(real: str = "", /, **files: LibraryFile) -> LinkDirectory:
    """Return a folder of libraries: `folder(cudart=shared())` holds libcudart.so."""
    return LinkDirectory(True, {f"lib{name}.so": file for name, file in files.items()}, real)


def libraries(
    directories: Mapping[str, LinkDirectory] | None = None, *, driver: tuple[str, ...] = ()
) -> Libraries:
    """Return these folders as all that was looked at."""
    return Libraries(dict(directories or {}), LINK_NAMES, {}, driver)


def compilers(*consumers: str, folders: tuple[str, ...] = ()) -> Compilers:
    """Return one GCC that these consumers (FlashInfer and torch by default) link with."""
    gcc = Compiler(
        "c++", "/usr/bin/c++", "gcc", "12.2.0",
        LinkSearch(("{-L}", *folders), "/usr/bin/ld", "x86_64"),
    )  # fmt: skip
    uses = tuple(
        CompilerUse(name, "link", "c++", "the default") for name in consumers or ("flashinfer", "torch")
    )
    return Compilers({"c++": gcc}, uses)


def records(*more: CondaRecord, prefix: str = PREFIX, **versions: str) -> Conda:
    """Return a conda environment: `records(cuda_nvcc="12.8.61")`; `__linux` stands for `_linux-64`."""
    named = {
        name.replace("__linux", "@").replace("_", "-").replace("@", "_linux-64"): version
        for name, version in versions.items()
    }
    found = (*(CondaRecord(name, version, "h0_0", "conda-forge") for name, version in named.items()), *more)
    return Conda(prefix, found, len(found), named.get("cuda-version", ""))


def machine(cores: int = 8, available_gib: float = 24, arch: str = "x86_64") -> Machine:
    """Return a host with so much memory to spare."""
    available = int(available_gib * (1 << 30))
    return Machine(arch, "Linux", "Debian GNU/Linux 12", "6.1.0", cores, 2 * available, available, 8192, None)


def tools(**paths: str) -> BuildTools:
    """Return the build programs on PATH: `tools(cmake="/usr/bin/cmake")`."""
    names = ("ninja", "cmake", "ccache")
    return BuildTools(
        {name: BuildTool(paths.get(name, "")) for name in names}, "/usr/include/python3.12/Python.h"
    )


def severities(outcome: Outcome) -> list[str]:
    """Return how bad each finding is: ["error", "note"]."""
    return [finding.severity.value for finding in outcome.findings]


def one(outcome: Outcome, severity: Severity | None = None) -> Finding:
    """Return the only finding; fail where there is none, another, or one of another severity."""
    (finding,) = outcome.findings
    assert severity is None or finding.severity is severity, finding
    assert finding.evidence, "a finding shows its evidence"
    assert not finding.summary.endswith(".") and "\n" not in finding.summary
    return finding


def shown(finding: Finding) -> str:
    """Return everything a finding says, for `in`."""
    lines = [finding.summary, *(f"{e.source}: {e.detail}" for e in finding.evidence)]
    return "\n".join([*lines, *(remedy.summary for remedy in finding.remedies)])
