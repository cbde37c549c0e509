"""The Hugging Face cache: downloads that were broken off, and snapshots whose files are not there.

The layout is that of huggingface_hub 0.36.2 (file_download.py and constants.py, read 2026-11-21): blobs by
their hash, `.incomplete` behind the name while one is on its way and under a lock of `.locks`, and snapshots
that are links to blobs.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from cudadoctor.facts import CachedModel, Download, Environ, Hub, Machine, Packages, Target
from cudadoctor.host import Host
from cudadoctor.probes.caches import Patient
from cudadoctor.probes.sizes import Budget

_LOOK_S, _LOOK_ENTRIES = 0.3, 3_000
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
        model, whole = _model(host, path, name, budget)
        complete = complete and whole
        if model.incomplete or model.broken:
            models.append(model)
    return Hub(path, source, len(names), _offline(environ), tuple(models), complete)


def hub_cache(patient: Patient) -> tuple[str, str]:
    """Return the folder of models and which variable says so, by the rules of huggingface_hub."""
    for variable, below in (("HF_HUB_CACHE", ""), ("HUGGINGFACE_HUB_CACHE", ""), ("HF_HOME", "/hub")):
        if (value := patient.environ.get(variable)) is not None:
            return patient.absolute(_expanded(value, patient)).rstrip("/") + below, variable
    return f"{patient.cache_home}/huggingface/hub", "the default"


def _expanded(value: str, patient: Patient) -> str:
    """Return a value with variables put in, as Python's `expandvars` does it; one that is not set stays."""

    def put_in(found: re.Match[str]) -> str:
        name = found[1] or found[2] or ""
        value = patient.environ.get(name)
        return patient.host.environ.get(name, found[0]) if value is None else value

    return re.sub(r"\$(?:\{([^}]*)\}|(\w+))", put_in, value, flags=re.ASCII)


def _offline(environ: Environ) -> str:
    """Return the variable that forbids downloads; an empty one leaves it to the next."""
    name = next((name for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if environ.get(name)), "")
    return name if (environ.get(name) or "").upper() in _TRUE else ""


def _model(host: Host, root: str, folder: str, budget: Budget) -> tuple[CachedModel, bool]:
    """Return what is not whole of one model, and whether the budget sufficed to look at all of it."""
    path = f"{root}/{folder}"
    found = _REPOSITORY.fullmatch(folder)
    name = found[1].replace("--", "/") if found else folder
    blobs = _names(host, f"{path}/blobs")
    incomplete = tuple(_downloads(host, root, folder, blobs)) if budget.take() else ()
    broken, whole = [], True
    for revision in _names(host, f"{path}/snapshots"):
        for link in _files(host, f"{path}/snapshots/{revision}"):
            if not budget.take():
                whole = False
                break
            # Only a link can be broken, and only one that leads nowhere is.
            if not host.kind(link) and host.kind(link, follow=False) == "link":
                broken.append(link)
    return CachedModel(name, path, incomplete, tuple(broken)), whole


def _downloads(host: Host, root: str, folder: str, blobs: list[str]) -> Iterator[Download]:
    for blob in blobs:
        found = _INCOMPLETE.fullmatch(blob)
        # A download that was broken off and begun again under another name may have ended since.
        if found is None or found[1] in blobs:
            continue
        path = f"{root}/{folder}/blobs/{blob}"
        try:
            size_bytes = host.size(path)
        except OSError:
            continue
        yield Download(path, size_bytes, host.locked(f"{root}/.locks/{folder}/{found[1]}.lock"))


def _files(host: Host, snapshot: str) -> Iterator[str]:
    """Yield what is in a snapshot and in the folders right below it."""
    for name in _names(host, snapshot):
        path = posixpath.join(snapshot, name)
        if host.kind(path, follow=False) == "directory":
            yield from (f"{path}/{inner}" for inner in _names(host, path))
        else:
            yield path


def _names(host: Host, folder: str) -> list[str]:
    try:
        return host.list(folder)
    except OSError:
        return []
