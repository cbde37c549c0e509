"""The installed Python distributions, by the names of their metadata folders.

Of each the head of its metadata is read, and no more: a folder's listing costs the same whatever it holds.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from cudadoctor.facts import Distribution, FlashInfer, Packages, Target, TorchBuild, Triton
from cudadoctor.host import Host, barred
from cudadoctor.probes import owners
from cudadoctor.versions import numbers

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
    """Return every distribution on the target's own search path, the first of a name first.

    Raises OSError where the environment's own folder cannot be listed: nothing is known then of what is
    installed. Others, as a user's own or one that PYTHONPATH names, Python goes past as well.
    """
    _see_own(host, target)
    found: dict[str, Distribution] = {}
    unreadable = []
    of_conda = target.kind in ("conda", "pixi")
    ahead = [(folder, True) for folder in target.site_packages]
    while ahead:
        folder, own = ahead.pop(0)
        try:
            names = host.list(folder)
        except OSError as error:
            if own and _is_own(folder, target) and not isinstance(error, FileNotFoundError):
                raise
            unreadable += [f"{folder}: {error.strerror}"] if own else []
            continue
        for name in names:
            if name.endswith(_SUFFIXES):
                each = _distribution(host, folder, name, of_conda)
                found.setdefault(f"{each.location}/{each.file or name}", each)
        if own:
            ahead[:0] = [(added, False) for added in _added(host, folder, names, target)]
    distributions = owners.told(host, target, tuple(found.values()))
    return Packages(
        distributions,
        _torch(host, distributions),
        _flashinfer(host, distributions),
        _triton(host, distributions),
        tuple(unreadable),
        target,
    )


def _is_own(folder: str, target: Target) -> bool:
    """Return whether a folder is of the environment itself, or of the Python that it is made from."""
    roots = {target.prefix, target.base_prefix} - {"", "/"}
    return any(folder.startswith(f"{root.rstrip('/')}/") for root in roots)


def _see_own(host: Host, target: Target) -> None:
    """Raise PermissionError where the environment's own folder is out of sight behind a closed one."""
    minor = ".".join(target.version.split(".")[:2])
    if any(folder.startswith(f"{target.prefix}/") for folder in target.site_packages):
        return
    if closed := barred(host, f"{target.prefix}/lib/python{minor}/site-packages"):
        raise PermissionError(errno.EACCES, "Permission denied", closed)


_ADDED = re.compile(r"\baddsitedir\(['\"](/[^'\"\0]+)['\"]\)")
_PTH_LIMIT = 100  #: folders of one .pth file that are looked at


def _added(host: Host, folder: str, names: list[str], target: Target) -> Iterator[str]:
    """Yield the folders that the .pth files in `folder` add to the search path, behind it.

    An overlay of uv's, or an old editable install, has its distributions there. Of folders that PYTHONPATH
    names, Python reads no .pth files.
    """
    if folder in host.environ.get("PYTHONPATH", "").split(":"):
        return
    for file in (name for name in names if name.endswith(".pth")):
        try:
            text = host.read(f"{folder}/{file}", 1 << 16).decode("utf-8", "replace")
        except OSError:
            continue
        for added in islice(_named_in(text), _PTH_LIMIT):
            path = (added if added.startswith("/") else f"{folder}/{added.removeprefix('./')}").rstrip("/")
            known = path in target.site_packages or path.endswith(".egg")
            if not known and host.kind(path) == "directory":
                yield path


def _named_in(text: str) -> Iterator[str]:
    """Yield the folders that the lines of a .pth file name; a line that begins so is code to Python."""
    for line in text.splitlines():
        if line.startswith(("import ", "import\t")):
            yield from _ADDED.findall(line)
        elif line[:1].strip() and not line.startswith("#") and "\0" not in line:
            yield line.rstrip()


def _distribution(host: Host, folder: str, entry: str, of_conda: bool) -> Distribution:
    stem, _, suffix = entry.rpartition(".")
    if suffix == "egg-link":
        return _linked(host, folder, entry, stem)
    name, version = _dist_info(stem) if suffix == "dist-info" else _egg(stem)
    if entry.startswith("~") or (entry.startswith("-") and name[1:] and version):
        name = f"~{name[1:]}"  # pip puts a tilde in the place of the first letter, an older one a dash
        return Distribution(name, version, folder, problem=f"{entry}: left behind by an interrupted pip")
    return _read_metadata(host, folder, entry, name, version, of_conda)


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


