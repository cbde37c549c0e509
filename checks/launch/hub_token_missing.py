"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Launch, Model
from cudadoctor.fetching import either, wants_model
from cudadoctor.findings import Evidence, Finding, Severity


@check
def hub_token_missing(launch: Launch, model: Model, environ: Environ) -> Iterator[Finding]:
    """The model has to be downloaded, and no token is given for it, or an empty one.

    ## What it means
    Gated and private models are given to those with a token only: HF_TOKEN, or the file that `hf auth login`
    writes. huggingface_hub takes an empty HF_TOKEN for none, without a word; a blank one also keeps it from
    HUGGING_FACE_HUB_TOKEN. The usual reason is `HF_TOKEN=${HF_TOKEN}` in a compose file where the variable is
    set nowhere. A public model is downloaded all the same, so that this is a warning as long as it is not
    known whether the model is gated (`--online` asks). To those without a token the hub says 401 of a name
    that is private and of one that does not exist alike. `--online` sends the user's token to the user's own
    hub only, never where a file that is read leads, and over plain http to this machine alone.

    ## How to tell
    `hf auth whoami`; in a container, `docker exec CONTAINER env`, with care: it prints the token.

    ## What helps
    A token from the settings of one's account, in HF_TOKEN or in a `.env` beside the compose file; for a
    gated model its conditions accepted once, on its page. Where the model is in the cache none is needed.
    """
    wants_model(launch)
    if not model.may_download:
        raise Skip("nothing is asked of the hub: the model is here, or downloads are forbidden")
    if model.state == "cached" and model.to_come_bytes == 0:
        return
    ended = model.online.ended if model.online is not None else ""
    if ended in ("gated", "refused") and model.online is not None and model.online.withheld:
        raise CannotTell(f"the hub was asked without a token: {model.online.withheld}")
    if ended in ("gated", "refused") and launch.text("--hf-token") and not model.token.source:
        raise CannotTell("--hf-token is given, which not every part of vLLM uses")
    if ended in ("gated", "refused") and model.token.source:
        yield _not_enough(model)
    elif ended == "gated" or (ended == "refused" and not model.similar):
        yield _refused(launch, model, environ)
    elif model.token.blank and not model.token.source and ended not in ("found", "absent", "no-revision"):
        yield _blank(launch, model, environ)


def _address(model: Model) -> str:
    return f"{model.online.endpoint if model.online is not None else ''}/{model.name}"


def _answered(model: Model) -> Evidence:
    assert model.online is not None  # what was not asked was not refused
    said = f": {model.online.message}" if model.online.message else ""
    return Evidence(_address(model), f"answers {model.online.status or 'no'}{said}")


def _empty(launch: Launch, model: Model, environ: Environ) -> tuple[Evidence, ...]:
    """Return what is there and holds nothing, and where an empty text was put in a variable's place."""
    put = {note.origin: note.text for note in launch.notes if note.name == "variable-empty"}
    rows = []
    for name in model.token.blank:
        if name.startswith("/"):
            rows.append(Evidence(name, "holds nothing"))
            continue
        held = launch.variables.get(name)
        where = held.origin if held is not None else environ.where(name)
        rows.append(Evidence(where, f"{name} is empty{f': {put[where]}' if where in put else ''}"))
    return tuple(rows)


def _give(launch: Launch) -> str:
    if launch.container is not None and launch.container.engine == "compose":
        return "a token for HF_TOKEN, in the .env beside the compose file"
    return "a token in HF_TOKEN" if launch.contained else "hf auth login   # or a token in HF_TOKEN"


def _refused(launch: Launch, model: Model, environ: Environ) -> Finding:
    gated = model.online is not None and model.online.ended == "gated"
    empty = _empty(launch, model, environ)
    token = "the token is empty" if empty else "no token is given"
    what = "is gated" if gated else "is private or gated, or is no name that the hub knows"
    rows = (_answered(model), *empty)
    if not empty:
        rows = (*rows, Evidence(model.token.file or "HF_TOKEN", model.token.problem or "no token is there"))
    return Finding(
        f"{model.name} {what}, and {token}",
        Severity.ERROR,
        rows,
        either(_give(launch), f"accept the conditions at {_address(model)}" if gated else ""),
    )


def _not_enough(model: Model) -> Finding:
    """Report a token that the hub does not take, or that does not suffice for this model."""
    assert model.online is not None  # or nothing was refused
    gated = model.online.ended == "gated"
    why = "whose conditions its account has not accepted" if gated else "or the token has expired"
    return Finding(
        f"the token does not give access to {model.name}, {why}",
        Severity.ERROR,
        (_answered(model), Evidence(model.token.source, "the token comes from here")),
        either(f"accept the conditions at {_address(model)}" if gated else "hf auth whoami"),
    )


def _blank(launch: Launch, model: Model, environ: Environ) -> Finding:
    names = ", ".join(name.rpartition("/")[2] for name in model.token.blank)
    return Finding(
        f"{names} is empty: the hub is asked for {model.name} without a token",
        Severity.WARNING,
        (
            *_empty(launch, model, environ),
            Evidence(
                "huggingface_hub", "takes an empty token for none; a public model is downloaded all the same"
            ),
        ),
        either(_give(launch)),
    )
