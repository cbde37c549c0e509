"""How each section of the facts becomes rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cudadoctor.compare import builds, environment, gpu, launch, toolchain
from cudadoctor.compare.roots import Roots
from cudadoctor.compare.rows import Row, walked
from cudadoctor.facts import Section

_OWN: Mapping[str, Callable[[Any, Roots], Iterator[Row]]] = {
    "target": environment.target,
    "environ": environment.environ,
    "packages": environment.packages,
    "conda": environment.conda,
    "machine": environment.machine,
    "toolkits": toolchain.toolkits,
    "compilers": toolchain.compilers,
    "tools": toolchain.tools,
    "libraries": toolchain.libraries,
    "objects": toolchain.objects,
    "driver": gpu.driver,
    "kernels": gpu.kernels,
    "ptxas": gpu.ptxas,
    "builds": builds.builds,
    "dlpack": builds.dlpack,
    "hub": builds.hub,
    "caches": launch.caches,
    "storage": launch.storage,
    "deep": launch.deep,
    "live": launch.live,
    "launch": launch.launch,
    "card": launch.card,
    "paths": launch.paths,
    "resources": launch.resources,
}
#: The others are told field by field, under these headings and without these fields.
_WALKED: Mapping[str, tuple[str, frozenset[str]]] = {
    "repairs": ("repairs", frozenset()),
    "symbols": ("symbols", frozenset(("alike",))),
    "model": ("model", frozenset(("room", "token", "methods", "similar", "online"))),
}


def rows(name: str, section: Section, roots: Roots) -> dict[str, Row]:
    """Return the rows of a section by key; of two with one key the first counts."""
    if name in _OWN:
        found = _OWN[name](section, roots)
    else:
        about, skip = _WALKED.get(name, (name, frozenset()))
        found = walked(about, section, roots, skip)
    by_key: dict[str, Row] = {}
    for row in found:
        by_key.setdefault(row.key, row)
    return by_key
