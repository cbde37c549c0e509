"""What the loader will find for the compiled extensions of the stack.

The loader's model is run over the machine, and everything that it asks about is written down: a check that
runs it again over the facts gets the same answers.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterable, Iterator, Sequence
from posixpath import basename, dirname, normpath

from msgspec import structs

import cudadoctor.elf as elf
from cudadoctor.facts import (
    CachedLibrary,
    Distribution,
    DynamicLoader,
    Environ,
    Extension,
    Packages,
    SharedObject,
    SharedObjects,
    Target,
)
from cudadoctor.host import Host, NotRegular, names_in
from cudadoctor.probes.builds import bitsandbytes
from cudadoctor.probes.ldcache import LoaderCache, read_cache
from cudadoctor.probes.packages import root as import_root
from cudadoctor.simulate.builds import library_for
from cudadoctor.simulate.imports import (
    DRIVER,
    Imported,
    Shadow,
    displaced,
    driver,
    imports,
    lacking,
    needers,
    shadows,
    without,
)

#: The extensions that importing a package of the stack loads: the distribution, the import package or a
#: folder in it, and the names there; `{tag}` stands for the interpreter's own. FlashInfer's operators,
#: prebuilt or not, are none: they are hundreds, and each is opened when it is first called.
#: The file lists of torch 2.9.0 and 2.14.1, vLLM 0.12.0, torchvision 0.24.0, torchaudio 2.9.0, triton 3.5.0,
#: apache-tvm-ffi 0.1.15, xformers 0.0.33.post1 and sgl-kernel 0.3.21 were read (2026-11-21). Of flash-attn
#: the name is that of its setup.py, and that of flash-attn-3 is unverified: no wheel of theirs was opened.
_EXTENSIONS = (
    ("torch", "torch", r"_C{tag}\.so"),
    ("torchvision", "torchvision", r"_C\.so"),
    ("torchaudio", "torchaudio/lib", r"libtorchaudio\.so"),
    ("triton", "triton/_C", r"libtriton\.so"),
    ("pytorch-triton", "triton/_C", r"libtriton\.so"),
    ("vllm", "vllm", r"\w+\.abi3\.so"),
    ("vllm", "vllm/vllm_flash_attn", r"\w+\.abi3\.so"),
    ("xformers", "xformers", r"_C\.so"),
    ("flash-attn", "flash_attn/..", r"flash_attn_2_cuda{tag}\.so"),
    ("flash-attn-3", "flash_attn_3", r"_C\.abi3\.so"),
    ("apache-tvm-ffi", "tvm_ffi/lib", r"libtvm_ffi\.so"),
    ("sgl-kernel", "sgl_kernel", r"(?:common|flash)_ops\.abi3\.so"),
    ("sgl-kernel", "sgl_kernel/sm90", r"common_ops\.abi3\.so"),
    ("sgl-kernel", "sgl_kernel/sm100", r"common_ops\.abi3\.so"),
)
_TAG = r"(?:\.cpython-{version}-[\w-]+|\.abi3)?"
_UNDEFINED = 20  #: symbols that are named of each library
_X86_LEVELS = (
    ("x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"),
    ("x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe"),
    ("x86-64-v2", "cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3"),
)


def probe(host: Host, target: Target, environ: Environ, packages: Packages) -> SharedObjects:
    """Return what the model asks about when the target's Python loads the stack."""
    python = host.realpath(target.python) if target.python else ""
    try:
        loader, reason = dynamic_loader(host, elf.read(host, python))
    except OSError as error:
        loader, reason = None, f"{python or 'the interpreter'}: {error.strerror}"
    if loader is None:
        return SharedObjects(None, python, reason=reason)
    first, fallback = _preloaded(host, target, packages)
    extensions = (*_extensions(host, target, packages), *_bitsandbytes(host, environ, packages))
    objects = SharedObjects(loader, python, first, fallback, extensions)
    disk = Disk(host, loader)
    if disk.at(python) is None:
        return SharedObjects(None, python, reason=f"{python} cannot be read")
    library_path = environ.get("LD_LIBRARY_PATH") or ""
    now = imports(objects, environ, library_path, disk)
    undefined = {}
    if library_path:
        bare = imports(objects, environ, "", disk)
        undefined = _undefined(host, displaced(now, bare, target), bare)
        for folders in _in_the_way(now, bare):
            imports(objects, environ, without(library_path, folders), disk)
    for one in now:
        driver(one.process)
    return disk.seen(objects, undefined, _elsewhere(host, target, packages, now))