def _read_metadata(
    host: Host, folder: str, entry: str, name: str, version: str, of_conda: bool = False
) -> Distribution:
    """Read the head of the metadata; the name and version of a dist-info folder count before what is in it.

    So pip and uv have it, and importlib.metadata finds it by that name.
    """
    suffix = entry.rpartition(".")[2]
    location = f"{folder}/{entry}" if suffix == "egg" else folder
    inside = _INSIDE[suffix]
    file = inside if suffix == "egg" else f"{entry}/{inside}"
    try:
        data, file = _metadata(host, location, file)
    except NotADirectoryError:
        return Distribution(name, version, location)  # a zipped egg: what its name tells is enough
    except OSError as error:
        reason = (
            f"no {inside} in it" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        )
        return Distribution(name, version, location, problem=f"{entry}: {reason}", file=entry)
    head = data.decode("utf-8", "replace")
    stated = _field(head, "Version")
    if "\0" in head or not stated or not _field(head, "Name"):
        problem = f"{entry}: its {inside} is damaged"
        return Distribution(name, version, location, problem=problem, file=file)
    if suffix != "dist-info" or not version:
        name, version = normalise(_field(head, "Name")), stated
    stack = _is_stack(name)
    return Distribution(
        name,
        version,
        location,
        _installer(host, f"{folder}/{entry}/INSTALLER") if stack or of_conda else "",
        _requires(head, name),
        python=_rest(head, "Requires-Python"),
        file=file,
    )


_HEAD_BYTES = 1 << 14  #: holds the headers of all but a few; behind them comes the whole README


def _metadata(host: Host, location: str, file: str) -> tuple[bytes, str]:
    """Return the headers, up to the first empty line, and the file they are in."""
    try:
        data = host.head(f"{location}/{file}", _HEAD_BYTES)
    except NotADirectoryError:
        # distutils wrote one file, not a folder
        file = file.rpartition("/")[0]
        if not file.endswith(".egg-info"):
            raise
        data = host.head(f"{location}/{file}", _HEAD_BYTES)
    head, end, _ = _plain(data).partition(b"\n\n")
    if not end and len(data) == _HEAD_BYTES:
        head = _plain(host.read(f"{location}/{file}", _METADATA_LIMIT)).partition(b"\n\n")[0]
    return head, file


