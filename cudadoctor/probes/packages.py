"""The installed Python distributions, by the names of their metadata folders.

Listing the folders costs the same whatever the packages hold; only the metadata of the CUDA stack is opened.
"""

from __future__ import annotations

import re

from cudadoctor.facts import Distribution, FlashInfer, Packages, Target, TorchBuild, Triton
from cudadoctor.host import Host

STACK = frozenset((
    "torch", "torchvision", "torchaudio", "vllm", "sglang", "transformers", "xformers", "flash-attn",
    "flash-attn-3", "bitsandbytes", "deepspeed", "triton", "pytorch-triton", "flashinfer-python",
    "flashinfer-cubin", "flashinfer-jit-cache", "apache-tvm-ffi", "torch-c-dlpack-ext", "cuda-toolkit",
    "cuda-bindings", "cuda-python", "numba", "cupy-cuda12x", "cupy-cuda13x", "ninja", "cmake",
))  # fmt: skip
_METADATA_LIMIT = 1 << 20
_INSIDE = {"dist-info": "METADATA", "egg-info": "PKG-INFO", "egg": "EGG-INFO/PKG-INFO"}
_SUFFIXES = (*(f".{suffix}" for suffix in _INSIDE), ".egg-link")


def normalise(name: str) -> str:
    """Return a project name in its normal form: lower case, runs of `-_.` as one dash."""
    plain = name.lower().replace("_", "-").replace(".", "-")
    while "--" in plain:
        plain = plain.replace("--", "-")
    return plain


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
        found += [_distribution(host, folder, name) for name in names if name.endswith(_SUFFIXES)]
    distributions = tuple(found)
    return Packages(
        distributions,
        _torch(host, distributions),
        _flashinfer(host, distributions),
        _triton(host, distributions),
        tuple(unreadable),
    )


def _distribution(host: Host, folder: str, entry: str) -> Distribution:
    stem, _, suffix = entry.rpartition(".")
    if suffix == "egg-link":
        return _linked(host, folder, entry, stem)
    name, version = _dist_info(stem) if suffix == "dist-info" else _egg(stem)
    if name.startswith("~"):
        return Distribution(name, version, folder, problem=f"{entry}: left behind by an interrupted pip")
    if version and not _is_stack(name):
        return Distribution(name, version, folder)
    return _read_metadata(host, folder, entry, name, version)


def _dist_info(stem: str) -> tuple[str, str]:
    """Split "torch-2.9.0+cu128"."""
    name, _, version = stem.rpartition("-")
    return (normalise(name), version) if name else (normalise(stem), "")


def _egg(stem: str) -> tuple[str, str]:
    """Split "flash_attn-2.5.8-py3.10-linux-x86_64", "PyYAML-6.0-py3.11" or "mine"."""
    parts = stem.split("-")
    at = next((index for index, part in enumerate(parts) if index and part[:1].isdigit()), 0)
    return (normalise("-".join(parts[:at])), parts[at]) if at else (normalise(stem), "")


def _is_stack(name: str) -> bool:
    return name in STACK or name.startswith(("nvidia-", "cuda-"))


def _linked(host: Host, folder: str, entry: str, stem: str) -> Distribution:
    """Follow what `setup.py develop` leaves: a file that names the folder with the sources."""
    try:
        text = host.read(f"{folder}/{entry}", 1 << 16).decode("utf-8", "surrogateescape")
    except OSError as error:
        return Distribution(normalise(stem), "", folder, problem=f"{entry}: {error.strerror}")
    source = text.partition("\n")[0].strip()
    inside = f"{stem.replace('-', '_')}.egg-info"
    return _read_metadata(host, source.rstrip("/"), inside, normalise(stem), "")


def _read_metadata(host: Host, folder: str, entry: str, name: str, version: str) -> Distribution:
    suffix = entry.rpartition(".")[2]
    location = f"{folder}/{entry}" if suffix == "egg" else folder
    inside = _INSIDE[suffix]
    try:
        data = _metadata(host, f"{folder}/{entry}", inside)
    except NotADirectoryError:
        return Distribution(name, version, location)  # a zipped egg: what its name tells is enough
    except OSError as error:
        reason = (
            f"no {inside} in it" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        )
        return Distribution(name, version, location, problem=f"{entry}: {reason}")
    head = data.replace(b"\r\n", b"\n").partition(b"\n\n")[0].decode("utf-8", "replace")
    if "\0" in head or not (stated := _field(head, "Version")):
        return Distribution(name, version, location, problem=f"{entry}: its {inside} is damaged")
    requires = tuple(re.findall(r"^Requires-Dist:[ \t]*(.+?)\s*$", head, re.MULTILINE))
    installer = _installer(host, f"{folder}/{entry}/INSTALLER")
    recorded = host.kind(f"{folder}/{entry}/RECORD") == "file"
    name = normalise(_field(head, "Name") or name)
    return Distribution(name, stated, location, installer, requires, recorded=recorded)


def _metadata(host: Host, path: str, inside: str) -> bytes:
    try:
        return host.read(f"{path}/{inside}", _METADATA_LIMIT)
    except NotADirectoryError:
        if not path.endswith(".egg-info"):
            raise
        return host.read(path, _METADATA_LIMIT)  # distutils wrote one file, not a folder


