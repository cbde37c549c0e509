"""See the check's own page."""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Compilers, Environ, Libraries, LibraryFile, Packages, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import consumers
from cudadoctor.simulate.lines import RUN_TIME, LinkLine, Scene, link_lines, resolve
from cudadoctor.versions import numbers

_CUDA = re.compile(
    r"lib(cuda|cudart|cudadevrt|cublas|cudnn|cufft|cufile|culibos|cupti|curand|cusolver|cusparse|cutensor|"
    r"nccl|npp|nvblas|nvfatbin|nvidia-ml|nvJitLink|nvjpeg|nvperf|nvptxcompiler|nvrtc|nvToolsExt|nvtx|nvvm)"
    r"[\w-]*\.(so|a)\b"
)
_DRIVER = re.compile(r"lib(cuda|nvidia-[\w-]+)\.so")
_SYSTEM = ("/usr/lib", "/lib", "/usr/lib64", "/lib64")
_WHOLE = ("shared", "script", "archive")


@check
def dangling_cuda_links(
    toolkits: Toolkits, libraries: Libraries, compilers: Compilers, environ: Environ, packages: Packages
) -> Iterator[Finding]:
    """Links of CUDA libraries lead to files that are gone.

    ## What it means
    A link made by hand with an absolute path breaks when the environment is moved or copied; one to a file
    with its full number breaks when the package is upgraded. The linker goes past it without a word and says
    `cannot find -lcudart`. A link that is literally called `libcudart.so*` is what `ln -s .../libcudart.so*`
    leaves where the pattern matches nothing: it succeeds, and helps nobody.

    ## How to tell
    `find "$CUDA_HOME/" -xtype l` lists them.

    ## What helps
    To let the link lead to the library where it now is, or to remove it. Relative links survive a move.
    """
    if not toolkits.toolkits and not toolkits.selections:
        raise Skip("no CUDA toolkit is within reach")
    everything = _links(toolkits, libraries)
    blocked = _blocked(Scene(toolkits, compilers, libraries, environ, packages)) if everything else {}
    by_folder: dict[str, list[_Link]] = {}
    for link in everything:
        by_folder.setdefault(link.folder, []).append(link)
    for folder, links in by_folder.items():
        yield _finding(folder, links, blocked)


class _Link(Struct, frozen=True):
    folder: str
    name: str
    file: LibraryFile
    better: str  #: where the library now is; "" where nowhere
    place: str  #: its path with the links in front of its name resolved

    @property
    def path(self) -> str:
        return f"{self.folder.rstrip('/')}/{self.name}"

    @property
    def says(self) -> str:
        if self.file.kind == "loop":
            return f"-> {self.file.link}, which leads back to itself"
        if self.file.kind == "dangling":
            there = self.file.resolved or self.file.link
            return f"-> {self.file.link}: {there} does not exist"
        return "is literally called so: what an unmatched pattern left"


def _links(toolkits: Toolkits, libraries: Libraries) -> list[_Link]:
    """Return the broken links in the folders of every toolkit and selected root, each place once."""
    found: dict[str, _Link] = {}
    for folder, siblings in _folders(toolkits).items():
        directory = libraries.directories.get(folder)
        if directory is None or not directory.exists:
            continue
        for name, file in directory.files.items():
            if _is_broken(name, file, folder):
                place = _place(f"{folder}/{name}", libraries)
                better = "" if name.endswith("*") else _better(name, [folder, *siblings], libraries)
                found.setdefault(place, _Link(folder, name, file, better, place))
    return list(found.values())


def _place(path: str, libraries: Libraries) -> str:
    folder, _, name = path.rpartition("/")
    directory = libraries.directories.get(folder)
    return f"{(directory.real if directory else '') or folder}/{name}"


def _folders(toolkits: Toolkits) -> dict[str, list[str]]:
    """Return each library folder with all those of its toolkit."""
    found: dict[str, list[str]] = {}
    for toolkit in toolkits.toolkits:
        usual = [f"{toolkit.root}/{tail}" for tail in ("lib64", "lib", "lib64/stubs", "lib/stubs")]
        folders = list(dict.fromkeys([*toolkit.lib, *toolkit.stubs, *usual]))
        found.update(dict.fromkeys(folders, folders))
    for selection in toolkits.selections:
        for tail in ("lib64", "lib64/stubs"):
            found.setdefault(f"{selection.root}/{tail}", [])
    return found


