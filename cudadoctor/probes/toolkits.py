"""Every CUDA toolkit within reach, and which one torch, FlashInfer and CMake will each take.

The rules of selection are the consumers' own: torch's `_find_cuda_home` and FlashInfer's `get_cuda_path`
read CUDA_HOME or CUDA_PATH, then go two folders up from the first nvcc on PATH, then take /usr/local/cuda.
CMake's FindCUDAToolkit never reads CUDA_HOME, reads CUDA_PATH only where no nvcc is on PATH, and asks nvcc
itself where it lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from posixpath import basename, dirname
from typing import NamedTuple

from msgspec import structs

from cudadoctor.facts import (
    Conda,
    Environ,
    HeaderDirectory,
    Machine,
    NvccOnPath,
    Packages,
    Selection,
    Target,
    Toolkit,
    Toolkits,
)
from cudadoctor.host import Host, which
from cudadoctor.knowledge import headers as known

#: The folder under targets/ that holds a machine's own files.
TARGET_FOLDERS = {"x86_64": ("x86_64-linux",), "aarch64": ("sbsa-linux", "aarch64-linux")}
_TRIPLES = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDAToolkit_ROOT")
_WELL_KNOWN = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr/lib/nvidia-cuda-toolkit")
_PIP12 = ("/nvidia/cuda_runtime", "/nvidia/cuda_nvcc")
_NVCC_TIMEOUT_S = 5.0


class _Seen(NamedTuple):
    """What the other probes saw, as far as finding toolkits needs it."""

    target: Target
    environ: Environ
    packages: Packages
    conda: Conda
    arch: str

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the names that this machine's own folder under targets/ can have."""
        return TARGET_FOLDERS.get(self.arch, ())


def probe(
    host: Host, target: Target, environ: Environ, packages: Packages, conda: Conda, machine: Machine
) -> Toolkits:
    """Return the toolkits, the selections and the headers in each of their include folders."""
    seen = _Seen(target, environ, packages, conda, machine.arch)
    nvcc = nvcc_on_path(host, environ)
    wanted = list(_selections(host, environ, nvcc))
    toolkits = tuple(_toolkits(host, seen, nvcc, wanted))
    selections = tuple(_spelled(host, selection, toolkits) for selection in wanted)
    folders = {f"{s.root}/include": None for s in selections}
    folders |= {folder: None for toolkit in toolkits for folder in toolkit.include}
    for variable in ("CPATH", "CPLUS_INCLUDE_PATH"):
        folders |= {folder: None for folder in (environ.get(variable) or "").split(":") if folder}
    return Toolkits(toolkits, selections, {folder: _headers(host, folder) for folder in folders}, nvcc)


# --- the nvcc on PATH ---------------------------------------------------------------------------------------


def nvcc_on_path(host: Host, environ: Environ) -> NvccOnPath | None:
    """Return the first nvcc on PATH, and the nvcc that it starts where it is a script or a link."""
    path = which(host, "nvcc", environ.path)
    return _described(host, path, environ) if path else None


def _described(host: Host, path: str, environ: Environ) -> NvccOnPath:
    try:
        head = host.head(path, 4096)
    except OSError:
        head = b""  # a program may be run by those who cannot read it
    if head.startswith(b"#!"):
        return _script(host, path, head.decode("utf-8", "replace"))
    if host.kind(path, follow=False) != "link":
        return NvccOnPath(path, "binary")
    real = host.realpath(path)
    if basename(real).startswith("nvcc"):
        return NvccOnPath(path, "link", real, f"-> {real}")
    # A compiler cache under nvcc's name (ccache, sccache) starts the next nvcc on PATH that is not itself.
    rest = (which(host, "nvcc", [folder]) for folder in environ.path)
    following = next((other for other in rest if other and host.realpath(other) != real), "")
    return NvccOnPath(path, "link", following, f"-> {real}")


def _script(host: Host, path: str, text: str) -> NvccOnPath:
    """Find the nvcc that a wrapper script starts: the last absolute path in it that ends in /nvcc."""
    for number, line in reversed(list(enumerate(text.splitlines(), 1))):
        if line.lstrip().startswith("#"):
            continue
        for word in re.findall(r"/[^\s\"';|&$(){}]*/nvcc(?:[.-]\w+)?(?![\w/])", line):
            if word != path and host.executable(word):
                return NvccOnPath(path, "script", word, f"line {number}: {line.strip()}")
    return NvccOnPath(path, "script")


