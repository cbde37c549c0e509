"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Environ, Packages, SharedObjects
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.loading import found_by, loaded_extensions, short, take_out
from cudadoctor.simulate.imports import Lacking, lacking
from cudadoctor.simulate.loader import Loaded
from cudadoctor.versions import numbers


@check
def symbol_version_missing(objects: SharedObjects, environ: Environ, packages: Packages) -> Iterator[Finding]:
    """A library that gets loaded is older than what is linked against it needs.

    ## What it means
    Libraries mark their symbols with versions: `GLIBCXX_3.4.32` came with GCC 13's libstdc++, `GLIBC_2.34`
    with that glibc. An extension that was built with newer ones cannot be loaded with older ones:
    ``libstdc++.so.6: version `GLIBCXX_3.4.32' not found``. The first libstdc++ that is loaded serves the
    whole process, so an old one in `LD_LIBRARY_PATH` is enough.

    ## How to tell
    `strings -a FILE | grep GLIBCXX` lists what a libstdc++ has; `readelf -V EXTENSION` what is needed.

    ## What helps
    Where `LD_LIBRARY_PATH` leads to the old one, to take that folder out. Otherwise a newer library: in a
    conda environment `libstdcxx-ng`; for glibc only a newer system, or a wheel that was built for this one.
    """
    found: dict[str, list[Lacking]] = {}
    for one in loaded_extensions(objects, environ):
        for lack in lacking(one):
            found.setdefault(lack.has.file, []).append(lack)
    for lacks in found.values():
        yield _finding(lacks, objects, environ, packages)


def _finding(lacks: list[Lacking], objects: SharedObjects, environ: Environ, packages: Packages) -> Finding:
    has = lacks[0].has
    versions = sorted({version for lack in lacks for version in lack.versions}, key=_number)
    needers = {lack.needs.file: lack for lack in lacks}
    first = short(lacks[0].needs.path, packages)
    who = f"{first} and {len(needers) - 1} more need" if len(needers) > 1 else f"{first} needs"
    evidence = [
        Evidence(lack.needs.path, f"needs {', '.join(lack.versions)} of {_asked(lack)}")
        for lack in list(needers.values())[:3]
    ]
    evidence.append(Evidence(has.path, f"{_newest(has, versions[-1])}; {found_by(has, environ)}"))
    remedy = take_out({has.folder}, objects, environ) if has.rule == "LD_LIBRARY_PATH" else None
    return Finding(
        f"{has.path} lacks {versions[-1]}, which {who}",
        Severity.ERROR,
        tuple(evidence),
        (remedy,) if remedy else (),
    )


def _asked(lack: Lacking) -> str:
    return next(need.file for need in lack.needs.object.requires if set(lack.versions) <= set(need.names))


def _number(version: str) -> tuple[str, tuple[int, ...]]:
    """Return what sorts GLIBCXX_3.4.9 before GLIBCXX_3.4.29."""
    return version.partition("_")[0], numbers(version)


def _newest(has: Loaded, version: str) -> str:
    family = version.partition("_")[0] + "_"
    same = [name for name in has.object.provides if name.startswith(family)]
    numbered = [name for name in same if re.fullmatch(r"[\d.]+", name.removeprefix(family))]
    return f"its newest is {max(numbered, key=_number)}" if numbered else f"has no {version}"
