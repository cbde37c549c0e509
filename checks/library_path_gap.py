"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import check
from cudadoctor.facts import Compilers, Environ, Libraries, Packages, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.choice import consumers
from cudadoctor.simulate.lines import LinkLine, Scene, link_lines, resolve
from cudadoctor.simulate.links import cured, new_link
from cudadoctor.verdicts import toolkit_link

#: Libraries that CUDA extensions link against beside the runtime.
WANTED = ("cublas", "cublasLt", "cufft", "curand", "cusolver", "cusparse", "nvrtc", "nvJitLink")


@check
def library_path_gap(
    toolkits: Toolkits, compilers: Compilers, libraries: Libraries, environ: Environ, packages: Packages
) -> Iterator[Finding]:
    """Libraries are there, but no link line reaches them; or a path variable has empty entries.

    ## What it means
    The development files of a conda environment lie in `lib` and `targets/*/lib`, while builds look in
    `lib64`: an extension that links `-lcublas` fails although the package is installed. An empty entry in
    `LIBRARY_PATH` or `LD_LIBRARY_PATH` (a colon at either end, two in a row) means the current folder, so
    that whatever lies there is linked or loaded first.

    ## How to tell
    `g++ -shared x.o -L"$CUDA_HOME/lib64" -lcublas` fails; `echo "$LIBRARY_PATH"` shows the empty entry.

    ## What helps
    One relative link (`lib64 -> lib`) where there is no `lib64`; else `LIBRARY_PATH` with the folder that
    holds the link names (the linker's variable; `LD_LIBRARY_PATH` is the loader's). The variable without its
    empty entries.
    """
    for variable in ("LIBRARY_PATH", "LD_LIBRARY_PATH"):
        yield from _entries(variable, environ)
    scene = Scene(toolkits, compilers, libraries, environ, packages)
    active = consumers(packages, toolkits, environ)
    lines = [line for line in link_lines(scene) if line.consumer in active]
    for line in lines[:1]:
        if (toolkit := toolkits.at(line.root)) is not None:
            yield from _gap(line, toolkit, scene)


def _entries(variable: str, environ: Environ) -> Iterator[Finding]:
    entries, value = environ.entries(variable), environ.get(variable)
    kept = [entry for entry in entries if entry]
    reader = "linker" if variable == "LIBRARY_PATH" else "loader"
    remedy = export("library-path", **{variable: ":".join(kept)})
    shown = Evidence(environ.where(variable), f"{variable}={value}")
    if len(kept) < len(entries):
        summary = f"{variable} has an empty entry: the {reader} searches the current folder too"
        yield Finding(summary, Severity.NOTE, (shown,), (remedy,))


def _gap(line: LinkLine, toolkit: Toolkit, scene: Scene) -> Iterator[Finding]:
    """Report link names in the toolkit's own folders that its consumer's link would not find."""
    hidden: dict[str, list[str]] = {}
    for name in WANTED:
        folder = _holder(name, toolkit, scene.libraries)
        if folder and resolve(line, name, scene).ends == "missing":
            hidden.setdefault(folder, []).append(name)
    remedy = _remedy(line, hidden, scene)
    for folder, names in hidden.items():
        flags = " ".join(f"-l{name}" for name in names)
        yield Finding(
            f"an extension that links {flags} will not find it, though it is installed",
            Severity.WARNING,
            (
                Evidence(folder, "has " + ", ".join(f"lib{name}.so" for name in names)),
                Evidence(line.source, f"{line.command}: looks in none of the folders that have it"),
            ),
            (remedy,),
        )


def _remedy(line: LinkLine, hidden: dict[str, list[str]], scene: Scene) -> Remedy:
    """Return one cure for all of it: one link where that reaches every library, else LIBRARY_PATH.

    It is the link that a missing `-lcudart` asks for too, so that one cause has one cure.
    """
    value = ":".join([*filter(None, scene.environ.entries("LIBRARY_PATH")), *hidden])
    path = export("library-path", LIBRARY_PATH=value)
    names = [name for found in hidden.values() for name in found]
    link = new_link(line, names[0], scene) if names else None
    whole = link is not None and link.path == f"{line.root}/lib64"
    if link is not None and whole and all(cured(line, name, link, scene) for name in names):
        return toolkit_link(link, path)
    return path


def _holder(name: str, toolkit: Toolkit, libraries: Libraries) -> str:
    for folder in toolkit.lib:
        directory = libraries.directories.get(folder)
        file = directory.files.get(f"lib{name}.so") if directory else None
        if file is not None and file.kind in ("shared", "script"):
            return folder
    return ""
