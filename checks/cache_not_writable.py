"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Hub, Model, Storage, StoragePlace
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.storage import moved

#: What comes of it, the worst first. Each was tried with the programs of the versions named in the probe.
_COMES_OF_IT = {
    "flashinfer": "FlashInfer cannot be imported",
    "tvm-ffi": "importing tvm-ffi, and FlashInfer with it, waits for ever for its lock",
    "temporary": "nvcc compiles nothing",
    "triton": "Triton compiles no kernel",
    "vllm": "vLLM stops when it compiles a model",
    "torchinductor": "torch.compile fails",
    "torch-extensions": "torch builds no extension",
    "hf-hub": "no model can be downloaded",
}


@check
def cache_not_writable(storage: Storage, hub: Hub, model: Model | None = None) -> Iterator[Finding]:
    """A folder that the stack has to write to cannot be written to.

    ## What it means
    FlashInfer makes its workspace when it is imported, and `import flashinfer` ends with a PermissionError
    where it cannot. tvm-ffi is worse: with torch before 2.10 it builds an add-on when it is imported, and
    where its cache folder is there but its lock file cannot be made it tries again ten times a second,
    without a word and without an end. Triton, torch.compile, torch's extension builder and vLLM stop when
    they compile something; nvcc stops where `TMPDIR` names a folder that is not there or cannot be written
    to, which compilers like g++ go past. Models that are there can be read, and no others are downloaded.

    The usual reasons: the program was run with sudo once, a container runs as a user without a home folder,
    a home folder is mounted read-only, or a file or a dangling link stands where the folder should be.

    ## How to tell
    `touch FOLDER/x` as the user that runs the program.

    ## What helps
    The variable that moves the cache into a folder of one's own; or the folder given back to its user.
    """
    if not storage.places:
        raise Skip("nothing of the stack is installed that writes to a cache")
    # Of a launch's own model model-cache-not-writable tells more.
    told = model is not None and model.room is not None and model.room.writable is False
    blocked: dict[str, list[StoragePlace]] = {}
    for place in (place for place in storage.places if place.name in _COMES_OF_IT):
        if place.blocked and not (place.name == "hf-hub" and (hub.offline or told)):
            blocked.setdefault(place.blocked, []).append(place)
    for path, places in blocked.items():
        yield _finding(path, _sorted(places), storage, hub)


def _sorted(places: list[StoragePlace]) -> list[StoragePlace]:
    order = list(_COMES_OF_IT)
    return sorted(places, key=lambda place: order.index(place.name))


def _finding(path: str, places: Sequence[StoragePlace], storage: Storage, hub: Hub) -> Finding:
    first = places[0]
    # Where others keep the models, moving the cache would mean to download them all again.
    values = moved(storage, [place for place in places if place.name != "hf-hub" or not hub.count])
    remedies = [export("cache-folder", **values)] if values else []
    shared = first.name == "hf-hub" and hub.count
    if not shared and (by_hand := _by_hand(first)):
        remedies.append(Remedy("show", {}, by_hand))
    return Finding(
        f"{_COMES_OF_IT[first.name]}: {_says(first)}",
        max((_severity(place, storage, hub) for place in places), key=lambda severity: severity.rank),
        tuple(_evidence(path, places, storage)),
        (Remedy(remedies[0].fix, remedies[0].values, remedies[0].summary, tuple(remedies[1:])),)
        if remedies
        else (),
    )


def _severity(place: StoragePlace, storage: Storage, hub: Hub) -> Severity:
    if place.name in ("flashinfer", "tvm-ffi"):
        return Severity.ERROR
    if place.name == "temporary" and any(other.name == "flashinfer" for other in storage.places):
        return Severity.ERROR
    # Models that somebody else keeps for everybody are read, and that works.
    return Severity.NOTE if place.name == "hf-hub" and hub.count else Severity.WARNING


def _says(place: StoragePlace) -> str:
    return {
        "file": f"{place.blocked} is no folder",
        "dangling": f"{place.blocked} is a link that leads nowhere",
        "read-only": f"{place.blocked} is on a file system that is mounted read-only",
        "missing": f"there is no folder {place.blocked}",
    }.get(place.why, f"{place.blocked} cannot be written to")


def _evidence(path: str, places: Sequence[StoragePlace], storage: Storage) -> Iterator[Evidence]:
    first = places[0]
    if first.why == "refused" and -1 not in (first.owner, storage.user) and first.owner != storage.user:
        yield Evidence(path, f"belongs to user {first.owner}; this is user {storage.user}")
    elif first.why == "refused":
        yield Evidence(path, "this user may not write to it")
    for place in places:
        by = f"; {place.source} says where" if place.source == place.variable else ""
        yield Evidence(place.path, f"{_COMES_OF_IT[place.name]}{by}")


def _by_hand(place: StoragePlace) -> str:
    """Return the command that repairs the place itself, "" where it is none of the cache's own."""
    path = shlex.quote(place.blocked)
    if place.why == "dangling":
        return f'mkdir -p "$(readlink -m {path})"'
    if place.why == "missing":
        return f"mkdir -p {path}"
    # A folder that a variable names may hold anything, and a home folder does; HOME may be /dev/null.
    own = any(part in f"{place.blocked}/" for part in ("/.cache/", "/.triton/"))
    if place.why == "file" and own:
        return f"mv {path} {shlex.quote(place.blocked + '.aside')}"
    if place.why != "refused" or not own or place.source == place.variable:
        return ""
    return f'sudo chown -R "$(id -u):$(id -g)" {path}'