# --- the loader ---------------------------------------------------------------------------------------------


def dynamic_loader(host: Host, python: SharedObject) -> tuple[DynamicLoader | None, str]:
    """Return the loader that starts this interpreter, or None and why that is not known."""
    path = python.interpreter
    if python.problem or not path:
        return None, python.problem or "its interpreter is linked statically"
    if "/ld-linux" not in path and "/ld64.so" not in path:
        return None, f"{path} is not the GNU loader"
    real = host.realpath(path)
    folder = dirname(real)
    arch, _, tuple_ = folder.rpartition("/lib/")[2].partition("-")
    multiarch = f"/{arch}-{tuple_}" if tuple_.startswith("linux-gnu") else ""
    lib = "lib" if multiarch or not folder.endswith("64") else "lib64"
    folders = [f"/{lib}{multiarch}", f"/usr/{lib}{multiarch}"]
    folders += ["/lib", "/usr/lib"] if multiarch else []
    platform, subfolders = _processor(host, python.machine, f"{folder}/libc.so.6")
    preload = tuple(_preload(host))
    return DynamicLoader(
        path, python.machine, python.bits, tuple(folders), f"{lib}{multiarch}", platform, subfolders, preload
    ), ""


def _preload(host: Host) -> list[str]:
    """Return what /etc/ld.so.preload names, with blanks or colons between."""
    try:
        data = _without_comments(host.read("/etc/ld.so.preload", 1 << 16))
    except OSError:
        return []
    return [name for name in re.split("[: \t\n]", data.decode("utf-8", "surrogateescape")) if name]


def _without_comments(data: bytes) -> bytes:
    """Blank the comments as glibc does (2.36 was compared, see tests/real/test_loader.py).

    It counts what is left to search after a comment, and searches as much of the file from its beginning:
    near the end a comment may stay, and its words are libraries.
    """
    text, left = bytearray(data), len(data)
    while left > 0 and (at := text.find(b"#", 0, left)) >= 0:
        left -= at
        end = data.find(b"\n", at + 1, at + left)
        end = at + left if end < 0 else end
        text[at:end] = b" " * (end - at)
        left -= end - at
    return bytes(text)


def _processor(host: Host, machine: str, libc: str) -> tuple[str, tuple[str, ...]]:
    """Return what $PLATFORM is, and the subfolders for this CPU, the best first.

    Up to glibc 2.36 there are, behind those of glibc-hwcaps (since 2.33), older ones in every combination.
    """
    if machine != "x86_64":
        return machine, ()
    try:
        text = host.head("/proc/cpuinfo", 1 << 14).decode("ascii", "replace")
    except OSError:
        text = ""
    flags = set((re.findall(r"^flags\s*:(.*)$", text, re.MULTILINE) or [""])[0].split())
    intel = "GenuineIntel" in text
    release = _glibc(host, libc)
    platform = "haswell" if intel and {"avx2", "bmi1", "bmi2", "abm", "movbe", "popcnt"} <= flags else ""
    subfolders = []
    for index, (level, _) in enumerate(_X86_LEVELS):
        if all(flag in flags for _, names in _X86_LEVELS[index:] for flag in names.split()):
            subfolders.append(f"glibc-hwcaps/{level}")
    older = intel and {"avx512cd", "avx512bw", "avx512dq", "avx512vl"} <= flags
    names = ["tls", *([platform] if platform else []), *(["avx512_1"] if older else []), "x86_64"]
    legacy = _combinations(names) if release < 37 else []
    return platform, (*(subfolders if release >= 33 else ()), *legacy)


def _combinations(names: list[str]) -> list[str]:
    """Return every selection of the names as a path, those with the first name first."""
    if not names:
        return []
    rest = _combinations(names[1:])
    return [*(f"{names[0]}/{path}" for path in rest), names[0], *rest]


def _glibc(host: Host, libc: str) -> int:
    """Return the minor number of glibc's version, the highest that its library defines."""
    try:
        versions = elf.read(host, libc).provides
    except OSError:
        return 99
    matches = (re.fullmatch(r"GLIBC_2\.(\d+)(?:\.\d+)?", version) for version in versions)
    return max((int(match[1]) for match in matches if match), default=99)


# --- the stack ----------------------------------------------------------------------------------------------


