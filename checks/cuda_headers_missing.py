"""See the check's own page."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

from msgspec import Struct, structs

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Conda, Environ, Packages, Paths, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.knowledge.headers import HEADERS, Header
from cudadoctor.simulate.choice import consumers, judged, nothing_compiles
from cudadoctor.simulate.lines import include_folders
from cudadoctor.verdicts import conda_install, of_launch, pip_install, pip_of, severity_for
from cudadoctor.versions import numbers, series


@check
def cuda_headers_missing(
    toolkits: Toolkits, environ: Environ, packages: Packages, conda: Conda, paths: Paths | None = None
) -> Iterator[Finding]:
    """CUDA headers that a just-in-time build includes are not where its compilers look.

    ## What it means
    nvcc adds the include folders of its own `nvcc.profile`; the host compiler sees `$CUDA_HOME/include` and
    `CPATH` alone. In a conda environment the headers lie under `targets/`: nvcc finds them, FlashInfer's C++
    files and tvm-ffi's add-on do not. When that add-on cannot be built, torch before 2.10 raises
    `BufferError: float8 types are not supported by dlpack`. A minimal toolkit lacks the headers of single
    libraries: the operators that need them fail at their first use.

    ## How to tell
    `echo '#include <cuda_runtime_api.h>' | g++ -x c++ -fsyntax-only -isystem "$CUDA_HOME/include" -` fails.

    ## What helps
    `CPATH` where the header is in another folder of the same CUDA version, or one relative link where the
    toolkit has no `include` at all; else the development package that brings the header.
    """
    who = consumers(packages, toolkits, environ)
    if not who:
        raise Skip(nothing_compiles(packages))
    toolkit = judged(toolkits, packages, who)
    if toolkit is None:
        raise CannotTell("no toolkit of torch's CUDA with its headers is within reach (see cuda-home-wrong)")
    seen_by_nvcc = {name for folder in _nvcc_folders(toolkit, environ) for name in _present(folder, toolkits)}
    seen_by_host = {
        name for folder in include_folders(toolkit.root, environ) for name in _present(folder, toolkits)
    }
    missing = _Missing(toolkit, toolkits, environ, conda, packages, paths)
    hidden = [h for h in HEADERS if h.flashinfer == "all" and h.name in seen_by_nvcc - seen_by_host]
    shown = [*_absent(missing, packages, who, seen_by_nvcc), *_hidden(hidden, missing, packages, who)]
    cpath = ":".join(
        dict.fromkeys([*filter(None, environ.entries("CPATH")), *(f for _, f in reversed(shown) if f)])
    )
    for finding, folder in shown:
        # One value for all of them: a second export would take the first one back. The toolkit's own folder
        # comes before those of others, so that they add to it and hide nothing of it.
        path = structs.replace(export("include-path", CPATH=cpath), instead=finding.remedies)
        link = _link(toolkit, toolkits, folder, path) if [f for _, f in shown if f] == [folder] else None
        cure = (link or path,) if folder else finding.remedies
        yield structs.replace(finding, remedies=cure)


class _Missing(Struct, frozen=True):
    """Where headers are missing, and what tells which package brings them."""

    toolkit: Toolkit
    toolkits: Toolkits
    environ: Environ
    conda: Conda
    packages: Packages
    paths: Paths | None


def _nvcc_folders(toolkit: Toolkit, environ: Environ) -> list[str]:
    return [*toolkit.include, *include_folders(toolkit.root, environ)]


def _present(folder: str, toolkits: Toolkits) -> tuple[str, ...]:
    directory = toolkits.headers.get(folder)
    return directory.headers if directory else ()


def _link(toolkit: Toolkit, toolkits: Toolkits, folder: str, path: Remedy) -> Remedy | None:
    """Return the link `include -> targets/...` where a toolkit hides its headers there and has no include."""
    include = f"{toolkit.root}/include"
    at_root = toolkits.headers.get(include)
    if not folder.startswith(f"{toolkit.root}/targets/") or at_root is None or at_root.exists:
        return None
    text = folder[len(toolkit.root) + 1 :]
    command = f"ln -s {shlex.quote(text)} {shlex.quote(include)}"
    return Remedy("toolkit-headers", {"path": include, "text": text}, command, (path,))


def _absent(
    missing: _Missing, packages: Packages, who: tuple[str, ...], seen: set[str]
) -> Iterator[tuple[Finding, str]]:
    """Report headers that not even nvcc finds: those of every build, then those of single operators.

    With each finding comes the folder that CPATH could add, "" where only a package helps.
    """
    absent = [h for h in HEADERS if h.flashinfer and h.name not in seen]
    looked = _looked(missing.toolkit, missing.toolkits)
    if always := [h for h in absent if h.flashinfer == "all"]:
        names, root = ", ".join(h.name for h in always), missing.toolkit.root
        summary = f"nvcc will not find {names}: no CUDA code compiles with CUDA_HOME={root}"
        cure = _packages(always, missing)
        severity, shown = severity_for(who, packages, missing.paths), of_launch(who, missing.paths)
        yield Finding(summary, severity, (*looked, *shown), (cure,)), _elsewhere(always, missing)
    for linked in (False, True) if "flashinfer" in who else ():
        some = [h for h in absent if h.flashinfer != "all" and h.linked is linked]
        if some:
            operators = ", ".join(dict.fromkeys(name for h in some for name in h.flashinfer.split(", ")))
            summary = f"FlashInfer's {operators} will not compile: no {', '.join(h.name for h in some)}"
            folder = "" if linked else _elsewhere(some, missing)
            yield Finding(summary, Severity.WARNING, looked, (_packages(some, missing),)), folder


def _looked(toolkit: Toolkit, toolkits: Toolkits) -> tuple[Evidence, ...]:
    """Show where nvcc looks; a second folder that holds the very same is the same one through a link."""
    folders = {_present(folder, toolkits): folder for folder in reversed(toolkit.include)}
    return tuple(Evidence(folder, "nvcc looks here: not in it") for folder in folders.values()) or (
        Evidence(f"{toolkit.root}/include", "no such folder"),
    )


def _elsewhere(wanted: list[Header], missing: _Missing) -> str:
    """Return another folder of the same CUDA version that has these headers, or ""."""
    minor, names = series(missing.toolkit.version), {header.name for header in wanted}
    for folder, directory in missing.toolkits.headers.items():
        if directory.cudart_version == minor and names <= set(directory.headers):
            return folder
    return ""


def _packages(wanted: list[Header], missing: _Missing) -> Remedy:
    """Return the packages that bring the headers, and the link names with them."""
    toolkit, minor = missing.toolkit, series(missing.toolkit.version)
    layouts = {"conda": "conda", "conda-target": "conda", "pip-cu12": "pip12", "pip-cu13": "pip13"}
    column = layouts.get(toolkit.layout, "apt")
    names = dict.fromkeys(getattr(h.package, column).format(mm=minor.replace(".", "-")) for h in wanted)
    return _install(column, list(names), missing)


def _install(column: str, names: list[str], missing: _Missing) -> Remedy:
    toolkit, minor, conda = missing.toolkit, series(missing.toolkit.version), missing.conda
    if column == "conda":
        prefix = toolkit.root.partition("/targets/")[0]
        version = conda.cuda_version if conda.prefix == prefix else ""
        return conda_install(prefix, f"cuda-version={version or minor}", *names)
    if column == "apt":
        return Remedy("show", {}, f"the packages {', '.join(names)} of NVIDIA's repository bring them")
    return _pip(names, missing)


def _pip(names: list[str], missing: _Missing) -> Remedy:
    """Return the command that pip takes; shown only for damaged wheels and unknown versions."""
    installed = {name: d.version for name in names if (d := missing.packages.find(name)) is not None}
    pins = {name: installed.get(name) or _pin(name, missing) for name in names}
    wanted = [f"{name}=={pin}" if pin else name for name, pin in pins.items()]
    remedy = pip_install(pip_of(missing.packages), *wanted, again=bool(installed))
    if installed:
        return remedy
    if all(pins.values()) and _is_in_environment(missing.toolkit, missing.packages):
        return remedy
    remark = "" if all(pins.values()) else "  # the versions that torch pins"
    return Remedy("show", {}, remedy.summary + remark)


#: Wheels of NVIDIA that carry the number of the CUDA release; libraries have numbers of their own.
_NUMBERED = re.compile(r"nvidia-cuda-(runtime|nvcc|crt|nvrtc)(-cu12)?")


def _pin(name: str, missing: _Missing) -> str:
    """Return the one version that torch pins, or the cuda-toolkit that it requires; "" for none."""
    pins = set()
    for holder in ("torch", "cuda-toolkit"):
        distribution = missing.packages.find(holder)
        for line in distribution.requires if distribution else ():
            found = re.match(rf"{re.escape(name)}\s*\(?==\s*([\w.*]+)", line)
            pins |= {found[1]} if found else set()
    if len(pins) == 1:
        return pins.pop()
    minor = series(missing.toolkit.version)
    return f"{minor}.*" if not pins and minor and _NUMBERED.fullmatch(name) else ""


def _is_in_environment(toolkit: Toolkit, packages: Packages) -> bool:
    """Return whether a pip toolkit lies beside the packages of the environment: pip installs nowhere else."""
    folders = {d.location for d in packages.distributions if d.name in ("torch", "flashinfer-python")}
    return any(toolkit.root.startswith(f"{folder}/") for folder in folders)


def _hidden(
    hidden: list[Header], missing: _Missing, packages: Packages, who: tuple[str, ...]
) -> Iterator[tuple[Finding, str]]:
    """Report headers that nvcc finds and the host compiler does not: conda's targets/ layout."""
    toolkit, toolkits = missing.toolkit, missing.toolkits
    addon = _addon(packages)
    if not hidden or (not addon and "flashinfer" not in who):
        return
    holder = next(f for f in toolkit.include if hidden[0].name in _present(f, toolkits))
    names = ["FlashInfer's C++ files"] if "flashinfer" in who else []
    names += ["tvm-ffi's torch add-on (without it FP8 tensors raise BufferError)"] if addon else []
    evidence = [
        Evidence(
            f"{toolkit.root}/include", f"no {hidden[0].name}; CUDA_HOME={toolkit.root} makes builds look here"
        ),
        Evidence(holder, f"has {hidden[0].name}; nvcc looks here by its own nvcc.profile"),
    ]
    summary = f"g++ will not find {hidden[0].name} for {' and '.join(names)}"
    # The add-on is for FP8 tensors that FlashInfer is handed.
    severity = severity_for(("flashinfer",), packages, missing.paths) if addon else Severity.WARNING
    yield Finding(summary, severity, (*evidence, *of_launch(who, missing.paths))), holder


def _addon(packages: Packages) -> bool:
    """Return whether tvm-ffi will compile its torch add-on: torch before 2.10 and no prebuilt one."""
    if packages.torch is None or packages.find("apache-tvm-ffi") is None:
        return False
    return (2,) <= numbers(packages.torch.version) < (2, 10) and packages.find("torch-c-dlpack-ext") is None
