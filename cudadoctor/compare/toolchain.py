"""CUDA toolkits, compilers, build tools and libraries as rows."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import BOTH, Row, listed
from cudadoctor.facts import (
    BuildTools,
    Compilers,
    Libraries,
    LibraryFile,
    LinkDirectory,
    SharedObject,
    SharedObjects,
    Toolkits,
)

_CONSUMERS = {"flashinfer": "FlashInfer", "torch": "torch", "tvm-ffi": "tvm-ffi", "cmake": "CMake",
              "triton": "Triton", "vllm": "vLLM"}  # fmt: skip


def toolkits(section: Toolkits, roots: Roots) -> Iterator[Row]:
    """Yield each toolkit, the one that each consumer takes, the nvcc on PATH, and what headers there are."""
    for each in section.toolkits:
        plain = roots.plain(each.root)
        version = each.version or "of unknown version"
        told = version + ("" if each.nvcc else ", without nvcc")
        names = (plain, f"{plain}/")
        what = f"CUDA toolkit at {each.root}"
        yield Row(f"at {plain}", told, told, what, names, "CUDA toolkits", "none", item=each.root)
    for selection in section.selections:
        root = roots.plain(selection.root)
        lacks = "" if selection.has_nvcc else ", without nvcc" if selection.exists else ", which is not there"
        who = _CONSUMERS.get(selection.consumer, selection.consumer)
        group = "toolkit taken by"
        yield Row(f"{group} {who}", root + lacks, selection.root + lacks, f"{group} {who}", (root,), group)
    yield from _nvcc(section, roots)
    owners = {folder: roots.plain(each.root) for each in section.toolkits for folder in each.include}
    for folder, headers in section.headers.items():
        plain = roots.plain(folder)
        for header in headers.headers:
            what, names = f"{header} in {folder}", (f"{plain}{BOTH}{header}", f"{plain}/{header}")
            yield Row(f"{header} in {plain}", 1, "there", what, names, "headers", "missing", f"in {plain}")
        if headers.cudart_version:
            version, what = headers.cudart_version, f"CUDA of the headers in {folder}"
            after = f"at {owners[folder]}" if folder in owners else ""
            yield Row(f"headers in {plain}", version, version, what, (plain,), after=after)
        yield Row(
            f"in {plain}",
            headers.exists,
            _there(headers.exists),
            folder,
            (plain,),
            "folders",
            "missing",
            "",
            True,
        )


def _nvcc(section: Toolkits, roots: Roots) -> Iterator[Row]:
    nvcc = section.nvcc_on_path
    if nvcc is None:
        return
    how = {"script": "a script that starts", "link": "a link to"}.get(nvcc.kind, "")
    told = f"{nvcc.path}, {how} {nvcc.runs}" if how and nvcc.runs else nvcc.path
    names = tuple(roots.plain(path) for path in (nvcc.path, nvcc.runs) if path)
    yield Row("nvcc", roots.plain(told), told, "nvcc on PATH", names)


def _there(exists: bool) -> str:
    return "there" if exists else "missing"


def compilers(section: Compilers, roots: Roots) -> Iterator[Row]:
    """Yield each host compiler, where it lets the linker look, and who uses which."""
    for command, each in section.compilers.items():
        told = f"{each.family} {each.version}".strip() or each.problem or each.path or "not found"
        told += f" ({each.problem})" if each.problem and told != each.problem else ""
        key = f"compiler {roots.plain(command)}"
        yield Row(key, told, told, command, (command,), "compilers", "not found")
        if each.search is not None:
            entries = " ".join(map(roots.plain, each.search.entries))
            what = f"folders where {command} lets the linker look"
            number = str(len(each.search.entries))
            yield Row(f"search {command}", entries, number, what, (), "", "none", key)
    for use in section.uses:
        who = _CONSUMERS.get(use.consumer, use.consumer)
        command = roots.plain(use.command)
        group = f"compiler for the {_JOBS.get(use.job, use.job)} taken by"
        yield Row(f"{group} {who}", command, use.command, f"{group} {who}", (), group)


_JOBS = {"link": "link", "device": "host code of nvcc", "stub": "launcher"}


def tools(section: BuildTools, roots: Roots) -> Iterator[Row]:
    """Yield each build program with its version, and Python.h."""
    for name, each in section.tools.items():
        if each.path or each.elsewhere:
            told = each.version or ("there" if each.path else f"not on PATH, but at {each.elsewhere}")
            # Without a version its place is told, and not compared.
            shown = told if told != "there" else f"{each.path}, of unknown version"
            yield Row(name, roots.plain(told), shown, name, (name,), "build tools", "missing")
    if section.python_header:
        yield Row("Python.h", 1, "there", "Python.h", ("python.h",), "", "missing")


def libraries(section: Libraries, roots: Roots) -> Iterator[Row]:
    """Yield the folders of a link, and the libraries in them; each once, whatever leads there as well."""
    spellings: dict[str, list[str]] = {}
    for folder, directory in section.directories.items():
        spellings.setdefault(directory.real or folder, []).append(folder)
    for real, folders in spellings.items():
        folder = real if real in section.directories else folders[0]
        names = tuple(dict.fromkeys(map(roots.plain, folders)))
        yield from _directory(folder, names, section.directories[folder], roots)
        for other in folders:
            if other != folder:
                plain = roots.plain(other)
                yield Row(f"folder {plain}", True, "there", other, (plain,), "folders", "missing", "", True)
    if section.driver:
        paths = listed(section.driver)
        yield Row(
            "driver", roots.plain(paths), paths, "libcuda.so.1 in the loader's cache", ("libcuda.so.1",)
        )


def _directory(folder: str, names: tuple[str, ...], directory: LinkDirectory, roots: Roots) -> Iterator[Row]:
    plain = roots.plain(folder)
    key = f"folder {plain}"
    state = _there(directory.exists) if not directory.reason else f"cannot be read ({directory.reason})"
    yield Row(key, state == "there" or state, state, folder, names, "folders", "missing", "", True)
    for name, file in directory.files.items():
        told = _library(file, roots)
        evident = (f"{plain}/{name}", *(f"{each}/{name}" for each in names), *_in(names, name))
        what = f"{name} in {folder}"
        yield Row(
            f"{plain}/{name}", told, roots.here(told) or told, what, evident, "libraries", "missing", key
        )


def _in(folders: tuple[str, ...], name: str) -> Iterator[str]:
    """Yield each folder together with the library's name, as the linker and as people say it."""
    stem = name.partition(".")[0].removeprefix("lib")
    for folder in folders:
        yield f"{folder}{BOTH}lib{stem}"
        yield f"{folder}{BOTH}-l{stem}"


