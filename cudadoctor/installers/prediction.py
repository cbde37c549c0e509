"""What the facts would be with packages installed, as far as names alone tell."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from msgspec import Struct, structs

from cudadoctor.actions import Install
from cudadoctor.facts import (
    BuildTool,
    BuildTools,
    Conda,
    CondaRecord,
    Distribution,
    Environ,
    Facts,
    HeaderDirectory,
    Libraries,
    LibraryFile,
    Machine,
    Packages,
    Target,
    Toolkit,
    Toolkits,
    Unknown,
)
from cudadoctor.installers.inventory import name_of
from cudadoctor.knowledge.headers import HEADERS
from cudadoctor.probes.packages import normalise


def predicted(action: Install, facts: Facts) -> Facts:
    """Return the facts as they will be with the packages there, as far as their names alone tell.

    That is: the packages themselves, the programs ninja and cmake, and in a toolkit that is there already the
    headers, and in conda's the link names, that the known development packages are for. Not: what they
    depend on, versions that the solver picks, and a toolkit, compiler or shared library that was not there.
    """
    if isinstance(facts.target, Unknown):
        return facts
    ranged = frozenset(normalise(name_of(spec)) for spec in action.packages if re.search(r"[<>~!]", spec))
    names = {name_of(spec): _pinned(spec) for spec in action.packages}
    wanted = _Wanted(action.tool == "conda", names, facts.target, ranged)
    path = facts.environ.path if isinstance(facts.environ, Environ) else ()
    if isinstance(facts.packages, Packages) and not wanted.conda:
        facts = structs.replace(facts, packages=_with_distributions(wanted, facts.packages))
    if isinstance(facts.conda, Conda) and wanted.conda:
        facts = structs.replace(facts, conda=_with_records(wanted, facts.conda))
    if isinstance(facts.tools, BuildTools):
        facts = structs.replace(facts, tools=_with_programs(wanted, facts.tools, path))
    if not isinstance(toolkits := facts.toolkits, Toolkits):
        return facts
    if isinstance(facts.libraries, Libraries) and isinstance(facts.machine, Machine) and wanted.conda:
        links = _with_links(wanted, facts.libraries, toolkits, facts.machine.arch)
        facts = structs.replace(facts, libraries=links)
    return structs.replace(facts, toolkits=_with_headers(wanted, toolkits))


_PROGRAMS = ("ninja", "cmake")
_PINNED = re.compile(r"[\w.-]+(?:\[[^]]*\])?={1,2}([\w.!+]+)(?:=\w+)?")


class _Wanted(Struct, frozen=True):
    """What shall be installed: name to version, which is "" where it is left to the solver."""

    conda: bool
    names: dict[str, str]
    target: Target
    ranged: frozenset[str] = frozenset()  #: of these a version that suits will come, whichever that is


def _pinned(spec: str) -> str:
    match = _PINNED.fullmatch(spec.rpartition("::")[2])
    return match[1] if match else ""


def _with_distributions(wanted: _Wanted, packages: Packages) -> Packages:
    inside = f"{wanted.target.prefix}/"
    sites = wanted.target.site_packages
    site = next((folder for folder in sites if folder.startswith(inside)), next(iter(sites), ""))
    found = list(packages.distributions)
    for name, version in ((normalise(name), version) for name, version in wanted.names.items()):
        there = packages.find(name)
        if there is None or name in wanted.ranged or (version and there.version != version):
            found = [d for d in found if d is not there]
            found.append(Distribution(name, version, site))
    flashinfer, cache = packages.flashinfer, "flashinfer-jit-cache"
    if flashinfer is not None and wanted.names.get(cache):
        flashinfer = structs.replace(flashinfer, jit_cache=wanted.names[cache])
    return structs.replace(packages, distributions=tuple(found), flashinfer=flashinfer)


def _with_records(wanted: _Wanted, conda: Conda) -> Conda:
    records = {record.name: record for record in conda.records}
    for name, version in wanted.names.items():
        if name not in records or (version and not f"{records[name].version}.".startswith(f"{version}.")):
            records[name] = CondaRecord(name, version)
    more = len(records) - len(conda.records)
    return structs.replace(conda, records=tuple(records.values()), count=conda.count + more)


def _with_programs(wanted: _Wanted, tools: BuildTools, path: Sequence[str]) -> BuildTools:
    found = dict(tools.tools)
    folder = f"{wanted.target.prefix}/bin"
    for name in wanted.names.keys() & set(_PROGRAMS):
        if not found.get(name, BuildTool()).path:
            place = f"{folder}/{name}"
            version = wanted.names[name]
            found[name] = (
                BuildTool(place, version) if folder in path else BuildTool("", version, elsewhere=place)
            )
    return structs.replace(tools, tools=found)


def _own(wanted: _Wanted, toolkits: Toolkits) -> Toolkit | None:
    """Return the toolkit that the installer's CUDA packages will be a part of, where there is one already."""
    layout, prefix = ("conda" if wanted.conda else "pip-cu13"), wanted.target.prefix
    same = (toolkit for toolkit in toolkits.toolkits if toolkit.layout == layout)
    return next((t for t in same if t.root == prefix or t.root.startswith(f"{prefix}/")), None)


def _with_headers(wanted: _Wanted, toolkits: Toolkits) -> Toolkits:
    by = "conda" if wanted.conda else "pip13"
    brought = {h.name: getattr(h.package, by) for h in HEADERS if getattr(h.package, by) in wanted.names}
    own = _own(wanted, toolkits)
    # Conda keeps them under targets/: the folder at the root holds other packages' headers.
    usual = own.include if own is not None else ()
    folder = next((f for f in usual if "/targets/" in f or not wanted.conda), "")
    if not folder or not brought:
        return toolkits
    was = toolkits.headers.get(folder, HeaderDirectory(True))
    names = tuple(h.name for h in HEADERS if h.name in was.headers or h.name in brought)
    release = ".".join(wanted.names.get(brought.get("cuda_runtime_api.h", ""), "").split(".")[:2])
    now = structs.replace(was, headers=names, cudart_version=release or was.cudart_version)
    return structs.replace(toolkits, headers={**toolkits.headers, folder: now})


def _with_links(wanted: _Wanted, libraries: Libraries, toolkits: Toolkits, arch: str) -> Libraries:
    own = _own(wanted, toolkits)
    if own is None:
        return libraries
    file = LibraryFile("shared", arch, 64)
    files = {f"lib{name}.so": file for name in _link_names(wanted.names)}
    stubs = {"libcuda.so": file} if "cuda-driver-dev" in wanted.names else {}
    places = {**dict.fromkeys(own.lib, files), **dict.fromkeys(own.stubs, stubs)}
    found = dict(libraries.directories)
    for folder, directory in libraries.directories.items():
        new = places.get(folder.rstrip("/")) or places.get(directory.real)
        if new and directory.exists:
            kept = {n: f for n, f in directory.files.items() if n not in new or f.kind in _LINKABLE}
            asked = {name: file for name, file in new.items() if name in libraries.names}
            found[folder] = structs.replace(directory, files={**asked, **kept})
    return structs.replace(libraries, directories=found)


_LINKABLE = ("shared", "archive", "script")


def _link_names(names: Iterable[str]) -> list[str]:
    """Return the libraries whose link names these development packages of conda bring."""
    dev = {header.package.conda for header in HEADERS if header.package.conda.endswith("-dev")}
    stems = [re.sub(r"^(?:cuda-|lib)|-dev$", "", name) for name in names if name in dev]
    return [*stems, *(["cublasLt"] if "cublas" in stems else [])]