# --- who selects what ---------------------------------------------------------------------------------------


def _up2(path: str) -> str:
    """Return the folder two above a file, as the consumers reckon: "" for a relative bin/nvcc."""
    return dirname(dirname(path))


def _selections(host: Host, environ: Environ, nvcc: NvccOnPath | None) -> Iterator[Selection]:
    root, rule = _by_home(host, environ, nvcc)
    if root is not None:
        for consumer in ("flashinfer", "torch", "tvm-ffi"):
            yield _selection(host, consumer, root, rule)
    if chosen := _by_cmake(host, environ, nvcc):
        yield _selection(host, "cmake", *chosen)


def _selection(host: Host, consumer: str, root: str, rule: str) -> Selection:
    exists = host.kind(root) == "directory"
    return Selection(consumer, root, rule, host.executable(f"{root}/bin/nvcc"), exists)


def _by_home(host: Host, environ: Environ, nvcc: NvccOnPath | None) -> tuple[str | None, str]:
    """Apply the rule that torch, FlashInfer and tvm-ffi share, an empty CUDA_HOME included."""
    home = environ.get("CUDA_HOME")
    if home:
        return home, "CUDA_HOME"
    if (path := environ.get("CUDA_PATH")) is not None:
        return path, "CUDA_PATH"
    if nvcc is not None:
        return _up2(nvcc.path), f"two folders up from {nvcc.path}, the first nvcc on PATH"
    default = "/usr/local/cuda"
    return (default if host.kind(default) else None), "the default, as no nvcc is on PATH"


def _by_cmake(host: Host, environ: Environ, nvcc: NvccOnPath | None) -> tuple[str, str] | None:
    """Apply the order of CMake: CUDACXX, its own variables, PATH, /usr/local, CUDA_PATH, the default."""
    cxx = environ.get("CUDACXX") or ""
    if compiler := which(host, cxx, environ.path) if cxx else "":
        return _lives(host, _described(host, compiler, environ)), "CUDACXX"
    for variable in ("CUDAToolkit_ROOT", "CMAKE_PREFIX_PATH"):
        for root in filter(None, (environ.get(variable) or "").split(":")):
            if host.executable(f"{root}/bin/nvcc"):
                return root, variable
    if nvcc is None and host.executable("/usr/local/bin/nvcc"):
        nvcc = _described(host, "/usr/local/bin/nvcc", environ)
    if nvcc is not None:
        return _lives(host, nvcc), f"where {nvcc.path} says it lives (nvcc -v)"
    for root, rule in ((environ.get("CUDA_PATH") or "", "CUDA_PATH"), ("/usr/local/cuda", "the default")):
        if root and host.executable(f"{root}/bin/nvcc"):
            return root, rule
    return None


def _lives(host: Host, nvcc: NvccOnPath) -> str:
    """Return the root that nvcc reckons for itself from the name it was started by.

    A link to it alone leads nowhere else; behind a script or a compiler cache it is started by its own name.
    """
    itself = not nvcc.runs or nvcc.runs == host.realpath(nvcc.path)
    return _up2(nvcc.path if itself else nvcc.runs)


def _spelled(host: Host, selection: Selection, toolkits: tuple[Toolkit, ...]) -> Selection:
    """Return CMake's selection by the name that its toolkit goes by here: its own spelling tells nothing."""
    if selection.consumer != "cmake" or any(selection.root in (t.root, t.real) for t in toolkits):
        return selection
    real = host.realpath(selection.root)
    root = next((toolkit.root for toolkit in toolkits if toolkit.real == real), selection.root)
    return Selection("cmake", root, selection.rule, selection.has_nvcc, selection.exists)


# --- what there is ------------------------------------------------------------------------------------------


