"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct, structs

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, HeaderDirectory, Packages, Paths, Selection, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.choice import consumers, nothing_compiles
from cudadoctor.verdicts import conda_install, of_launch, pip_install, pip_of
from cudadoctor.versions import numbers, series


@check
def nvcc_headers_mismatch(
    toolkits: Toolkits, environ: Environ, packages: Packages, paths: Paths | None = None
) -> Iterator[Finding]:
    """nvcc is of one CUDA release, the headers that it will compile with are of another.

    ## What it means
    CCCL, which CUDA 13 and newer FlashInfer bring, stops with `#error "CUDA compiler and CUDA toolkit headers
    are incompatible"` where the first two numbers differ. Older headers let it pass, and fail later at names
    that one side has and the other has not. pip can install `nvidia-cuda-nvcc` 13.3 beside the runtime of
    13.0 that torch pins. A folder in `CPATH` comes before `$CUDA_HOME/include`, but not before the folder of
    nvcc's own `nvcc.profile` where that is another one, as in a conda environment.

    ## How to tell
    `echo CUDART_VERSION | nvcc -isystem "$CUDA_HOME/include" -E -x cu -` ends in 13000, `nvcc --version` says
    13.3.

    ## What helps
    The compiler's packages of the headers' release, where torch pins the headers; `CPATH` without the other
    toolkit.
    """
    who = consumers(packages, toolkits, environ)
    if not who:
        raise Skip(nothing_compiles(packages))
    selection = next(s for s in toolkits.selections if s.consumer in who)
    if not selection.has_nvcc or (toolkit := _compiler(selection, toolkits)) is None:
        raise Skip(f"CUDA_HOME={selection.root} has no nvcc of a known toolkit (see nvcc-missing)")
    if (headers := _headers(selection, toolkit, toolkits, environ)) is None:
        return
    if not _nvcc_is_known(toolkit):
        raise CannotTell(f"{toolkit.nvcc}: its version could not be read")
    if headers.version != series(toolkit.version):
        found = _finding(who, toolkit, headers, toolkits, environ, packages)
        if paths is not None and paths.flashinfer is not True:
            found = structs.replace(found, severity=Severity.WARNING)
        yield structs.replace(found, evidence=(*found.evidence, *of_launch(who, paths)))
    elif toolkit.layout.startswith("pip"):
        yield from _parts(toolkit, packages)


class _Headers(Struct, frozen=True):
    folder: str
    version: str
    variable: str = ""  #: the one that puts the folder in front: CPATH


def _compiler(selection: Selection, toolkits: Toolkits) -> Toolkit | None:
    """Return the toolkit whose nvcc will run: the selected one, or what a wrapper script in it starts."""
    found = toolkits.at(selection.root)
    if found is not None and found.nvcc:
        return found
    nvcc = toolkits.nvcc_on_path
    if nvcc is None or not nvcc.runs or nvcc.path != f"{selection.root}/bin/nvcc":
        return None
    return toolkits.at(nvcc.runs.rpartition("/bin/")[0])


def _headers(selection: Selection, toolkit: Toolkit, toolkits: Toolkits, environ: Environ) -> _Headers | None:
    """Return the headers that nvcc takes; None where it finds none, which is another check's to say.

    The folder of nvcc's own profile comes first, as -I, unless the consumer names the same folder with
    -isystem: GCC then drops the -I, and CPATH comes before it. Tried with nvcc 13.0 in both layouts.
    """
    own = next((folder for folder in toolkit.include if _has_runtime(toolkits.headers.get(folder))), "")
    named = f"{selection.root}/include"
    if not own or own == named or _same(named, own, toolkit):
        for folder in (environ.get("CPATH") or "").split(":"):
            if folder and folder not in (own, named) and _is_whole(toolkits.headers.get(folder)):
                return _stated(folder, toolkits, "CPATH")
    folder = own or (named if _has_runtime(toolkits.headers.get(named)) else "")
    return _stated(folder, toolkits) if folder else None


def _same(named: str, own: str, toolkit: Toolkit) -> bool:
    """Return whether both are one folder: the toolkit selected by another spelling of its root."""
    return own == f"{toolkit.root}/include" and named in (
        f"{toolkit.root}/include",
        f"{toolkit.real}/include",
    )


def _has_runtime(directory: HeaderDirectory | None) -> bool:
    return directory is not None and "cuda_runtime_api.h" in directory.headers


def _is_whole(directory: HeaderDirectory | None) -> bool:
    """Return whether a folder is a toolkit's own; a part of one loses to the headers that it includes."""
    return directory is not None and {"cuda_runtime.h", "crt/host_config.h"} <= set(directory.headers)


def _stated(folder: str, toolkits: Toolkits, variable: str = "") -> _Headers:
    version = toolkits.headers[folder].cudart_version
    if not version:
        raise CannotTell(f"{folder}/cuda_runtime_api.h: no CUDART_VERSION could be read in it")
    return _Headers(folder, version, variable)


