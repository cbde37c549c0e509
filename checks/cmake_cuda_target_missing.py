"""See the check's own page."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import BuildTools, Conda, Environ, Libraries, LinkDirectory, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.headers import HEADERS, Package
from cudadoctor.verdicts import conda_install

#: Targets of FindCUDAToolkit by the library they stand for, each with the header that comes with it.
_HEADERS = {
    "cudart": "cuda_runtime.h",
    "cublas": "cublas_v2.h",
    "cublasLt": "cublasLt.h",
    "cufft": "cufft.h",
    "curand": "curand.h",
    "cusolver": "cusolverDn.h",
    "cusparse": "cusparse.h",
    "nvrtc": "nvrtc.h",
}
#: What the builds that users start ask for: bitsandbytes and llama.cpp.
_USUAL = ("cudart", "cublas", "cublasLt", "cusparse")
_TRIPLES = ("x86_64-linux-gnu", "aarch64-linux-gnu")


@check
def cmake_cuda_target_missing(
    tools: BuildTools, toolkits: Toolkits, libraries: Libraries, environ: Environ, conda: Conda
) -> Iterator[Finding]:
    """CMake will not define a CUDA target that the build which is prepared here will ask for.

    ## What it means
    `find_package(CUDAToolkit)` makes a target such as `CUDA::cublas` only where it finds the link name
    `libcublas.so` in the toolkit that the nvcc belongs to, and no toolkit at all without `libcudart.so` and
    (CMake 3) `cuda_runtime.h`. A build that links the target then stops with `The link interface
    contains CUDA::cublas but the target was not found`. It is reported only where a build is meant:
    `CUDACXX`, `CUDAToolkit_ROOT` or CUDA options in `CMAKE_ARGS` are set, or conda has recorded a development
    package whose files are not there.

    ## How to tell
    A `CMakeLists.txt` with `find_package(CUDAToolkit)` and `if(NOT TARGET CUDA::cublas)`.

    ## What helps
    The development package of the library, of the same CUDA release as the toolkit.
    """
    cmake = tools.tools.get("cmake")
    if cmake is None or not cmake.path:
        raise Skip("cmake is not on PATH")
    toolkit = _toolkit(environ, toolkits)
    if toolkit.layout in ("debian", "hpc-sdk"):
        raise Skip(f"{toolkit.root}: a layout of its own, in which CMake looks elsewhere too")
    wanted = {**_recorded(conda, toolkit), **_asked_for(environ)}
    if not wanted:
        raise Skip("nothing shows that a CUDA build with CMake is meant")
    base = _base(toolkit)
    if not any(f"{base}/{tail}" in libraries.directories for tail in ("lib64", "lib")):
        raise CannotTell(f"{base}: its libraries were not looked at")
    present = _present(_folders(base, cmake.path, environ, libraries), libraries)
    missing = [name for name in _HEADERS if name in wanted and not _is_found(name, present)]
    whole = "cuda_runtime.h" in _headers(base, toolkits) and _is_found("cudart", present)
    if not whole or missing:
        yield _finding(missing, whole, wanted, base, toolkit, toolkits, conda)


def _toolkit(environ: Environ, toolkits: Toolkits) -> Toolkit:
    """Return the toolkit that CMake takes: a named compiler's or root's own, else what it finds."""
    arguments = environ.get("CMAKE_ARGS") or ""
    named = [
        _above_bin(environ.get("CUDACXX") or ""),
        *map(_above_bin, re.findall(r"-DCMAKE_CUDA_COMPILER(?::\w+)?=(\S+)", arguments)),
        *re.findall(r"-DCUDAToolkit_ROOT(?::\w+)?=(\S+)", arguments),
    ]
    selection = toolkits.selected("cmake")
    root = next(filter(None, named), selection.root if selection else "")
    if not root:
        raise Skip("CMake finds no nvcc, and so no CUDA toolkit")
    if (found := toolkits.at(root.rstrip("/"))) is None:
        raise Skip(f"{root} is no toolkit that was looked at")
    return found


def _above_bin(nvcc: str) -> str:
    return posixpath.dirname(posixpath.dirname(nvcc)) if nvcc.startswith("/") else ""


def _recorded(conda: Conda, toolkit: Toolkit) -> dict[str, str]:
    """Return the libraries whose development package conda has recorded, with the record."""
    if not conda.prefix or toolkit.root.partition("/targets/")[0] != conda.prefix:
        return {}
    found = {}
    for name, header in _HEADERS.items():
        record = conda.find(_package(header).conda)
        if record is not None and not record.problem:
            found[name] = f"{record.name} {record.version}"
    return found if set(found) - {"cudart"} else {}


def _package(header: str) -> Package:
    return next(row.package for row in HEADERS if row.name == header)


def _asked_for(environ: Environ) -> dict[str, str]:
    """Return what a build needs that some variable prepares; conda's own CMAKE_ARGS name no CUDA."""
    for variable in ("CUDACXX", "CUDAToolkit_ROOT", "CMAKE_ARGS"):
        value = environ.get(variable) or ""
        if value and (variable != "CMAKE_ARGS" or re.search("cuda", value, re.IGNORECASE)):
            return dict.fromkeys(_USUAL, f"a build prepared with {environ.where(variable)}: {value}")
    return {}


