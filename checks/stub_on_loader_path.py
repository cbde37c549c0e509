"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Libraries, LibraryFile, Machine
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export

_SONAME, _LINK_NAME = "libcuda.so.1", "libcuda.so"
_MEANINGS = {
    _SONAME: "CUDA will report that its driver is a stub library (error 34)",
    _LINK_NAME: "a program that opens libcuda.so by that name gets error 34 from cuInit",
}


@check
def stub_on_loader_path(environ: Environ, libraries: Libraries, machine: Machine) -> Iterator[Finding]:
    """LD_LIBRARY_PATH leads the loader to a stub of the driver instead of the driver.

    ## What it means
    The `libcuda.so` in a folder called `stubs` is there to be linked against on machines without a driver:
    none of its functions does anything but return error 34. The loader goes through `LD_LIBRARY_PATH` before
    the system's own folders. Where it finds a stub as `libcuda.so.1`, nothing can use the GPU: `CUDA driver
    is a stub library`. A stubs folder that holds only `libcuda.so` harms the programs that open this name;
    torch and the CUDA runtime ask for `libcuda.so.1` and go past it. A stubs folder in `LIBRARY_PATH`, which
    only the linker reads, is right.

    ## How to tell
    `LD_DEBUG=libs python -c "import ctypes; ctypes.CDLL('libcuda.so.1')" 2>&1 | grep 'init: .*libcuda'` names
    a file below `stubs`.

    ## What helps
    `LD_LIBRARY_PATH` without that folder; a link that is to help the linker belongs into `LIBRARY_PATH`.
    """
    value = environ.get("LD_LIBRARY_PATH")
    if not value:
        raise Skip("LD_LIBRARY_PATH is not set")
    entries = list(dict.fromkeys(entry or "." for entry in value.split(":")))
    stubs: dict[str, _Hit] = {}
    for name in (_SONAME, _LINK_NAME):
        hit = _first(name, entries, libraries, machine)
        if hit is not None and hit.is_stub:
            stubs.setdefault(hit.entry, hit)
    for hit in stubs.values():
        yield _finding(hit, environ, libraries, machine)
    unseen = [entry for entry in entries if entry not in libraries.directories]
    if unseen and not stubs:
        raise CannotTell(f"{unseen[0]}, in LD_LIBRARY_PATH, was not looked at")


class _Hit(Struct, frozen=True):
    """What the loader takes for one name, and the entry it finds it by."""

    name: str
    entry: str
    path: str
    real: str  #: the file that a link leads to

    @property
    def is_stub(self) -> bool:
        return self.real.rpartition("/")[0].endswith("/stubs")


def _first(name: str, entries: list[str], libraries: Libraries, machine: Machine) -> _Hit | None:
    """Return the file that the loader takes: it goes past what it cannot open, or is for another CPU."""
    for entry in entries:
        directory = libraries.directories.get(entry)
        file = directory.files.get(name) if directory else None
        if directory and file is not None and _loadable(file, machine):
            folder = entry.rstrip("/")
            real = file.resolved or f"{directory.real or folder}/{name}"
            return _Hit(name, entry, f"{folder}/{name}", real)
    return None


def _loadable(file: LibraryFile, machine: Machine) -> bool:
    return file.kind == "shared" and file.machine in ("", machine.arch) and file.bits in (0, 64)


def _finding(hit: _Hit, environ: Environ, libraries: Libraries, machine: Machine) -> Finding:
    severity = Severity.ERROR if hit.name == _SONAME else Severity.WARNING
    evidence = [
        Evidence(environ.where("LD_LIBRARY_PATH"), f"LD_LIBRARY_PATH={environ.get('LD_LIBRARY_PATH')}"),
        Evidence(hit.path, f"leads to {hit.real}" if hit.real != hit.path else "is a stub library"),
    ]
    evidence += [Evidence(path, "is the driver of this machine") for path in libraries.driver[:1]]
    remedy = _remedy(environ, libraries, machine)
    return Finding(
        f"LD_LIBRARY_PATH leads to the stub {hit.path}: {_MEANINGS[hit.name]}",
        severity,
        tuple(evidence),
        (remedy,) if _is_stubs_folder(hit.entry, libraries) else (),
    )


def _is_stubs_folder(entry: str, libraries: Libraries) -> bool:
    """Return whether an entry is a stubs folder itself: others hold libraries that a program may need."""
    directory = libraries.directories.get(entry)
    real = (directory.real if directory else "") or entry
    return any(path.rstrip("/").endswith("/stubs") for path in (entry, real))


def _remedy(environ: Environ, libraries: Libraries, machine: Machine) -> Remedy:
    """Take out every stubs folder that has a stub of the driver, so that no second one steps in."""
    kept = []
    for entry in environ.entries("LD_LIBRARY_PATH"):
        hits = [_first(name, [entry or "."], libraries, machine) for name in (_SONAME, _LINK_NAME)]
        if not (_is_stubs_folder(entry, libraries) and any(hit and hit.is_stub for hit in hits)):
            kept.append(entry)
    return export("library-path", LD_LIBRARY_PATH=":".join(kept))
