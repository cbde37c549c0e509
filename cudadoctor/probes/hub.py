"""The Hugging Face cache: downloads that were broken off, and snapshots whose files are not there.

The layout is that of huggingface_hub 0.36.2 (file_download.py and constants.py, read 2026-11-21): blobs by
their hash, `.incomplete` behind the name while one is on its way and under a lock of `.locks`, and snapshots
that are links to blobs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from cudadoctor.facts import CachedModel, Download, Environ, Hub, Machine, Packages, Target
from cudadoctor.host import Host, names_in
from cudadoctor.probes.caches import Patient
from cudadoctor.probes.sizes import Budget

_LOOK_S, _LOOK_ENTRIES = 0.3, 3_000
_PATH_BYTES = 4096  #: no path is longer
_REPOSITORY = re.compile(r"(?:models|datasets|spaces)--(.+)")
_TRUE = frozenset(("1", "ON", "YES", "TRUE"))
#: The name of a blob that is on its way, in newer versions with a mark of the process before the ending.
_INCOMPLETE = re.compile(r"([0-9a-f]+)(?:\.[0-9a-zA-Z_-]+)?\.incomplete")


def probe(host: Host, target: Target, environ: Environ, packages: Packages, machine: Machine) -> Hub:
    """Return what is not whole in the cache that the installed huggingface_hub uses."""
    if packages.find("huggingface-hub") is None:
        return Hub()
    patient = Patient(host, target, environ, packages, machine.home)
    path, source = hub_cache(patient)
    names = [name for name in patient.names(path) if _REPOSITORY.fullmatch(name)]
    budget = Budget(_LOOK_S, _LOOK_ENTRIES)
    models, complete = [], True
    for name in names:
        model, complete = _model(host, path, name, budget)
        if model.incomplete or model.broken:
            models.append(model)
        if not complete:
            break
    return Hub(path, source, len(names), _offline(environ), tuple(models), complete)


def hub_cache(patient: Patient) -> tuple[str, str]:
    """Return the folder of models and which variable says so, by the rules of huggingface_hub."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "/hub")):
        if (value := patient.environ.get(variable)) is not None:
            return patient.absolute(_expanded(value, patient)).rstrip("/") + below, variable
    return f"{patient.cache_home}/huggingface/hub", "the default"


def _expanded(value: str, patient: Patient) -> str:
    """Return a value with variables put in, as Python's `expandvars` does it; one that is not set stays.

    What is longer than any path stays as it is: it names no folder either way.
    """

    def put_in(found: re.Match[str]) -> str:
        name = found[1] or found[2] or ""
        value = patient.environ.get(name)
        value = patient.host.environ.get(name, found[0]) if value is None else value
        return value[:_PATH_BYTES]

    if len(value) > _PATH_BYTES:
        return value
    return re.sub(r"\$(?:\{([^}]*)\}|(\w+))", put_in, value, flags=re.ASCII)


def _offline(environ: Environ) -> str:
    """Return the variable that forbids downloads; an empty one leaves it to the next."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(name)), "")
    return name if (environ.get(name) or "").upper() in _TRUE else ""


class _Spent(Exception):
    """There is more to look at than the budget allows."""


def _model(host: Host, root: str, folder: str, budget: Budget) -> tuple[CachedModel, bool]:
    """Return what is not whole of one model, and whether the budget sufficed to look at all of it."""
    path = f"{root}/{folder}"
    found = _REPOSITORY.fullmatch(folder)
    name = found[1].replace("--", "/") if found else folder
    incomplete, broken, whole = list[Download](), list[str](), True
    try:
        incomplete.extend(_downloads(host, root, folder, budget))
        broken.extend(_broken(host, f"{path}/snapshots", budget))
    except _Spent:
        whole = False
    return CachedModel(name, path, tuple(incomplete), tuple(broken)), whole


def _downloads(host: Host, root: str, folder: str, budget: Budget) -> Iterator[Download]:
    blobs = _listed(host, f"{root}/{folder}/blobs", budget)
    there = frozenset(blobs)
    for blob in blobs:
        found = _INCOMPLETE.fullmatch(blob)
        # A download that was broken off and begun again under another name may have ended since.
        if found is None or found[1] in there:
            continue
        _spend(budget)
        path = f"{root}/{folder}/blobs/{blob}"
        try:
            size_bytes = host.size(path)
        except OSError:
            continue
        yield Download(path, size_bytes, host.locked(f"{root}/.locks/{folder}/{found[1]}.lock"))


def _broken(host: Host, snapshots: str, budget: Budget) -> Iterator[str]:
    """Yield the links that lead nowhere, in each snapshot and in the folders below it."""
    for revision in _listed(host, snapshots, budget):
        folders = [f"{snapshots}/{revision}"]
        for folder in folders:
            for name in _listed(host, folder, budget):
                _spend(budget)
                path = f"{folder}/{name}"
                kind = host.kind(path, follow=False)
                if kind == "directory":
                    folders.append(path)
                elif kind == "link" and not host.kind(path):
                    yield path


def _listed(host: Host, folder: str, budget: Budget) -> list[str]:
    _spend(budget)
    return names_in(host, folder)


def _spend(budget: Budget) -> None:
    """Count one entry, or one folder, before it is looked at; raise _Spent where that is too many."""
    if not budget.take():
        raise _Spent
