"""See the check's own page."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Caches, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def build_lock_stale(caches: Caches, packages: Packages) -> Iterator[Finding]:
    """A build that was killed left its lock behind, and the next one waits for ever.

    ## What it means
    torch's extension builder, up to 2.13, takes a lock by making a file called `lock` in the extension's
    folder, and lets go of it by removing the file. A process that is killed in between, by the kernel for
    want of memory or by a time limit, leaves the file: whoever loads the extension afterwards waits for it to
    go, without a word and without an end.

    torch from 2.14 on, TorchInductor, FlashInfer and tvm-ffi lock by the kernel (flock). That lock ends with
    its process, and the `.lock` file that stays behind holds nobody up: those are never reported. vLLM locks
    its downloads the same way. Triton's cache has no lock at all.

    ## How to tell
    `ls ~/.cache/torch_extensions/*/*/lock` shows the file, and `fuser` names no process that has it open.

    ## What helps
    To remove the file.
    """
    if packages.torch is None:
        raise Skip("torch is not installed")
    batons = [lock for lock in caches.locks if lock.kind == "baton"]
    stale = [lock.path for lock in batons if lock.held is False]
    unsure = [lock for lock in batons if lock.held is None]
    if stale:
        names = ", ".join(posixpath.basename(posixpath.dirname(path)) for path in stale)
        yield Finding(
            f"torch's extension builder will wait for ever for a lock that nobody holds: {names}",
            Severity.WARNING,
            tuple(Evidence(path, "is there, and no process has it open") for path in stale),
            (Remedy("stale-lock", dict.fromkeys(stale, ""), f"rm {shlex.join(stale)}"),),
        )
    elif unsure:
        raise CannotTell(f"whether a build still holds {unsure[0].path}: {unsure[0].doubt}")
