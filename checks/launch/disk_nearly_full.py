"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, check
from cudadoctor.facts import Card, Launch, Model
from cudadoctor.fetching import either, in_words, runs_here, wants_model
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.knowledge.storage import BUILD_BYTES


@check
def disk_nearly_full(launch: Launch, model: Model, card: Card | None = None) -> Iterator[Finding]:
    """The disk has no room for what is still to be downloaded of the model.

    ## What it means
    vLLM downloads what is missing before it loads the model. On a disk that fills up on the way the download
    ends with `No space left on device`, after however long it took, and leaves what it has as `*.incomplete`.
    It is a warning where the download goes in, and less is left than one build by FlashInfer takes.

    ## How to tell
    `df -h` of the folder; how large the model is tells its index, or the hub (`--online`).

    ## What helps
    Models that are not needed any more, removed (`hf cache delete`, in newer versions `hf cache rm`). Or
    HF_HUB_CACHE, or `--download-dir`, on a disk with room.
    """
    wants_model(launch)
    runs_here(card)
    if not model.may_download or model.to_come_bytes == 0:
        return
    if model.room is None or model.room.free_bytes is None:
        raise CannotTell("how much room there is where the model would go is not known")
    wanted, free = model.to_come_bytes, model.room.free_bytes
    if wanted is None:
        raise CannotTell("how much is to be downloaded is not known (see --online)")
    # A download that was broken off goes on where it stopped, or begins again: the first needs less.
    held = sum(part.size_bytes for part in model.incomplete)
    if max(0, wanted - held) > free:
        yield _finding(launch, model, wanted, free, Severity.ERROR)
    elif free - wanted < BUILD_BYTES:
        yield _finding(launch, model, wanted, free, Severity.WARNING)


def _elsewhere(launch: Launch) -> str:
    if launch.contained:
        return "a folder on a disk with room, mounted in its place"
    return "export HF_HUB_CACHE=FOLDER   # on a disk with room"


def _finding(launch: Launch, model: Model, wanted: int, free: int, severity: Severity) -> Finding:
    folder = model.weights_cache or model.cache
    sure = severity is Severity.ERROR
    says = "do not go in" if sure else "leave no room for anything else"
    rows = [Evidence(folder, f"{in_words(free)} free")]
    source = model.weights.source if model.weights is not None else ""
    rows.append(Evidence(source or model.name, f"{in_words(wanted)} of weights are still to come"))
    if model.incomplete:
        held = in_words(sum(part.size_bytes for part in model.incomplete))
        rows.append(Evidence(model.incomplete[0].path, f"{held} are there in part"))
    return Finding(
        f"{in_words(wanted)} are to be downloaded, and {says} at {folder}: {in_words(free)} are free",
        severity,
        tuple(rows),
        either(
            "hf cache delete   # of models that are not needed; in newer versions: hf cache rm NAME",
            _elsewhere(launch),
        ),
    )