def _nvcc_is_known(toolkit: Toolkit) -> bool:
    """Return whether the version is nvcc's own, not read from the headers for want of it."""
    return bool(toolkit.version) and not toolkit.version_source.endswith("cuda_runtime_api.h")


def _finding(
    who: tuple[str, ...], toolkit: Toolkit, headers: _Headers, toolkits: Toolkits, environ: Environ,
    packages: Packages,
) -> Finding:  # fmt: skip
    evidence = [
        Evidence(toolkit.version_source, f"nvcc {toolkit.version}, at {toolkit.nvcc}"),
        Evidence(f"{headers.folder}/cuda_runtime_api.h", f"CUDART_VERSION of CUDA {headers.version}"),
    ]
    if headers.variable:
        value = environ.get(headers.variable)
        evidence.append(Evidence(environ.where(headers.variable), f"{headers.variable}={value}"))
    if toolkit.layout.startswith("pip"):
        evidence += _pip_evidence(packages)
    return Finding(
        f"nvcc is of CUDA {series(toolkit.version)}, the headers it will use are of {headers.version}",
        _severity(who, toolkit, headers.version, packages),
        tuple(evidence),
        tuple(_remedies(toolkit, headers, toolkits, environ, packages)),
    )


def _severity(who: tuple[str, ...], toolkit: Toolkit, headers: str, packages: Packages) -> Severity:
    """An error where the build stops for certain: another major, or a CCCL that compares the two.

    CCCL compares them since CUDA 13; FlashInfer 0.7 brings such a CCCL whatever the toolkit, 0.5.3 brings
    none.
    """
    if "flashinfer" not in who or packages.flashinfer is None:
        return Severity.WARNING
    majors = {numbers(toolkit.version)[:1], numbers(headers)[:1]}
    vendored = numbers(packages.flashinfer.version) >= (0, 7)
    return Severity.ERROR if len(majors) > 1 or max(majors) >= (13,) or vendored else Severity.WARNING


def _remedies(
    toolkit: Toolkit, headers: _Headers, toolkits: Toolkits, environ: Environ, packages: Packages
) -> Iterator[Remedy]:
    if headers.variable:
        entries = (environ.get(headers.variable) or "").split(":")
        kept = [entry for entry in entries if entry and not _deviates(toolkits.headers.get(entry), toolkit)]
        yield export("include-path", **{headers.variable: ":".join(kept)})
    elif toolkit.layout.startswith("pip"):
        yield from _pip_remedy(headers.version, toolkit, packages)
    elif toolkit.layout.startswith("conda"):
        prefix, release = toolkit.root.partition("/targets/")[0], series(toolkit.version)
        names = ("cuda-version", "cuda-nvcc", "cuda-cudart-dev")
        yield conda_install(prefix, *(f"{name}={release}" for name in names))


def _deviates(directory: HeaderDirectory | None, toolkit: Toolkit) -> bool:
    """Return whether a folder of CPATH holds the headers of another release than nvcc's."""
    if directory is None or not _is_whole(directory):
        return False
    return directory.cudart_version != series(toolkit.version)


#: The wheels that make up a pip toolkit's compiler, and the one that brings the runtime's headers.
_COMPILER_PARTS = ("nvidia-cuda-nvcc", "nvidia-cuda-crt", "nvidia-nvvm")
_RUNTIME = "nvidia-cuda-runtime"


def _pip_evidence(packages: Packages) -> list[Evidence]:
    found = (packages.find(name) for name in (*_COMPILER_PARTS, _RUNTIME))
    return [Evidence(f"{d.location}", f"{d.name} {d.version}") for d in found if d is not None]


def _pip_remedy(release: str, toolkit: Toolkit, packages: Packages) -> Iterator[Remedy]:
    """Yield the compiler of the headers' release: torch pins the runtime, nothing pins the compiler.

    A pip toolkit of another environment is not to be changed by what is installed in this one.
    """
    installed = (packages.find(name) for name in _COMPILER_PARTS)
    names = [d.name for d in installed if d is not None and toolkit.root.startswith(f"{d.location}/")]
    if names:
        yield pip_install(pip_of(packages), *(f"{name}=={release}.*" for name in names))


def _parts(toolkit: Toolkit, packages: Packages) -> Iterator[Finding]:
    """Report a part of the compiler that pip took from another release than nvcc itself."""
    release = series(toolkit.version)
    for name in _COMPILER_PARTS[1:]:
        part = packages.find(name)
        if part is not None and not part.problem and series(part.version) != release:
            yield Finding(
                f"nvcc is of CUDA {release}, its part {name} of {series(part.version)}",
                Severity.WARNING,
                (Evidence(toolkit.version_source, f"nvcc {toolkit.version}"), *_pip_evidence(packages)),
                tuple(_pip_remedy(release, toolkit, packages)),
            )
