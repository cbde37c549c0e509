"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Storage, StoragePlace
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.storage import moved

_COMES_OF_IT = {
    "tvm-ffi": "importing tvm-ffi, and FlashInfer with it, waits for ever for its lock",
    "flashinfer": "FlashInfer can neither build nor load an operator",
    "torchinductor": "torch.compile fails",
    "hf-hub": "no model can be downloaded",
}


@check
def cache_without_locks(storage: Storage) -> Iterator[Finding]:
    """A cache is on a file system that gives no locks.

    ## What it means
    FlashInfer takes a lock of the kernel (flock) whenever it builds or loads an operator, so do torch.compile
    and the downloads of huggingface_hub, by the package filelock. On a network file system whose lock service
    is not there they end with `No locks available` or `Operation not supported`. Where flock is not
    implemented at all (ENOSYS), newer versions of filelock go on with a file in place of a lock. tvm-ffi
    takes any refusal for a lock that somebody else holds: with torch before 2.10, whose add-on it builds when
    it is imported, the import waits for ever, without a word.

    ## How to tell
    `flock -n FILE true` with a file in that folder; `findmnt -T FOLDER` names the file system.

    ## What helps
    The variable that moves the cache to a local disk; or the locks of that mount, as with NFS's lockd.
    """
    if not storage.places:
        raise Skip("nothing of the stack is installed that writes to a cache")
    order = list(_COMES_OF_IT)
    known = [place for place in storage.places if place.name in order]
    hit = [place for place in known if place.unlocked and _matters(place, storage)]
    hit.sort(key=lambda place: order.index(place.name))
    if hit:
        yield _finding(hit, storage)


def _matters(place: StoragePlace, storage: Storage) -> bool:
    """Return whether the program stops: tvm-ffi, with locks of its own, does not have filelock's way out."""
    return place.name == "tvm-ffi" or not (place.unlocked == "ENOSYS" and storage.soft_locks)


def _finding(hit: list[StoragePlace], storage: Storage) -> Finding:
    first = hit[0]
    values = moved(storage, hit, elsewhere=True)
    look = Remedy("show", {}, f"findmnt -T {shlex.quote(first.nearest)}")
    remedy = export("cache-folder", **values) if values else look
    serious = any(place.name in ("tvm-ffi", "flashinfer") for place in hit)
    return Finding(
        f"{_COMES_OF_IT[first.name]}: the file system of {first.nearest} gives none",
        Severity.ERROR if serious else Severity.WARNING,
        tuple(
            Evidence(place.nearest, f"flock: {place.unlocked}; {_COMES_OF_IT[place.name]}") for place in hit
        ),
        (remedy,),
    )
