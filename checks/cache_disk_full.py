"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cudadoctor.declare import Skip, check
from cudadoctor.facts import FolderSize, Storage, StoragePlace
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.knowledge.storage import BUILD_BYTES, BUILD_FILES, NOTHING_BYTES, NOTHING_FILES
from cudadoctor.simulate.storage import moved


@check
def cache_disk_full(storage: Storage) -> Iterator[Finding]:
    """There is no room where builds and downloads are written.

    ## What it means
    A build by FlashInfer takes up to a hundred megabytes in its cache and in `TMPDIR`, a model gigabytes. On
    a full disk the compiler ends with `No space left on device`, or an object file is cut short and the next
    link, or the next launch, fails on it. A file system can run out of files while `df` shows space left:
    `df -i` tells. It is an error where nothing can be written at all, and a warning where there is less than
    one build needs.

    ## How to tell
    `df -h` and `df -i` of the folder.

    ## What helps
    Room: caches that can be made again are named with their size. `cudadoctor fix jit-caches` only gives them
    another name, which wins nothing until `cudadoctor undo --purge` removes them. Or the variable that moves
    the cache to another disk.
    """
    if not storage.places:
        raise Skip("nothing of the stack is installed that writes to a cache")
    devices: dict[int, list[StoragePlace]] = {}
    for place in storage.places:
        if not place.blocked and _severity(place) is not None:
            devices.setdefault(place.device, []).append(place)
    for device, places in devices.items():
        yield _finding(places, [size for size in storage.sizes if size.device == device], storage)


def _severity(place: StoragePlace) -> Severity | None:
    """Return how bad it is; how much a download needs is not known."""
    free, files = place.free_bytes, place.free_files
    if (free is not None and free < NOTHING_BYTES) or (files is not None and files < NOTHING_FILES):
        return Severity.ERROR
    if place.name == "hf-hub":
        return None
    low = (free is not None and free < BUILD_BYTES) or (files is not None and files < BUILD_FILES)
    return Severity.WARNING if low else None


def _finding(places: Sequence[StoragePlace], sizes: Sequence[FolderSize], storage: Storage) -> Finding:
    first = places[0]
    worst = max((found for place in places if (found := _severity(place))), key=lambda found: found.rank)
    values, room = moved(storage, places, elsewhere=True), _room(sizes)
    remedies = [export("cache-folder", **values)] if values else []
    if room:
        remedies.append(Remedy("show", {}, room))
    return Finding(
        f"there is no room for a build or download at {first.nearest}: {_left(first)}",
        worst,
        (*(Evidence(place.path, _left(place)) for place in places), *map(_size, sizes)),
        (Remedy(remedies[0].fix, remedies[0].values, remedies[0].summary, tuple(remedies[1:])),)
        if remedies
        else (),
    )


def _left(place: StoragePlace) -> str:
    few = place.free_files is not None and place.free_files < BUILD_FILES
    if few and (place.free_bytes is None or place.free_bytes >= BUILD_BYTES):
        return f"its file system takes {place.free_files} more files"
    return f"{_human(place.free_bytes or 0)} free"


def _size(size: FolderSize) -> Evidence:
    least = "" if size.complete else "at least "
    return Evidence(size.path, f"{least}{_human(size.size_bytes)}, which would be made again")


def _room(sizes: Sequence[FolderSize]) -> str:
    """Return the commands that remove what can be made again, "" where that is next to nothing."""
    total = sum(size.size_bytes for size in sizes)
    if total < NOTHING_BYTES:
        return ""
    least = "" if all(size.complete for size in sizes) else "at least "
    return f"cudadoctor fix jit-caches --apply && cudadoctor undo --purge  # frees {least}{_human(total)}"


def _human(count: int) -> str:
    if count < 1 << 20:
        return f"{count >> 10} KiB"
    return f"{count / (1 << 30):.1f} GiB" if count >= 1 << 30 else f"{count >> 20} MiB"
