"""Build programs and headers beside the compiler: ninja, cmake, ccache, Python.h."""

from __future__ import annotations

from cudadoctor.facts import BuildTool, BuildTools, Environ, Packages, Target
from cudadoctor.host import Host, barred, which

_TOOLS = ("ninja", "cmake", "ccache")


def probe(host: Host, target: Target, environ: Environ, packages: Packages) -> BuildTools:
    """Return where each program is on the judged PATH, and the Python.h that Triton will include."""
    tools = {name: _tool(host, name, target, environ, packages) for name in _TOOLS}
    folders = [target.include, *environ.entries("CPATH"), *environ.entries("C_INCLUDE_PATH")]
    looked = tuple(f"{folder}/Python.h" for folder in folders if folder)
    header = next((path for path in looked if host.kind(path) == "file"), "")
    closed = "" if header else next(filter(None, (barred(host, path) for path in looked)), "")
    return BuildTools(tools, header, looked, closed)


def _tool(host: Host, name: str, target: Target, environ: Environ, packages: Packages) -> BuildTool:
    found = packages.find(name)
    version = found.version if found else ""
    if path := which(host, name, environ.path):
        inside = path.startswith(f"{target.prefix}/")
        return BuildTool(path, version if inside else "")
    inside_path = f"{target.prefix}/bin/{name}"
    return BuildTool("", version, inside_path if host.executable(inside_path) else "")
