"""Which ptxas Triton will run for the GPUs that are here, and of which CUDA that is.

Triton brings the program with it, and asks it for its version as we do. That is done only where a GPU is of
a kind that some of them do not know, and by the rule of the installed Triton (3.5.0 and 3.8.0, read
2026-11-21): up to 3.5 one ptxas for all, later one for Blackwell and what follows.
"""

from __future__ import annotations

import errno
import os
import re

from msgspec import structs

from cudadoctor.facts import Driver, Environ, Packages, Ptxas, PtxasUse, Toolkits
from cudadoctor.host import Host, text_of
from cudadoctor.knowledge.drivers import SINCE
from cudadoctor.probes.compilers import child_environ
from cudadoctor.versions import numbers

_BLACKWELL = (10, 0)
#: What CUDA 12.0 knows is no question: both of these bring newer ones.
_KNOWN_LONG = (12, 0)
_VARIABLES = ("TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH")
_SOURCE_BYTES = 1 << 18
_TIMEOUT_S = 5.0


def probe(host: Host, environ: Environ, packages: Packages, toolkits: Toolkits, driver: Driver) -> Ptxas:
    """Return what Triton runs for each kind of GPU that is newer than CUDA 12.0, or where it is told what."""
    kinds = {gpu.capability for gpu in driver.gpus if gpu.capability}
    if not any(environ.get(name) is not None for name in _VARIABLES):
        kinds = {kind for kind in kinds if numbers(SINCE.get(kind, "")) > _KNOWN_LONG}
    if not kinds or packages.triton is None:
        return Ptxas()
    root = packages.triton.root
    source = f"{root}/backends/nvidia/compiler.py"
    rule, tools = (text_of(host, path, _SOURCE_BYTES) for path in (source, f"{root}/knobs.py"))
    if "get_ptxas(" not in rule or 'env_nvidia_tool("ptxas")' not in tools:
        return Ptxas(source, doubt=f"Triton {packages.triton.version} chooses its ptxas in another way")
    uses: dict[str, PtxasUse] = {}
    for kind in sorted(kinds, key=numbers):
        newer = "ptxas_blackwell if arch >= 100" in rule and numbers(kind) >= _BLACKWELL
        own = f"{root}/backends/nvidia/bin/ptxas{'-blackwell' if newer else ''}"
        use = next((use for use in uses.values() if use.variable == _variable(own)), None)
        use = use or _use(host, environ, packages, own)
        uses[kind] = structs.replace(use, capability=kind)
    return Ptxas(source, tuple(uses.values()), _others(host, toolkits))


def _others(host: Host, toolkits: Toolkits) -> dict[str, str]:
    paths = {f"{each.nvcc.rpartition('/')[0]}/ptxas": each.version for each in toolkits.toolkits if each.nvcc}
    return {path: version for path, version in paths.items() if host.kind(path) == "file"}


def _variable(own: str) -> str:
    return f"TRITON_{own.rpartition('/')[2].upper().replace('-', '_')}_PATH"


def _use(host: Host, environ: Environ, packages: Packages, own: str) -> PtxasUse:
    """Return the program that its variable names, or where that is not there or fails, Triton's own."""
    variable = _variable(own)
    named = environ.get(variable)
    version, problem = ("", "") if named is None else _version(host, environ, named)
    if named is not None and (version or problem):
        return PtxasUse("", named, version, variable, problem=problem)
    version, problem = _version(host, environ, own)
    use = PtxasUse("", own if version or problem else "", version, variable, named or "", problem)
    torch = f"{packages.torch.root}/bin/ptxas" if packages.torch else ""
    if named is None and variable == "TRITON_PTXAS_PATH" and torch and host.kind(torch) == "file":
        # torch sets the variable to the one that it brings before it compiles its first kernel.
        return structs.replace(use, compile_version=_version(host, environ, torch)[0])
    return use


def _version(host: Host, environ: Environ, path: str) -> tuple[str, str]:
    """Return what the program says, as Triton reads it, and what makes Triton raise.

    What is not there, fails or says no version is passed over; a file that may not be run is not.
    """
    ran = host.run([path, "--version"], child_environ(host, environ), timeout_s=_TIMEOUT_S)
    if ran.problem:
        return "", "" if ran.problem == os.strerror(errno.ENOENT) else ran.problem
    match = re.search(r"release (\d+\.\d+)", ran.stdout + ran.stderr)
    return (match[1] if match and not ran.status and not ran.timed_out else ""), ""
