"""The installed Python distributions, by the names of their metadata folders.

Listing the folders costs the same whatever the packages hold; only the metadata of the CUDA stack is opened.
"""

from __future__ import annotations

import re

from cudadoctor.facts import Distribution, FlashInfer, Packages, Target, TorchBuild, Triton
from cudadoctor.host import Host

STACK = frozenset(
    """
    torch torchvision torchaudio vllm sglang transformers xformers flash-attn flash-attn-3 bitsandbytes
    deepspeed triton pytorch-triton flashinfer-python flashinfer-cubin flashinfer-jit-cache apache-tvm-ffi
    torch-c-dlpack-ext cuda-toolkit cuda-bindings cuda-python numba cupy-cuda12x cupy-cuda13x ninja cmake
    """.split()
)
_METADATA_LIMIT = 1 << 20
_DIST = re.compile(r"(?P<name>[^-]+(?:-[^-]+)*?)-(?P<version>\d[^-]*)\.(?:dist|egg)-info")


def normalise(name: str) -> str:
    """Return a project name in its normal form: lower case, runs of `-_.` as one dash."""
    return re.sub(r"[-_.]+", "-", name).lower()


def probe(host: Host, target: Target) -> Packages:
    """Return every distribution on the target's own search path, the first of a name first."""
    found: list[Distribution] = []
    unreadable = []
    for folder in target.site_packages:
        try:
            names = host.list(folder)
        except OSError as error:
            unreadable.append(f"{folder}: {error.strerror}")
            continue
        found += [_distribution(host, folder, name) for name in names if name.endswith((".dist-info", ".egg-info"))]
    distributions = tuple(found)
    return Packages(
        distributions,
        _torch(host, distributions),
        _flashinfer(host, distributions),
        _triton(host, distributions),
        tuple(unreadable),
    )


def _distribution(host: Host, folder: str, entry: str) -> Distribution:
    match = _DIST.fullmatch(entry)
    name = normalise(match["name"] if match else entry.rpartition(".")[0])
    version = match["version"] if match else ""
    if match and not _is_stack(name):
        return Distribution(name, version, folder)
    return _read_metadata(host, folder, entry, name, version)


def _is_stack(name: str) -> bool:
    return name in STACK or name.startswith(("nvidia-", "cuda-"))


def _read_metadata(host: Host, folder: str, entry: str, name: str, version: str) -> Distribution:
    file = f"{folder}/{entry}"
    if host.kind(file) == "directory":
        file += "/METADATA" if entry.endswith(".dist-info") else "/PKG-INFO"
    try:
        data = host.read(file, _METADATA_LIMIT)
    except OSError as error:
        reason = "no METADATA in it" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        return Distribution(name, version, folder, problem=f"{entry}: {reason}")
    head = data.partition(b"\n\n")[0].decode("utf-8", "replace")
    if b"\0" in data[:4096] or not (stated := _field(head, "Version")):
        return Distribution(name, version, folder, problem=f"{entry}: its METADATA is damaged")
    installer = _installer(host, f"{folder}/{entry}/INSTALLER")
    requires = tuple(re.findall(r"^Requires-Dist:[ \t]*(.+?)\s*$", head, re.MULTILINE))
    return Distribution(normalise(_field(head, "Name") or name), stated, folder, installer, requires)


def _field(head: str, name: str) -> str:
    match = re.search(rf"^{name}:[ \t]*(\S+)", head, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _installer(host: Host, file: str) -> str:
    try:
        return host.read(file, 4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _torch(host: Host, distributions: tuple[Distribution, ...]) -> TorchBuild | None:
    """Read torch's own word on what it was built for; its metadata only gives the version."""
    found = next((d for d in distributions if d.name == "torch" and not d.problem), None)
    if found is None:
        return None
    root = f"{found.location}/torch"
    try:
        text = host.read(f"{root}/version.py", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return TorchBuild(found.version, root)
    return TorchBuild(
        _assigned(text, "__version__") or found.version, root, _assigned(text, "cuda"), _assigned(text, "hip")
    )


def _assigned(text: str, name: str) -> str:
    match = re.search(rf"""^{name}\s*(?::[^=\n]+)?=\s*['"]([^'"]*)['"]""", text, re.MULTILINE)
    return match[1] if match else ""


#: FlashInfer's fixed link flags where its source cannot be read; the first row whose version is reached.
_KNOWN_LDFLAGS = (
    ((0, 4), ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")),
    (
        (0, 2, 9),
        ("-shared", "-L$torch_home/lib", "-L$cuda_home/lib64", "-lc10", "-lc10_cuda", "-ltorch_cpu")
        + ("-ltorch_cuda", "-ltorch", "-lcudart"),
    ),
    ((0,), ("-shared", "-L$torch_home/lib", "-L$cuda_home/lib64", "-lcudart")),
)


def _flashinfer(host: Host, distributions: tuple[Distribution, ...]) -> FlashInfer | None:
    """Read the link flags of the installed FlashInfer from its own source."""
    found = next((d for d in distributions if d.name == "flashinfer-python" and not d.problem), None)
    if found is None:
        return None
    cache = next((d.version for d in distributions if d.name == "flashinfer-jit-cache"), "")
    file = f"{found.location}/flashinfer/jit/cpp_ext.py"
    try:
        flags = _ldflags(host.read(file, 1 << 20).decode("utf-8", "replace"))
    except OSError:
        flags = ()
    if flags:
        return FlashInfer(found.version, flags, file, cache)
    release = tuple(int(part) for part in re.findall(r"\d+", found.version)[:3])
    flags = next(flags for since, flags in _KNOWN_LDFLAGS if release >= since)
    return FlashInfer(found.version, flags, f"known form of {found.version}", cache)


def _ldflags(source: str) -> tuple[str, ...]:
    match = re.search(r"^\s*ldflags\s*=\s*\[(.*?)\]", source, re.MULTILINE | re.DOTALL)
    literals = re.findall(r"""(f?)(['"])(-[^'"]*)\2""", match[1]) if match else []
    flags = [text.replace("{torch_home}", "$torch_home") for prefix, _, text in literals]
    return () if any("{" in flag for flag in flags) else tuple(flags)


def _triton(host: Host, distributions: tuple[Distribution, ...]) -> Triton | None:
    """Read which driver library Triton links its launcher against: `cuda`, later `libcuda.so.1`."""
    found = next((d for d in distributions if d.name in ("triton", "pytorch-triton") and not d.problem), None)
    if found is None:
        return None
    root = f"{found.location}/triton"
    file = f"{root}/backends/nvidia/driver.py"
    try:
        source = host.read(file, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return Triton(found.version, root, (), "")
    match = re.search(r"^libraries\s*=\s*\[([^\]]*)\]", source, re.MULTILINE)
    libraries = re.findall(r"""['"]([^'"]+)['"]""", match[1]) if match else []
    return Triton(found.version, root, tuple(libraries), file)
