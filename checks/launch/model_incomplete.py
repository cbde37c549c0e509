"""See the check's own page."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Iterator, Sequence

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Flaw, Launch, Model
from cudadoctor.fetching import download, either, in_words, wants_model
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

_SHOWN = 5
_KINDS = {
    "missing": "it is not there",
    "broken-link": "a link that leads nowhere",
    "empty": "it is empty",
    "truncated": "it is cut short",
    "garbled": "it is damaged",
    "unreadable": "it cannot be read",
}


@check
def model_incomplete(launch: Launch, model: Model) -> Iterator[Finding]:
    """The files of the model are not all there, or not whole.

    ## What it means
    vLLM loads what it finds. A file of weights that is cut short ends the start after minutes, with an error
    of safetensors; one that is missing ends it with `Following weights were not initialized from
    checkpoint`, and only where the weights are not quantised: with quantised ones vLLM (0.12.0) does not look
    for what is missing, starts, and answers nonsense. In the cache of the hub a file that is not there is
    downloaded before the start, which is a note; one that is there and damaged never is.

    ## How to tell
    The files that `model.safetensors.index.json` names, and their sizes: a file of safetensors tells in its
    header how long it is.

    ## What helps
    The files that are named, fetched again.
    """
    wants_model(launch)
    if model.state not in ("folder", "cached"):
        raise Skip(model.reason or "the model is not here")
    damaged = [flaw for flaw in _flaws(model) if not (launch.contained and flaw.kind == "unreadable")]
    if damaged:
        yield _broken(model, damaged)
    if (gone := _gone(model)) is not None:
        yield gone
    if not damaged and _waits(model):
        yield _to_come(model)
    if _no_tokenizer(launch, model):
        yield _without_tokenizer(model)
    if not damaged and len(_flaws(model)) > 0:
        raise CannotTell(f"{_flaws(model)[0].path} cannot be read from here")


def _flaws(model: Model) -> Sequence[Flaw]:
    """Return what no download mends; that config.json is missing is said by model-not-found."""
    own = model.config_flaw
    return (*((own,) if own is not None and own.kind != "missing" else ()), *model.staying)


def _broken(model: Model, flaws: Sequence[Flaw]) -> Finding:
    weights = [flaw for flaw in flaws if flaw is not model.config_flaw]
    hidden = model.weights.flawed - len(model.weights.flaws) if model.weights is not None else 0
    first, count = flaws[0], len(flaws) + hidden
    name = posixpath.basename(first.path)
    says = f"{name}: {_KINDS[first.kind]}" if count == 1 else f"{count} files, {name} the first"
    rows = [Evidence(flaw.path, _says(flaw)) for flaw in flaws[:_SHOWN]]
    if count > len(rows):
        rows.append(Evidence(model.path, f"{count - len(rows)} more"))
    if model.quantization is not None and any(flaw.kind in ("missing", "broken-link") for flaw in weights):
        rows.append(Evidence("vLLM", "does not miss weights of quantised models: it answers nonsense"))
    return Finding(
        f"the files of {model.name} are not whole: {says}", Severity.ERROR, tuple(rows), _again(model, flaws)
    )


def _says(flaw: Flaw) -> str:
    return f"{_KINDS[flaw.kind]}: {flaw.detail}" if flaw.detail else _KINDS[flaw.kind]


def _again(model: Model, flaws: Sequence[Flaw]) -> tuple[Remedy, ...]:
    """Return how the files are fetched again."""
    if any("git-lfs" in flaw.detail for flaw in flaws):
        return either(f"git -C {shlex.quote(model.path)} lfs pull")
    names = [posixpath.basename(flaw.path) for flaw in flaws]
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    if model.state == "folder":
        return either(f"copy or download again into {model.path}: {listed}")
    there = [flaw for flaw in flaws if flaw.kind not in ("missing", "broken-link")][:_SHOWN]
    # What a link of a snapshot leads to is taken for whole as long as it is there.
    removed = " ".join(f'"$(readlink -f {shlex.quote(flaw.path)})"' for flaw in there)
    fetched = download(model, names if len(names) <= _SHOWN else ())
    return either(f"rm {removed} && {fetched}" if removed else fetched)


def _gone(model: Model) -> Finding | None:
    """Report that there is no file of weights at all, and none will come."""
    if model.config is None or model.weights is not None or not model.weights_path or model.may_download:
        return None
    return Finding(
        f'there are no weights of {model.name}: vLLM will stop with "Cannot find any model weights"',
        Severity.ERROR,
        (Evidence(model.weights_path, "has no *.safetensors, *.bin or *.pt"),),
        either(download(model)) if model.state == "cached" else (),
    )


def _waits(model: Model) -> bool:
    """Return whether vLLM will download weights before it loads any."""
    if not model.may_download or model.config is None:
        return False
    return model.to_come_bytes != 0 if model.weights is not None else bool(model.weights_path)


def _to_come(model: Model) -> Finding:
    size, parts = model.to_come_bytes, [part for part in model.incomplete if not part.running]
    amount = in_words(size) if size else "weights"
    rows = [
        Evidence(flaw.path, _says(flaw)) for flaw in (model.weights.flaws if model.weights else ())[:_SHOWN]
    ]
    if model.weights is None:
        rows.append(Evidence(model.weights_path, "has no weights yet"))
    if parts:
        held = in_words(sum(part.size_bytes for part in parts))
        rows.append(Evidence(parts[0].path, f"{held} are there in part, of a download that was broken off"))
    if len(parts) < len(model.incomplete):
        rows.append(Evidence(model.cache, "a download of this model is running"))
    return Finding(
        f"{amount} of {model.name} are still to come: vLLM downloads them before it loads the model",
        Severity.NOTE,
        tuple(rows),
        either(download(model)),
    )


def _no_tokenizer(launch: Launch, model: Model) -> bool:
    """Return whether vLLM will look for a tokenizer that is not there."""
    other = launch.text("--tokenizer") or launch.flag("--skip-tokenizer-init")
    return model.tokenizer is False and model.config is not None and not other and not model.may_download


def _without_tokenizer(model: Model) -> Finding:
    return Finding(
        f"{model.name} has no tokenizer",
        Severity.ERROR,
        (Evidence(model.path, "no tokenizer.json, tokenizer.model or vocab file is there"),),
        either(
            download(model) if model.state == "cached" else "",
            "--tokenizer NAME   # of the model that this one was made of",
        ),
    )
