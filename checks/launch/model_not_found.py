"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, check
from cudadoctor.facts import HubAnswer, Launch, Model
from cudadoctor.fetching import download, either, wants_model
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


@check
def model_not_found(launch: Launch, model: Model) -> Iterator[Finding]:
    """The model is not where the launch says, or the hub knows none of that name.

    ## What it means
    vLLM takes the name for a folder where there is one, and for a name on the hub otherwise. So a path with a
    slip in it becomes a strange name, and the start ends with `Invalid repository ID or local directory
    specified` or `Repo id must be in the form`. A folder without config.json is no model: that of the hub's
    cache, `models--...`, has it in `snapshots/COMMIT`. To those without a token the hub answers 401, not 404,
    to a name that it does not know: the model is private, gated or misspelt.

    ## How to tell
    `ls FOLDER/config.json`; for a name on the hub `cudadoctor preflight --online -- ...` asks it.

    ## What helps
    The right name: those in the cache that are much alike are told. Where downloads are forbidden, a
    download before.
    """
    wants_model(launch)
    if model.state == "folder":
        if model.config_flaw is not None and model.config_flaw.kind == "missing":
            yield _finding(launch, model, f"{model.path} has no config.json: it is no folder of a model",
                           (Evidence(model.config_path, "is not there"),))  # fmt: skip
    elif model.state == "elsewhere":
        raise CannotTell(model.reason)
    elif model.state == "absent" and not model.cache:
        yield _finding(launch, model, model.reason)
    elif model.state == "absent" and model.offline:
        yield _offline(launch, model)
    elif model.online is not None and model.online.ended != "found":
        yield from _asked(launch, model, model.online)


def _finding(launch: Launch, model: Model, says: str, rows: tuple[Evidence, ...] = (), *more: str) -> Finding:
    named = Evidence(launch.model_origin or launch.source, f"the model is {model.name}")
    return Finding(says, Severity.ERROR, (named, *rows), _meant(model, *more))


def _meant(model: Model, *more: str) -> tuple[Remedy, ...]:
    return either(*(f"{name}   # is here" for name in model.similar), *more)


def _offline(launch: Launch, model: Model) -> Finding:
    held = launch.variables.get(model.offline)
    forbids = Evidence(held.origin if held is not None else model.offline, "nothing is downloaded")
    rows = (Evidence(model.cache, model.reason.removeprefix(f"{model.cache} ")), forbids)
    says = f"{model.name} is not in the cache, and {model.offline} forbids to download it"
    return _finding(launch, model, says, rows, download(model))


def _asked(launch: Launch, model: Model, answer: HubAnswer) -> Iterator[Finding]:
    """Report what the hub said; raise CannotTell where that was nothing."""
    said = f": {answer.message}" if answer.message else ""
    row = Evidence(f"{answer.endpoint}/{model.name}", f"answers {answer.status or 'no'}{said}")
    if answer.ended in ("absent", "refused") and answer.withheld:
        raise CannotTell(f"the hub was asked without a token: {answer.withheld}")
    if answer.ended == "absent":
        yield _finding(launch, model, f"the hub has no model called {model.name}", (row,))
    elif answer.ended == "no-revision":
        yield _finding(launch, model, f"{model.name} has no revision {model.revision}", (row,))
    elif answer.ended == "refused" and model.similar and not model.token.source:
        says = f"the hub does not show {model.name}: it is private or gated, or misspelt"
        yield _finding(launch, model, says, (row,), "hf auth login   # where it is the right name")
    elif answer.ended == "no-config":
        raise CannotTell(f"{model.name} has no config.json on the hub: its weights may be of another format")
    elif answer.ended in ("unreachable", "broken", "not-installed"):
        raise CannotTell(f"the hub could not be asked{said}")