def _plain(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n") if b"\r" in data else data


_REQUIRES = re.compile(r"^[Rr]equires-[Dd]ist:[ \t]*(.+(?:\n[ \t].+)*)", re.MULTILINE)
_LINE_LIMIT = 1024  #: characters; no real requirement comes near it
_WITH_EXTRAS = frozenset(("cuda-toolkit",))  #: whose extras tell which wheels belong to a CUDA release
_OPERATION = r"(?:===|[=!~<>]=|[<>]) ?[\w.*+!-]+"
_WELL_FORMED = (
    r"[A-Za-z0-9][\w.-]* ?(?:\[[\w ,.-]*\] ?)?"
    rf"(?:\(? ?{_OPERATION}(?: ?, ?{_OPERATION})* ?\)? ?)?"
)
#: The same, where the usual form of a requirement of an extra, half of all there are, takes one step.
_REQUIRES_OR_EXTRA = re.compile(
    rf"^[Rr]equires-[Dd]ist:[ \t]*(?:{_WELL_FORMED}; extra == (?:'[\w.-]+'|\"[\w.-]+\")$"
    r"(?!\n[ \t])|(.+(?:\n[ \t].+)*))",
    re.MULTILINE | re.ASCII,
)
_HEAD = re.compile(_WELL_FORMED, re.ASCII)
_EXTRA = re.compile(r"(?:.*[ )]and[ (]+)?extra ?== ?(?:'[\w.-]+'|\"[\w.-]+\") ?", re.ASCII)


@lru_cache(1024)
def _asks_for_extra(marker: str) -> bool:
    """Return whether a marker is a conjunction that ends with an extra."""
    return " or " not in marker and "@" not in marker and _EXTRA.fullmatch(marker.lstrip()) is not None


def _requires(head: str, name: str) -> tuple[str, ...]:
    """Return the requirements, each in one line; those of extras, mostly the greater part, are left out."""
    keeps = name in _WITH_EXTRAS
    found = (_REQUIRES if keeps else _REQUIRES_OR_EXTRA).findall(head)
    lines = [" ".join(line.split()) if "\n" in line else line.rstrip() for line in found if line]
    return tuple(line for line in lines if keeps or "extra" not in line or not _is_of_extra(line))


def _is_of_extra(line: str) -> bool:
    """Return whether a requirement is well formed and its extra alone decides: nobody asked for it."""
    if len(line) > _LINE_LIMIT:
        return False
    # Runs of blanks would take squared time.
    head, _, marker = (line if "  " not in line else " ".join(line.split())).partition(";")
    return _asks_for_extra(marker) and _HEAD.fullmatch(head) is not None


def _rest(head: str, name: str) -> str:
    """Return all that a header says."""
    usual = head.find(f"\n{name}: ")  # a search that minds no case takes ten times as long
    if usual >= 0:
        return head[usual + len(name) + 3 :].partition("\n")[0].strip()
    match = re.search(rf"^{name}:[ \t]*(.*)", head, re.MULTILINE | re.IGNORECASE)
    return match[1].strip() if match else ""


def _field(head: str, name: str) -> str:
    """Return the first word of a header."""
    return _rest(head, name).partition(" ")[0]


def _installer(host: Host, file: str) -> str:
    try:
        return host.read(file, 4096).decode("utf-8", "replace").strip()
    except OSError:
        return ""


#: What editable installs leave: setuptools' finders with a table in them, and lines that name a folder.
_EDITABLE = re.compile(r"__editable__|.*\.pth$")


def root(host: Host, found: Distribution, package: str) -> str:
    """Return the folder of an import package, the one an editable install points to included."""
    usual = f"{found.location}/{package}"
    if host.kind(usual) == "directory":
        return usual
    try:
        names = [name for name in host.list(found.location) if _EDITABLE.match(name)]
        texts = [host.read(f"{found.location}/{name}", 1 << 20).decode("utf-8", "replace") for name in names]
    except OSError:
        return usual
    for text in texts:
        named = re.findall(rf"""['"]{package}['"]\s*:\s*['"](/[^'"]+)['"]""", text)
        places = [f"{line.rstrip('/')}/{package}" for line in text.splitlines() if line.startswith("/")]
        if there := next((place for place in (*named, *places) if host.kind(place) == "directory"), ""):
            return there
    return usual


def _named(distributions: tuple[Distribution, ...], *names: str) -> Distribution | None:
    return next((d for d in distributions if d.name in names), None)


def _torch(host: Host, distributions: tuple[Distribution, ...]) -> TorchBuild | None:
    """Read torch's own word on what it was built for; its metadata stands in where that is lost."""
    found = _named(distributions, "torch")
    if found is None:
        return None
    place = root(host, found, "torch")
    try:
        text = host.read(f"{place}/version.py", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return TorchBuild(found.version, place, _stated_cuda(found), found.version.partition("+rocm")[2])
    version = _assigned(text, "__version__") or found.version
    return TorchBuild(version, place, _assigned(text, "cuda"), _assigned(text, "hip"))


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
    file = f"{root(host, found, 'flashinfer')}/jit/cpp_ext.py"
    try:
        flags = _ldflags(host.read(file, 1 << 20).decode("utf-8", "replace"))
    except OSError:
        flags = ()
    if flags:
        return FlashInfer(found.version, flags, file, prebuilt)
    release = numbers(found.version)
    newest = _KNOWN_LDFLAGS[0][1]
    flags = next((flags for since, flags in _KNOWN_LDFLAGS if release >= since), newest)
    return FlashInfer(found.version, flags, f"known form of {found.version}", prebuilt)


def _ldflags(source: str) -> tuple[str, ...]:
    literals = re.findall(r"""(f?)(['"])(-[^'"]*)\2""", _listed(source, r"^[ \t]*ldflags[ \t]*=[ \t]*\["))
    flags = [text.replace("{torch_home}", "$torch_home") for prefix, _, text in literals]
    return () if any("{" in flag for flag in flags) else tuple(flags)


def _listed(source: str, opening: str) -> str:
    """Return what is in the brackets that the first match of `opening` opens, "" where none closes them."""
    match = re.search(opening, source, re.MULTILINE)
    listed, closing, _ = source[match.end() :].partition("]") if match else ("", "", "")
    return listed if closing else ""


def _triton(host: Host, distributions: tuple[Distribution, ...]) -> Triton | None:
    """Read which driver library Triton links its launcher against: `cuda`, later `libcuda.so.1`."""
    found = _named(distributions, "triton", "pytorch-triton")
    if found is None:
        return None
    place = root(host, found, "triton")
    file = f"{place}/backends/nvidia/driver.py"
    try:
        source = host.read(file, 1 << 20).decode("utf-8", "replace")
    except OSError:
        return Triton(found.version, place, (), "")
    libraries = re.findall(r"""['"]([^'"]+)['"]""", _listed(source, r"^libraries[ \t]*=[ \t]*\["))
    return Triton(found.version, place, tuple(libraries), file)