def _library(file: LibraryFile, roots: Roots) -> str:
    """Return what stands at a library's name: "there", or why that is none."""
    if file.kind in ("dangling", "loop"):
        return f"a broken link to {roots.plain(file.link or file.resolved)}"
    kind = "there" if file.kind in ("shared", "archive", "script", "text") else f"{file.kind} file"
    bits = f"{kind} (of {file.machine})" if file.machine not in ("", "x86_64") else kind
    return f"{bits}, a link to {roots.plain(file.link)}" if file.link else bits


def objects(section: SharedObjects, roots: Roots) -> Iterator[Row]:
    """Yield each library that the loader finds for the stack, and the newest versions that it provides."""
    if section.loader is not None:
        yield Row("loader", section.loader.path, section.loader.path, "loader")
    own = {each.path for each in section.extensions} | {section.python}
    places: dict[str, dict[str, SharedObject]] = {}
    for path, file in section.files.items():
        if path not in own:
            places.setdefault(path.rpartition("/")[2], {})[path] = file
    for name, files in places.items():
        folders = sorted({posixpath.dirname(posixpath.normpath(path)) for path in files})
        told, plain = listed(folders), listed(sorted(map(roots.plain, folders)))
        names = (name, *(roots.plain(path) for path in files))
        what, group = f"{name} that the loader finds", "libraries for the loader"
        yield Row(f"found {name}", plain, told, what, names, group, item=name)
        for file in files.values():
            if file.problem:
                what = f"{name}, when it is loaded"
                yield Row(f"problem {name}", file.problem, file.problem, what, names, "", "loads")
            if newest := _newest(file.provides):
                what, after = f"newest version in {name}", f"found {name}"
                yield Row(f"newest {name}", newest, newest, what, names, after=after)


_NUMBERS = re.compile(r"[0-9]+(?:\.[0-9]+)*")


def _newest(provides: tuple[str, ...]) -> str:
    """Return the newest of each kind of version of the C and C++ libraries: GLIBC, GLIBCXX, CXXABI."""
    newest: dict[str, tuple[int, ...]] = {}
    for version in provides:
        kind, _, number = version.partition("_")
        if kind in ("GLIBC", "GLIBCXX", "CXXABI") and _NUMBERS.fullmatch(number) and len(number) < 30:
            parts = tuple(map(int, number.split(".")))
            newest[kind] = max(newest.get(kind, ()), parts)
    return listed(f"{kind}_{'.'.join(map(str, parts))}" for kind, parts in sorted(newest.items()))
