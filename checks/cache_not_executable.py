"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Storage
from cudadoctor.findings import Evidence, Finding, Remedy, Severity, export
from cudadoctor.simulate.storage import moved

#: Those that load, as a library, what they have just compiled.
_COMES_OF_IT = {
    "flashinfer": "FlashInfer can load no operator that it builds",
    "triton": "Triton can load no launcher that it compiles",
    "torchinductor": "torch.compile can load nothing that it compiles",
    "torch-extensions": "torch can load no extension that it builds",
}


@check
def cache_not_executable(storage: Storage) -> Iterator[Finding]:
    """What is compiled at run time lands on a file system from which no library can be loaded.

    ## What it means
    On a file system that is mounted `noexec` a build succeeds and the load after it ends with `failed to map
    segment from shared object`. Containers mount a `/tmp` of their own so by default, and TorchInductor's
    cache is in `/tmp` unless a variable says otherwise.

    ## How to tell
    `findmnt -no OPTIONS -T FOLDER` shows `noexec`.

    ## What helps
    The variable that moves the cache; or a mount with `exec`.
    """
    if not storage.places:
        raise Skip("nothing of the stack is installed that writes to a cache")
    hit = [place for place in storage.places if place.no_exec and place.name in _COMES_OF_IT]
    hit = [place for place in hit if not place.blocked]
    if not hit:
        return
    values = moved(storage, hit, elsewhere=True)
    by_hand = f'sudo mount -o remount,exec "$(findmnt -no TARGET -T {shlex.quote(hit[0].nearest)})"'
    yield Finding(
        f"{_COMES_OF_IT[hit[0].name]}: {hit[0].nearest} is mounted noexec",
        Severity.ERROR if any(place.name == "flashinfer" for place in hit) else Severity.WARNING,
        tuple(Evidence(place.path, f"{_COMES_OF_IT[place.name]} from there") for place in hit),
        (export("cache-folder", **values) if values else Remedy("show", {}, by_hand),),
    )