def _extensions(host: Host, target: Target, packages: Packages) -> Iterator[Extension]:
    version = "".join(target.version.split(".")[:2])
    tag = _TAG.replace("{version}", version)
    found = {distribution.name: distribution for distribution in reversed(packages.distributions)}
    for name, folder, pattern in _EXTENSIONS:
        if (distribution := found.get(name)) is None or distribution.problem:
            continue
        place = _place(host, distribution, folder, packages)
        matches = re.compile(pattern.replace("{tag}", tag)).fullmatch
        for file in filter(matches, names_in(host, place)):
            yield Extension(f"{place}/{file}", name)


def _bitsandbytes(host: Host, environ: Environ, packages: Packages) -> Iterator[Extension]:
    """Return the library that bitsandbytes opens by its path where there is a GPU."""
    found, torch = packages.find("bitsandbytes"), packages.torch
    if found is None or found.problem or torch is None or not torch.cuda:
        return
    brought = bitsandbytes(host, found)
    if brought and (cuda := library_for(brought, torch.cuda, environ.get("BNB_CUDA_VERSION") or "")):
        name = f"libbitsandbytes_cuda{cuda.replace('.', '')}.so"
        yield Extension(f"{brought.root}/{name}", "bitsandbytes")


def _place(host: Host, distribution: Distribution, folder: str, packages: Packages) -> str:
    """Return where a folder of an import package is: of an editable install, among the sources."""
    if distribution.name == "torch" and packages.torch is not None:
        return packages.torch.root
    package, _, inside = folder.partition("/")
    return normpath(f"{import_root(host, distribution, package)}/{inside}")


def _preloaded(host: Host, target: Target, packages: Packages) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what torch opens before its extension, and what where the first of that cannot be opened."""
    root = packages.torch.root if packages.torch else ""
    start = f"{root}/lib/libtorch_global_deps.so"
    if not packages.torch or host.kind(start) != "file":
        return (), ()
    try:
        source = host.head(f"{root}/__init__.py", 1 << 16).decode("utf-8", "replace")
    except OSError:
        return (start,), ()
    listed: dict[str, list[str]] = {}
    major = packages.torch.cuda.partition(".")[0]

    def paths(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
        for folder, pattern in rows:
            wanted = re.compile(re.escape(pattern).replace(r"\*\[0\-9\]", ".*[0-9]")).fullmatch
            for site in target.site_packages:
                places = (
                    f"{site}/nvidia/{folder}/lib",
                    f"{site}/nvidia/cu{major}/lib",
                    f"{site}/{folder}/lib",
                )
                for place in places:
                    if place not in listed:
                        listed[place] = names_in(host, place)
                found = [f"{place}/{name}" for place in places for name in listed[place] if wanted(name)]
                if found:
                    yield found[0]
                    break

    after, instead = _preloads(source)
    return (start, *paths(after)), tuple(paths(instead))


def _preloads(source: str) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return what torch preloads, folder and pattern, by its own text: after success, and after a failure.

    Since 2.10 both are one list in _preload_cuda_deps; before, _load_global_deps had a table for failures and
    separate calls (since 2.5) for success.
    """
    if "_preload_cuda_deps(required=False)" in source:
        rows = re.findall(r'\("(\w+)", "(lib[^"]+)"\),', source)
        return rows, rows
    calls = re.findall(r'_preload_cuda_deps\("(\w+)", "(lib[^"]+)"\)', source)
    return calls, re.findall(r'"(\w+)": "(lib[^"]+)",', source)


# --- what is not as it should be ----------------------------------------------------------------------------


def _in_the_way(now: list[Imported], bare: list[Imported]) -> list[set[str]]:
    """Return the folders of LD_LIBRARY_PATH that a check may want to take out: each, and all of them."""
    taken = [shadow.taken for shadow in shadows(now, bare)]
    taken += [lack.has for one in now for lack in lacking(one) if lack.has.rule == "LD_LIBRARY_PATH"]
    damaged = [problem for one in now for problem in one.problems if problem.rule == "LD_LIBRARY_PATH"]
    folders = sorted({one.folder for one in taken} | {problem.folder for problem in damaged})
    return [{folder} for folder in folders] + ([set(folders)] if len(folders) > 1 else [])


def _undefined(host: Host, found: list[Shadow], bare: list[Imported]) -> dict[str, tuple[str, ...]]:
    """Return, by file, the symbols that are looked for in it, that it lacks and the one it displaces has."""
    undefined = {}
    for shadow in found:
        own, taken = (_symbols(host, one.path)[1] for one in (shadow.own, shadow.taken))
        if not taken:  # a library defines something: this one's tables could not be read
            continue
        lost = own - taken
        missing = {name for one in needers(shadow.name, bare) for name in _symbols(host, one.path)[0] & lost}
        if missing:
            undefined[shadow.taken.file] = tuple(sorted(missing)[:_UNDEFINED])
    return undefined