def _is_broken(name: str, file: LibraryFile, folder: str) -> bool:
    if _CUDA.match(name) is None:
        return False
    if name.endswith("*"):
        return True
    if file.kind not in ("dangling", "loop"):
        return False
    # Without a driver, as in a container that is not running on a GPU, the driver's own links lead nowhere.
    return not (_DRIVER.match(name) and folder.startswith(_SYSTEM))


def _better(name: str, folders: list[str], libraries: Libraries) -> str:
    """Return the whole file that the link should lead to: of the same name, else the newest of its number."""
    for folder in folders:
        directory = libraries.directories.get(folder)
        whole = [n for n, file in (directory.files if directory else {}).items() if file.kind in _WHOLE]
        if "stubs" in folder and "/stubs" not in folders[0]:
            continue
        if folder != folders[0] and name in whole:
            return f"{folder.rstrip('/')}/{name}"
        if longer := [n for n in whole if n.startswith(f"{name}.") and not n.endswith("*")]:
            return f"{folder.rstrip('/')}/{max(longer, key=_numbers)}"
    return ""


def _numbers(name: str) -> tuple[int, ...]:
    return numbers(name.partition(".so")[2])


def _blocked(scene: Scene) -> dict[str, LinkLine]:
    """Return the places that a link line went past before it found nothing, with that line."""
    active = {*consumers(scene.packages, scene.toolkits, scene.environ), "triton"}
    found: dict[str, LinkLine] = {}
    for line in link_lines(scene):
        for name in line.names if line.consumer in active else ():
            resolution = resolve(line, name, scene)
            if resolution.ends == "missing":
                for passed in resolution.passed:
                    found.setdefault(_place(passed.path, scene.libraries), line)
    return found


def _finding(folder: str, links: list[_Link], blocked: dict[str, LinkLine]) -> Finding:
    harmful = [(link, blocked[link.place]) for link in links if link.place in blocked]
    names = ", ".join(link.name for link in links)
    what = "a link that leads" if len(links) == 1 else "links that lead"
    evidence = [Evidence(link.path, link.says) for link in links]
    evidence += [Evidence(line.source, f"{line.command}: goes past {link.name}") for link, line in harmful]
    return Finding(
        f"{folder} has {what} nowhere: {names}",
        Severity.ERROR if any(line.when == RUN_TIME for _, line in harmful) else Severity.WARNING,
        tuple(evidence),
        tuple(_remedies(links)),
    )


def _remedies(links: list[_Link]) -> Iterator[Remedy]:
    """Lead a link to where the library is; remove one that nobody's package can have meant.

    A relative link beside its library is the package's own: what is missing is the file, and removing the
    link would leave nothing to find it by when the file is back.
    """
    ours = [
        link for link in links if link.better or link.name.endswith("*") or link.file.link.startswith("/")
    ]
    if ours:
        yield Remedy("cuda-links", {link.path: link.better for link in ours}, _command(ours))
    lost = [posixpath.basename(link.file.link) for link in links if link not in ours]
    if lost:
        files = ", ".join(dict.fromkeys(lost))
        yield Remedy(
            "show", {}, f"the package that brings {files}, installed again: its own link is left over"
        )


def _command(links: list[_Link]) -> str:
    """Return what one would type: `values` hold for each link where it shall lead, "" to remove it."""
    again = [link for link in links if link.better]
    made = [f"ln -sfn {shlex.quote(_relative(link))} {shlex.quote(link.path)}" for link in again]
    if gone := [shlex.quote(link.path) for link in links if not link.better]:
        made.append(f"rm {' '.join(gone)}")
    return " && ".join(made)


def _relative(link: _Link) -> str:
    """Return the way from the link's real folder to where it shall lead: it survives a move of both."""
    return posixpath.relpath(link.better, posixpath.dirname(link.place))