def _toolkits(
    host: Host, seen: _Seen, nvcc: NvccOnPath | None, selections: list[Selection]
) -> Iterator[Toolkit]:
    """Yield each toolkit once, however many ways lead to it, by the name that a consumer uses for it."""
    found: dict[str, tuple[dict[str, None], dict[str, None]]] = {}
    for root, way in _candidates(host, seen, nvcc, selections):
        if host.kind(root) == "directory" and _has_parts(host, root, seen.targets):
            roots, ways = found.setdefault(host.realpath(root), ({}, {}))
            roots[root] = ways[way] = None
    chosen = {selection.root for selection in selections}
    for real, (roots, ways) in found.items():
        root = next((root for root in roots if root in chosen), next(iter(roots)))
        toolkit = _toolkit(host, seen, root, real, tuple(ways))
        spellings = tuple(spelling for spelling in roots if spelling != root)
        yield structs.replace(toolkit, spellings=spellings)


def _candidates(
    host: Host, seen: _Seen, nvcc: NvccOnPath | None, selections: list[Selection]
) -> Iterator[tuple[str, str]]:
    if seen.conda.prefix:
        yield seen.target.prefix, "the environment"
    for folder in seen.target.site_packages:
        for part in ("/nvidia/cu13", *_PIP12):
            yield f"{folder}{part}", "pip"
    if nvcc is not None:
        for path in filter(None, (nvcc.runs, nvcc.path)):
            yield _up2(path), "nvcc on PATH"
    for variable in _VARIABLES:
        if root := seen.environ.get(variable):
            yield root, variable
    for root in _usual_places(host, seen.arch):
        yield root, "a usual place"
    for selection in selections:
        if selection.root and selection.rule in ("CUDACXX", "CMAKE_PREFIX_PATH"):
            yield selection.root, selection.rule


def _usual_places(host: Host, arch: str) -> Iterator[str]:
    yield from _WELL_KNOWN
    yield from _named(host, "/usr/local", r"cuda-\d+(\.\d+)?")
    for release in _named(host, f"/opt/nvidia/hpc_sdk/Linux_{arch}", r"\d+\.\d+"):
        yield from _named(host, f"{release}/cuda", r"\d+\.\d+")


def _named(host: Host, folder: str, pattern: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in host.list(folder) if re.fullmatch(pattern, name)]
    except OSError:
        return []


def _has_parts(host: Host, root: str, targets: tuple[str, ...]) -> bool:
    """Return whether a root holds any part of a toolkit: nvcc itself, headers or the runtime library."""
    header = "include/cuda_runtime_api.h"
    if root in ("/usr", "/usr/local", "/"):
        return bool(host.kind(f"{root}/{header}"))
    places = [f"{root}/{header}", f"{root}/bin/ptxas"]
    for name in targets:
        places += [f"{root}/targets/{name}/{header}", f"{root}/targets/{name}/lib"]
    return any(host.kind(place) for place in places) or _is_nvcc(host, f"{root}/bin/nvcc")


def _is_nvcc(host: Host, path: str) -> bool:
    """Return whether this is nvcc itself: no script that starts another, no link to one elsewhere."""
    if not host.executable(path) or dirname(host.realpath(path)) != host.realpath(dirname(path)):
        return False
    try:
        return not host.head(path, 2).startswith(b"#!")
    except OSError:
        return True  # a program may be run by those who cannot read it


def _layout(host: Host, root: str, targets: tuple[str, ...]) -> str:
    if host.kind(f"{root}/conda-meta") == "directory":
        return "conda"
    if any(root.endswith(f"/targets/{name}") for name in targets):
        return "conda-target" if host.kind(f"{_up2(root)}/conda-meta") == "directory" else "cuda"
    if root.endswith(("/nvidia/cu13", *_PIP12)):
        return "pip-cu13" if root.endswith("/cu13") else "pip-cu12"
    if root == "/usr" or root.startswith("/usr/lib/"):
        return "debian"
    return "hpc-sdk" if "/hpc_sdk/" in root else "cuda"