def _symbols(host: Host, path: str) -> tuple[set[str], set[str]]:
    """Return what the file needs and defines; nothing where that cannot be told."""
    try:
        return elf.symbols(host, path)
    except (OSError, elf.Damaged):
        return set(), set()


def _elsewhere(
    host: Host, target: Target, packages: Packages, now: list[Imported]
) -> dict[str, tuple[str, ...]]:
    """Return where in the environment the libraries are that the loader does not find."""
    names = {problem.name for one in now for problem in one.problems if not problem.path}
    names = {name for name in names if "/" not in name and not DRIVER.match(name)}
    if not names:
        return {}
    folders = [f"{packages.torch.root}/lib"] if packages.torch else []
    for site in target.site_packages:
        folders += [f"{site}/nvidia/{name}/lib" for name in names_in(host, f"{site}/nvidia")]
    folders.append(f"{target.prefix}/lib")
    paths = {name: [f"{folder}/{name}" for folder in dict.fromkeys(folders)] for name in sorted(names)}
    held = {name: tuple(filter(lambda path: host.kind(path) == "file", paths[name])) for name in paths}
    return {name: there for name, there in held.items() if there}


# --- the machine --------------------------------------------------------------------------------------------


class Disk:
    """The machine as the model asks about it, and a record of the answers."""

    def __init__(self, host: Host, loader: DynamicLoader) -> None:
        self._host, self._loader = host, loader
        self._keys: dict[str, str | None] = {}
        self._files: dict[str, SharedObject] = {}
        self._first: dict[tuple[int, int], str] = {}
        self._subfolders: dict[str, tuple[str, ...]] = {}
        self._cached: dict[str, tuple[CachedLibrary, ...]] = {}
        self._cache: LoaderCache | None = None
        self._tops = tuple(dict.fromkeys(path.partition("/")[0] for path in loader.subfolders))

    def at(self, path: str) -> str | None:
        """See `Disk.at`."""
        if path not in self._keys:
            self._keys[path] = self._look(path)
        return self._keys[path]

    def _look(self, path: str) -> str | None:
        try:
            identity = self._host.identity(path)
            key = self._first.setdefault(identity[:2], path)
            if key not in self._files:
                self._files[key] = elf.read(self._host, path, identity.size_bytes)
            return key
        except NotRegular:
            folder = self._host.kind(path) == "directory"
            problem = "cannot read file data: Is a directory" if folder else "no regular file"
            self._files[path] = SharedObject(problem=problem)
            return path
        except OSError as error:
            return None if error.errno in (errno.ENOENT, errno.EACCES, errno.ENOTDIR) else ""

    def file(self, key: str) -> SharedObject:
        """See `Disk.file`."""
        return self._files[key]

    def subfolders(self, folder: str) -> Sequence[str]:
        """See `Disk.subfolders`."""
        if folder not in self._subfolders:
            self._subfolders[folder] = tuple(self._existing(folder or "."))
        return self._subfolders[folder]

    def _existing(self, folder: str) -> Iterator[str]:
        kind = self._host.kind
        there = [top for top in self._tops if kind(f"{folder}/{top}") == "directory"]
        for path in self._loader.subfolders if there else ():
            if path.partition("/")[0] in there and kind(f"{folder}/{path}") == "directory":
                yield path

    def cached(self, name: str) -> Sequence[CachedLibrary]:
        """See `Disk.cached`."""
        if self._cache is None:
            self._cache = LoaderCache(read_cache(self._host), self._loader.machine)
        if name not in self._cached:
            self._cached[name] = self._cache.entries(name)
        return self._cached[name]

    def seen(
        self,
        objects: SharedObjects,
        undefined: dict[str, tuple[str, ...]],
        elsewhere: dict[str, tuple[str, ...]],
    ) -> SharedObjects:
        """Return everything that was asked about and is there."""
        files = {
            key: structs.replace(file, real=self._real(key)) if DRIVER.match(basename(key)) else file
            for key, file in self._files.items()
        }
        return structs.replace(
            objects,
            files=files,
            paths={path: key for path, key in self._keys.items() if key is not None and key != path},
            subfolders={folder: names for folder, names in self._subfolders.items() if names},
            cached={name: entries for name, entries in self._cached.items() if entries},
            undefined=undefined,
            elsewhere=elsewhere,
        )

    def _real(self, path: str) -> str:
        real = self._host.realpath(path)
        return "" if real == path else real