def _field(head: str, name: str) -> str:
    match = re.search(rf"^{name}:[ \t]*(\S+)", head, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _installer(host: Host, file: str) -> str:
    try:
        return host.read(file, 4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _root(host: Host, found: Distribution, package: str) -> str:
    """Return the folder of an import package, the one an editable install points to included."""
    usual = f"{found.location}/{package}"
    if host.kind(usual) == "directory":
        return usual
    try:
        editables = [name for name in host.list(found.location) if name.startswith("__editable__")]
        texts = [
            host.read(f"{found.location}/{name}", 1 << 20).decode("utf-8", "replace") for name in editables
        ]
    except OSError:
        return usual
    for text in texts:
        named = re.findall(rf"""['"]{package}['"]\s*:\s*['"](/[^'"]+)['"]""", text)
        places = [f"{line.rstrip('/')}/{package}" for line in text.splitlines() if line.startswith("/")]
        if root := next((place for place in (*named, *places) if host.kind(place) == "directory"), ""):
            return root
    return usual


def _named(distributions: tuple[Distribution, ...], *names: str) -> Distribution | None:
    return next((d for d in distributions if d.name in names), None)


def _torch(host: Host, distributions: tuple[Distribution, ...]) -> TorchBuild | None:
    """Read torch's own word on what it was built for; its metadata stands in where that is lost."""
    found = _named(distributions, "torch")
    if found is None:
        return None
    root = _root(host, found, "torch")
    try:
        text = host.read(f"{root}/version.py", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return TorchBuild(found.version, root, _stated_cuda(found), found.version.partition("+rocm")[2])
    version = _assigned(text, "__version__") or found.version
    return TorchBuild(version, root, _assigned(text, "cuda"), _assigned(text, "hip"))


def _stated_cuda(found: Distribution) -> str:
    """Return "12.8" from a version that ends in +cu128, or from the CUDA runtime that torch requires."""
    if match := re.search(r"\+cu(\d+)(\d)$", found.version):
        return f"{match[1]}.{match[2]}"
    runtime = re.compile(
        r"(?:nvidia-cuda-runtime(?:-cu\d+)?|cuda-toolkit)(?:\[[^]]*\])?\s*\(?==\s*(\d+\.\d+)"
    )
    matches = (runtime.match(requirement) for requirement in found.requires)
    return next((match[1] for match in matches if match), "")


def _assigned(text: str, name: str) -> str:
    match = re.search(rf"""^{name}\s*(?::[^=\n]+)?=\s*['"]([^'"]*)['"]""", text, re.MULTILINE)
    return match[1] if match else ""


#: FlashInfer's fixed link flags where its source cannot be read; the first row whose version is reached.
_OF_TORCH = ("-lc10", "-lc10_cuda", "-ltorch_cpu", "-ltorch_cuda", "-ltorch")
_KNOWN_LDFLAGS = (
    ((0, 4), ("-shared", "-L$cuda_home/lib64", "-L$cuda_home/lib64/stubs", "-lcudart", "-lcuda")),
    ((0, 2, 9), ("-shared", "-L$torch_home/lib", "-L$cuda_home/lib64", *_OF_TORCH, "-lcudart")),
    ((0,), ("-shared", "-L$torch_home/lib", "-L$cuda_home/lib64", "-lcudart")),
)


def _flashinfer(host: Host, distributions: tuple[Distribution, ...]) -> FlashInfer | None:
    """Read the link flags of the installed FlashInfer from its own source."""
    found = _named(distributions, "flashinfer-python")
    if found is None:
        return None
    cache = _named(distributions, "flashinfer-jit-cache")
    prebuilt = cache.version if cache else ""
    file = f"{_root(host, found, 'flashinfer')}/jit/cpp_ext.py"
    try:
        flags = _ldflags(host.read(file, 1 << 20).decode("utf-8", "replace"))
    except OSError:
        flags = ()
    if flags:
        return FlashInfer(found.version, flags, file, prebuilt)
    release = tuple(int(part) for part in re.findall(r"\d+", found.version)[:3])
    newest = _KNOWN_LDFLAGS[0][1]
    flags = next((flags for since, flags in _KNOWN_LDFLAGS if release >= since), newest)
    return FlashInfer(found.version, flags, f"known form of {found.version}", prebuilt)


def _ldflags(source: str) -> tuple[str, ...]:
    match = re.search(r"^\s*ldflags\s*=\s*\[(.*?)\]", source, re.MULTILINE | re.DOTALL)
    literals = re.findall(r"""(f?)(['"])(-[^'"]*)\2""", match[1]) if match else []
    flags = [text.replace("{torch_home}", "$torch_home") for prefix, _, text in literals]
    return () if any("{" in flag for flag in flags) else tuple(flags)


def _triton(host: Host, distributions: tuple[Distribution, ...]) -> Triton | None:
    """Read which driver library Triton links its launcher against: `cuda`, later `libcuda.so.1`."""
    found = _named(distributions, "triton", "pytorch-triton")
    if found is None:
        return None
    root = _root(host, found, "triton")
    file = f"{root}/backends/nvidia/driver.py"
    try:
        source = host.read(file, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return Triton(found.version, root, (), "")
    match = re.search(r"^libraries\s*=\s*\[([^\]]*)\]", source, re.MULTILINE)
    libraries = re.findall(r"""['"]([^'"]+)['"]""", match[1]) if match else []
    return Triton(found.version, root, tuple(libraries), file)
