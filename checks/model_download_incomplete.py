"""See the check's own page."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import CachedModel, Hub, Model
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_SHOWN = 5


@check
def model_download_incomplete(hub: Hub, model: Model | None = None) -> Iterator[Finding]:
    """A model in the Hugging Face cache is not whole.

    ## What it means
    A download that was broken off leaves a file `*.incomplete` among the model's blobs, and a blob that was
    removed leaves links in its snapshots that lead nowhere. With the network at hand the next launch fetches
    what is missing, so that this is a note. Without it (`HF_HUB_OFFLINE=1`) vLLM finds the folder of the
    model and fails when it reads a file that a link does not lead to: a warning. A download that is running
    holds its lock, and is not reported.

    ## How to tell
    `find ~/.cache/huggingface/hub -name '*.incomplete'` and `find ~/.cache/huggingface/hub -xtype l`.

    ## What helps
    `hf download MODEL` where the network is at hand; it goes on where the other one stopped. Where
    `HF_HUB_OFFLINE=1` or `TRANSFORMERS_OFFLINE=1` is set it needs `HF_HUB_OFFLINE=0` before it.
    """
    if not hub.path:
        raise Skip("huggingface_hub is not installed")
    if not hub.count:
        raise Skip("no model is in the cache of huggingface_hub")
    # Of the one that is to be launched model-incomplete tells more.
    launched = model.name if model is not None and model.cache == hub.path else ""
    others = [cached for cached in hub.models if cached.name != launched]
    hit = [cached for cached in others if not any(file.running for file in cached.incomplete)]
    if hit:
        yield _finding(hit, hub)
    elif not hub.complete:
        raise CannotTell(f"{hub.path} holds more than was looked at; what was is whole")


def _finding(hit: Sequence[CachedModel], hub: Hub) -> Finding:
    # What came in part may be a file of another revision, and nothing that is missed.
    missed = hub.offline and any(model.broken for model in hit)
    more = f" and {len(hit) - _SHOWN} more" if len(hit) > _SHOWN else ""
    names = ", ".join(model.name for model in hit[:_SHOWN]) + more
    return Finding(
        f"{'a model' if len(hit) == 1 else f'{len(hit)} models'} in the Hugging Face cache "
        f"{'is' if len(hit) == 1 else 'are'} not whole: {names}",
        Severity.WARNING if missed else Severity.NOTE,
        tuple(_evidence(hit, hub)),
        (Remedy("show", {}, "; ".join(_command(model, hub) for model in hit[:_SHOWN])),),
    )


def _command(model: CachedModel, hub: Hub) -> str:
    kind = posixpath.basename(model.path).partition("s--")[0]
    option = f" --repo-type {kind}" if kind in ("dataset", "space") else ""
    # huggingface_hub asks for TRANSFORMERS_OFFLINE only where this one is empty or not set.
    online = "HF_HUB_OFFLINE=0 " if hub.offline else ""
    return f"{online}hf download {shlex.quote(model.name)}{option}"


def _evidence(hit: Sequence[CachedModel], hub: Hub) -> Iterator[Evidence]:
    for model in hit[:_SHOWN]:
        if model.incomplete:
            size = sum(file.size_bytes for file in model.incomplete)
            count = len(model.incomplete)
            files = "one file" if count == 1 else f"{count} files"
            yield Evidence(
                model.incomplete[0].path, f"{files} in part, {size >> 20} MiB, no download is running"
            )
        if model.broken:
            count = len(model.broken)
            links = "a link leads" if count == 1 else f"{count} links lead"
            yield Evidence(model.broken[0], f"{links} to a blob that is not there")
    if hub.offline:
        yield Evidence(hub.offline, "nothing will be downloaded")
