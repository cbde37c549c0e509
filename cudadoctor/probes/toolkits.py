"""Every CUDA toolkit within reach, and which one torch, FlashInfer and CMake will each take.

The rules of selection are the consumers' own: torch's `_find_cuda_home` and FlashInfer's `get_cuda_path`
read CUDA_HOME or CUDA_PATH, then go two folders up from the first nvcc on PATH, then take /usr/local/cuda.
CMake's FindCUDAToolkit never reads CUDA_HOME, and asks nvcc itself where it lives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

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
_VARIABLES = ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDAToolkit_ROOT")
_WELL_KNOWN = ("/usr/local/cuda", "/opt/cuda", "/usr/lib/cuda", "/usr/lib/nvidia-cuda-toolkit")


def probe(
    host: Host, target: Target, environ: Environ, packages: Packages, conda: Conda, machine: Machine
) -> Toolkits:
    """Return the toolkits, the selections and the headers in each of their include folders."""
    nvcc = nvcc_on_path(host, environ)
    selections = tuple(_selections(host, environ, nvcc))
    toolkits = tuple(_toolkits(host, target, environ, packages, conda, machine, nvcc))
    folders = {f"{s.root}/include": None for s in selections}
    folders |= {folder: None for toolkit in toolkits for folder in toolkit.include}
    for variable in ("CPATH", "CPLUS_INCLUDE_PATH"):
        folders |= {folder: None for folder in (environ.get(variable) or "").split(":") if folder}
    return Toolkits(toolkits, selections, {folder: _headers(host, folder) for folder in folders}, nvcc)


def nvcc_on_path(host: Host, environ: Environ) -> NvccOnPath | None:
    """Return the first nvcc on PATH, and the nvcc that it starts where it is a script or a link."""
    path = which(host, "nvcc", environ.path)
    if not path:
        return None
    try:
        head = host.head(path, 4096)
    except OSError:
        return NvccOnPath(path, "binary")
    if head.startswith(b"#!"):
        return _script(host, path, head.decode("utf-8", "replace"))
    real = host.realpath(path)
    return NvccOnPath(path, "binary") if real == path else NvccOnPath(path, "link", real, f"-> {real}")


def _script(host: Host, path: str, text: str) -> NvccOnPath:
    """Find the nvcc that a wrapper script starts: the last absolute path in it that ends in /nvcc."""
    for number, line in reversed(list(enumerate(text.splitlines(), 1))):
        if line.lstrip().startswith("#"):
            continue
        for word in re.findall(r"/[^\s\"';|&$()]*/nvcc\b", line):
            if word != path and host.executable(word):
                return NvccOnPath(path, "script", word, f"line {number}: {line.strip()}")
    return NvccOnPath(path, "script")


def _up(path: str, levels: int) -> str:
    for _ in range(levels):
        path = path.rpartition("/")[0]
    return path or "/"


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
        return _up(nvcc.path, 2), f"two folders up from {nvcc.path}, the first nvcc on PATH"
    default = "/usr/local/cuda"
    return (default if host.kind(default) else None), "the default, as no nvcc is on PATH"


def _by_cmake(host: Host, environ: Environ, nvcc: NvccOnPath | None) -> tuple[str, str] | None:
    """Apply FindCUDAToolkit's order: CUDAToolkit_ROOT, CUDA_PATH, nvcc on PATH, /usr/local/cuda."""
    for variable in ("CUDAToolkit_ROOT", "CUDA_PATH"):
        root = environ.get(variable)
        if root and host.executable(f"{root}/bin/nvcc"):
            return root, variable
    if nvcc is not None:
        return _up(nvcc.runs or nvcc.path, 2), f"where {nvcc.path} says it lives (nvcc -v)"
    if host.executable("/usr/local/cuda/bin/nvcc"):
        return "/usr/local/cuda", "the default"
    return None


def _toolkits(
    host: Host, target: Target, environ: Environ, packages: Packages, conda: Conda, machine: Machine,
    nvcc: NvccOnPath | None,
) -> Iterator[Toolkit]:  # fmt: skip
    """Yield each toolkit once, however many ways lead to it."""
    triples = TARGET_FOLDERS.get(machine.arch, ())
    found: dict[str, tuple[str, str, list[str]]] = {}
    for root, layout, by in _candidates(host, target, environ, nvcc, triples):
        if host.kind(root) == "directory" and _has_parts(host, root, triples):
            found.setdefault(host.realpath(root), (root, layout, []))[2].append(by)
    for real, (root, layout, ways) in found.items():
        yield _toolkit(host, root, real, layout, tuple(dict.fromkeys(ways)), packages, conda, triples)


def _candidates(
    host: Host, target: Target, environ: Environ, nvcc: NvccOnPath | None, triples: tuple[str, ...]
) -> Iterator[tuple[str, str, str]]:
    if host.kind(f"{target.prefix}/conda-meta") == "directory":
        yield target.prefix, "conda", "the environment"
    for folder in target.site_packages:
        yield f"{folder}/nvidia/cu13", "pip-cu13", "pip"
        for part in ("cuda_runtime", "cuda_nvcc"):
            yield f"{folder}/nvidia/{part}", "pip-cu12", "pip"
    if nvcc is not None:
        for path in filter(None, (nvcc.runs, nvcc.path)):
            yield _up(path, 2), "debian" if _up(path, 2) == "/usr" else "cuda", "nvcc on PATH"
    for variable in _VARIABLES:
        if root := environ.get(variable):
            yield root, _layout(host, root, triples), variable
    for root in _WELL_KNOWN:
        yield root, "debian" if root.startswith("/usr/lib") else "cuda", "a usual place"
    yield from _versioned(host, "/usr/local", r"cuda-\d+(\.\d+)?", "", "cuda")
    arch = {"x86_64": "Linux_x86_64", "aarch64": "Linux_aarch64"}
    for name in arch.values():
        for release in _names(host, f"/opt/nvidia/hpc_sdk/{name}", r"\d+\.\d+"):
            yield from _versioned(host, f"{release}/cuda", r"\d+\.\d+", "", "hpc-sdk")