def _base(toolkit: Toolkit) -> str:
    """Return what nvcc calls TOP, which CMake takes as the root: in a conda prefix a folder of targets/."""
    if toolkit.layout == "conda":
        for folder in (*toolkit.include, *toolkit.lib):
            if "/targets/" in folder:
                return posixpath.dirname(folder)
    return toolkit.root


def _folders(base: str, cmake: str, environ: Environ, libraries: Libraries) -> list[str]:
    """Return where CMake looks for a library, as FindCUDAToolkit and find_library go about it.

    The toolkit's own folder is the one that has cudart, and no other one of it.
    """
    prefixes = [root for root in re.split("[:;]", environ.get("CMAKE_PREFIX_PATH") or "") if root]
    roots = [*prefixes, "/usr/local", "/usr", "", _above_bin(cmake), environ.get("CONDA_PREFIX") or ""]
    common = [f"{root}/lib/{triple}" for root in roots for triple in _TRIPLES]
    common += [f"{root}/{tail}" for root in roots for tail in ("lib64", "lib")]
    candidates = [f"{base}/lib64", f"{base}/lib", *common]
    home = next((f for f in candidates if _is_found("cudart", _present([f], libraries))), f"{base}/lib")
    hints = [home, *(f"{environ.get('CUDA_PATH')}/{tail}" for tail in ("lib64", "lib"))]
    return [*hints, *common, *(f"{hint}/stubs" for hint in hints)]


def _present(folders: list[str], libraries: Libraries) -> set[str]:
    """Return the file names that find_library would take in any of these folders, by whatever path."""
    seen: dict[str, LinkDirectory] = {}
    for folder, directory in libraries.directories.items():
        seen.setdefault(folder, directory)
        seen.setdefault(directory.real or folder, directory)
    files = [item for folder in folders if folder in seen for item in seen[folder].files.items()]
    return {name for name, file in files if file.kind not in ("dangling", "loop", "directory")}


def _is_found(name: str, present: set[str]) -> bool:
    return not present.isdisjoint((f"lib{name}.so", f"lib{name}.a"))


def _headers(base: str, toolkits: Toolkits) -> tuple[str, ...]:
    directory = toolkits.headers.get(f"{base}/include")
    return directory.headers if directory else ()


def _finding(
    missing: list[str], whole: bool, wanted: dict[str, str], base: str, toolkit: Toolkit, toolkits: Toolkits,
    conda: Conda,
) -> Finding:  # fmt: skip
    headers = _headers(base, toolkits)
    if whole:
        summary = "CMake will not define " + ", ".join(f"CUDA::{name}" for name in missing)
    else:
        lost = "libcudart.so" if "cuda_runtime.h" in headers else "include/cuda_runtime.h"
        summary = f"CMake will find no usable CUDA toolkit in {base}: no {lost}"
        missing = ["cudart", *(name for name in missing if name != "cudart")]
    evidence = [Evidence(toolkit.nvcc or toolkit.root, f"nvcc {toolkit.version}: CMake takes {base}")]
    for name in missing:
        header = _HEADERS[name]
        also = "" if header in headers else f", no include/{header}"
        evidence.append(Evidence(base, f"no link name lib{name}.so{also}" if whole else f"no {header}"))
    evidence += [
        Evidence("needed by", why) for why in dict.fromkeys(wanted[n] for n in missing if n in wanted)
    ]
    remedy = _remedy([_package(_HEADERS[name]) for name in missing], toolkit, conda)
    return Finding(summary, Severity.WARNING, tuple(evidence), (remedy,) if remedy else ())


def _remedy(packages: list[Package], toolkit: Toolkit, conda: Conda) -> Remedy | None:
    release = ".".join(toolkit.version.split(".")[:2])
    if toolkit.layout.startswith("conda"):
        names = list(dict.fromkeys(package.conda for package in packages))
        prefix = toolkit.root.partition("/targets/")[0]
        again = any(conda.find(name) for name in names)
        pin = f"cuda-version={conda.cuda_version or release}"
        return conda_install(prefix, pin, *names, again=again)
    if toolkit.layout == "cuda":
        minor = release.replace(".", "-")
        names = list(dict.fromkeys(package.apt.format(mm=minor) for package in packages))
        return Remedy("show", {}, f"the packages {', '.join(names)} of NVIDIA's repository bring them")
    return None