def _toolkit(host: Host, seen: _Seen, root: str, real: str, ways: tuple[str, ...]) -> Toolkit:
    layout = _layout(host, root, seen.targets)
    bases = [root, *(f"{root}/targets/{name}" for name in seen.targets)]
    include = [f"{base}/include" for base in bases]
    lib = [f"{base}/{name}" for base in bases for name in ("lib64", "lib")]
    if layout == "debian":
        include.append("/usr/include")
        lib.append(f"/usr/lib/{_TRIPLES.get(seen.arch, seen.arch)}")
    include = [folder for folder in dict.fromkeys(include) if host.kind(folder) == "directory"]
    lib = [folder for folder in lib if host.kind(folder) == "directory"]
    stubs = [f"{folder}/stubs" for folder in lib if host.kind(f"{folder}/stubs") == "directory"]
    nvcc = f"{root}/bin/nvcc" if host.executable(f"{root}/bin/nvcc") else ""
    version, source = _version(host, seen, root, layout, nvcc, include)
    return Toolkit(root, real, layout, version, source, ways, nvcc, tuple(include), tuple(lib), tuple(stubs))


def _version(
    host: Host, seen: _Seen, root: str, layout: str, nvcc: str, include: list[str]
) -> tuple[str, str]:
    """Return the toolkit's version and what told it: nvcc's own where there is one, cheapest source first."""
    if nvcc:
        if told := _from_package(host, seen, root, layout):
            return told
        if version := _version_json(host, f"{root}/version.json"):
            return version, f"{root}/version.json"
        if version := _ask_nvcc(host, nvcc):
            return version, f"{nvcc} --version"
    for folder in include:
        if version := _header_version(host, folder):
            return version, f"{folder}/cuda_runtime_api.h"
    return "", ""


def _from_package(host: Host, seen: _Seen, root: str, layout: str) -> tuple[str, str] | None:
    """Return the version that the environment's package manager recorded for its nvcc."""
    if layout == "conda" and host.realpath(root) == host.realpath(seen.conda.prefix or "/"):
        for name in ("cuda-nvcc-tools", "cuda-nvcc", "cuda-nvcc-impl"):
            if (record := seen.conda.find(name)) and not record.problem:
                return record.version, f"conda record of {name}"
    if layout.startswith("pip"):
        for name in ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"):
            found = seen.packages.find(name)
            if found and not found.problem and root.startswith(f"{found.location}/"):
                return found.version, f"distribution {name}"
    return None


def _version_json(host: Host, file: str) -> str:
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'"cuda_nvcc"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', text)
    return match[1] if match else ""


def _ask_nvcc(host: Host, nvcc: str) -> str:
    ran = host.run([nvcc, "--version"], {**host.environ, "LC_ALL": "C"}, timeout_s=_NVCC_TIMEOUT_S)
    match = re.search(r"\bV(\d+\.\d+\.\d+)", ran.stdout)
    return match[1] if match and ran.status == 0 else ""


def _header_version(host: Host, folder: str) -> str:
    """Return "13.0" from CUDART_VERSION, which stands near the top of the runtime's header."""
    try:
        head = host.head(f"{folder}/cuda_runtime_api.h", 24 << 10)
    except OSError:
        return ""
    match = re.search(rb"#define\s+CUDART_VERSION\s+(\d{1,9})", head)
    number = int(match[1]) if match else 0
    return f"{number // 1000}.{number % 1000 // 10}" if number else ""


def _headers(host: Host, folder: str) -> HeaderDirectory:
    if host.kind(folder) != "directory":
        return HeaderDirectory(False)
    present = tuple(name for name in known.NAMES if host.kind(f"{folder}/{name}") == "file")
    gcc, clang = _compiler_limits(host, folder) if "crt/host_config.h" in present else (None, None)
    return HeaderDirectory(True, present, _header_version(host, folder), gcc, clang)


def _compiler_limits(host: Host, folder: str) -> tuple[int | None, int | None]:
    """Return the highest GCC and Clang majors that this toolkit's own header lets pass."""
    try:
        text = host.read(f"{folder}/crt/host_config.h", 1 << 20).decode("utf-8", "replace")
    except OSError:
        return None, None
    gcc = re.search(r"#if\s+__GNUC__\s*>\s*(\d{1,9})", text)
    clang = re.search(r"__clang_major__\s*>=\s*(\d{1,9})", text)
    return int(gcc[1]) if gcc else None, int(clang[1]) - 1 if clang else None
