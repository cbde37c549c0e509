"""See the fix's own page."""

from __future__ import annotations

from collections.abc import Iterator

import cudadoctor.values as values
from cudadoctor.actions import Action, MoveAside, Safety, Show
from cudadoctor.declare import fix
from cudadoctor.facts import Caches, Facts
from cudadoctor.findings import Remedy


@fix(Safety.SAFE)
def jit_caches(remedy: Remedy, facts: Facts) -> Iterator[Action]:
    """Moves aside what just-in-time compilers have cached, so that it is made anew.

    ## What it does
    For a finding, the folders that it names, of operators or a whole cache, get another name beside the old
    one. Asked for by its name (`cudadoctor fix jit-caches`) where no finding wants it, it does so with every
    cache of this environment's versions: FlashInfer's operators, torch's extensions, Triton, TorchInductor,
    vLLM's compiled graphs and the add-on of tvm-ffi. Downloaded models, assets and cubins are left where they
    are.

    ## Why it is safe
    All of it is made by programs and is made again when it is missed; that takes minutes at the next launch.
    A folder in which a build is at work is left alone. A launch that is running should be ended first: it may
    look for what it had compiled. Nothing is deleted, so that no disk space is won either until `cudadoctor
    undo --purge` removes for good what was moved aside.

    ## How it is undone
    The folders get their names back. What was made anew in the meantime has to make room for them, and so
    `cudadoctor undo` asks for `--force` then.
    """
    caches = facts.caches
    if not isinstance(caches, Caches):
        raise ValueError(f"{remedy.fix}: the caches are not known ({caches.reason})")
    folders = [folder.path for folder in caches.folders]
    known = [*(op.path for op in caches.ops), *(op.path for op in caches.built), *folders]
    for path in values.only(remedy, known) if remedy.values else _outermost(folders):
        if builds := caches.builds_in(path):
            yield Show(f"{path} is left as it is: a build is at work in it ({builds[0].path})")
        else:
            yield MoveAside(path)


def _outermost(folders: list[str]) -> list[str]:
    """Return the folders that are in no other one of them, once each."""
    return [
        folder
        for folder in dict.fromkeys(folders)
        if not any(folder.startswith(f"{other}/") for other in folders)
    ]