def _layout(host: Host, root: str, triples: tuple[str, ...]) -> str:
    if host.kind(f"{root}/conda-meta") == "directory":
        return "conda"
    if any(root.endswith(f"/targets/{triple}") for triple in triples):
        return "conda-target" if host.kind(f"{_up(root, 2)}/conda-meta") == "directory" else "cuda"
    return "pip-cu13" if root.endswith("/nvidia/cu13") else "debian" if root == "/usr" else "cuda"


def _names(host: Host, folder: str, pattern: str) -> list[str]:
    try:
        return [f"{folder}/{name}" for name in host.list(folder) if re.fullmatch(pattern, name)]
    except OSError:
        return []


def _versioned(host: Host, folder: str, pattern: str, tail: str, layout: str) -> Iterator[tuple[str, str, str]]:
    for root in _names(host, folder, pattern):
        yield root + tail, layout, "a usual place"


def _has_parts(host: Host, root: str, triples: tuple[str, ...]) -> bool:
    """Return whether a root holds any part of a toolkit: nvcc, headers or the runtime library."""
    places = [f"{root}/include/cuda_runtime_api.h", f"{root}/bin/nvcc", f"{root}/bin/ptxas"]
    for triple in triples:
        places += [f"{root}/targets/{triple}/include/cuda_runtime_api.h", f"{root}/targets/{triple}/lib"]
    if root in ("/usr", "/usr/local") and not host.kind(f"{root}/include/cuda_runtime_api.h"):
        return False
    return any(host.kind(place) for place in places)


def _toolkit(
    host: Host, root: str, real: str, layout: str, ways: tuple[str, ...], packages: Packages, conda: Conda,
    triples: tuple[str, ...],
) -> Toolkit:  # fmt: skip
    bases = [root, *(f"{root}/targets/{triple}" for triple in triples)]
    include = [f"{base}/include" for base in bases]
    lib = [f"{base}/{name}" for base in bases for name in ("lib64", "lib")]
    if layout == "debian" and triples:
        lib.append(f"/usr/lib/{'x86_64' if 'x86_64' in triples[0] else 'aarch64'}-linux-gnu")
    lib = [folder for folder in lib if host.kind(folder) == "directory"]
    stubs = [f"{folder}/stubs" for folder in lib if host.kind(f"{folder}/stubs") == "directory"]
    include = [folder for folder in include if host.kind(folder) == "directory"]
    nvcc = f"{root}/bin/nvcc" if host.executable(f"{root}/bin/nvcc") else ""
    version, source = _version(host, root, layout, nvcc, include, packages, conda)
    return Toolkit(root, real, layout, version, source, ways, nvcc, tuple(include), tuple(lib), tuple(stubs))


def _version(
    host: Host, root: str, layout: str, nvcc: str, include: list[str], packages: Packages, conda: Conda
) -> tuple[str, str]:
    """Return the toolkit's version and what told it: nvcc's own where there is one, cheapest source first."""
    if layout in ("conda", "conda-target"):
        for name in ("cuda-nvcc-tools", "cuda-nvcc", "cuda-nvcc-impl"):
            if (record := conda.find(name)) and not record.problem:
                return record.version, f"conda record of {name}"
    if layout.startswith("pip") and nvcc:
        for name in ("nvidia-cuda-nvcc", "nvidia-cuda-nvcc-cu12"):
            if (found := packages.find(name)) and not found.problem:
                return found.version, f"distribution {name}"
    if version := _version_json(host, f"{root}/version.json"):
        return version, f"{root}/version.json"
    if nvcc and (version := _ask_nvcc(host, nvcc)):
        return version, f"{nvcc} --version"
    for folder in include:
        if version := _header_version(host, folder):
            return version, f"{folder}/cuda_runtime_api.h"
    return "", ""


def _version_json(host: Host, file: str) -> str:
    try:
        text = host.read(file, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""
    match = re.search(r'"cuda_nvcc"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"', text)
    return match[1] if match else ""


def _ask_nvcc(host: Host, nvcc: str) -> str:
    ran = host.run([nvcc, "--version"], {**host.environ, "LC_ALL": "C"}, timeout_s=5)
    match = re.search(r"\bV(\d+\.\d+\.\d+)", ran.stdout)
    return match[1] if match and ran.status == 0 else ""


def _header_version(host: Host, folder: str) -> str:
    """Return "13.0" from CUDART_VERSION, which stands near the top of the runtime's header."""
    try:
        head = host.head(f"{folder}/cuda_runtime_api.h", 24 << 10)
    except OSError:
        return ""
    match = re.search(rb"#define\s+CUDART_VERSION\s+(\d+)", head)
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
    gcc = re.search(r"#if\s+__GNUC__\s*>\s*(\d+)", text)
    clang = re.search(r"__clang_major__\s*>=\s*(\d+)", text)
    return int(gcc[1]) if gcc else None, int(clang[1]) - 1 if clang else None
