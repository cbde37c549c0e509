"""What the checks of a model's files share: whether they apply, and commands that fetch what is missing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from msgspec import structs

from cudadoctor.declare import Skip
from cudadoctor.facts import Card, Launch, Model
from cudadoctor.findings import Remedy


def wants_model(launch: Launch) -> None:
    """Raise Skip where the launch starts no vLLM, or names no model."""
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    if not launch.model:
        raise Skip("the launch names no model")


def runs_here(card: Card | None) -> None:
    """Raise Skip where the launch is planned for another machine, whose disks are not these."""
    if card is not None and card.source.startswith("--gpu"):
        raise Skip(f"it is planned for another machine ({card.source})")


def in_words(count_bytes: int) -> str:
    """Return "18.1 GiB", "312 MiB" or "12 KiB"."""
    if count_bytes < 1 << 20:
        return f"{count_bytes >> 10} KiB"
    return f"{count_bytes / (1 << 30):.1f} GiB" if count_bytes >= 1 << 30 else f"{count_bytes >> 20} MiB"


def download(model: Model, names: Sequence[str] = ()) -> str:
    """Return the command that fetches a model, or files of it, into the cache that the launch reads."""
    words = ["hf", "download", model.name]
    if model.revision:
        words += ["--revision", model.revision]
    cache = model.weights_cache or (model.cache if model.source != "the default" else "")
    if cache:
        words += ["--cache-dir", cache]
    if names:
        words += ["--include", *names]
    # huggingface_hub asks for TRANSFORMERS_OFFLINE only where this one is empty or not set.
    return f"{'HF_HUB_OFFLINE=0 ' if model.offline else ''}{shlex.join(words)}"


def either(*texts: str) -> tuple[Remedy, ...]:
    """Return the commands to be shown as one remedy and what would do as well; "" is left out."""
    shown = [Remedy("show", {}, text) for text in texts if text]
    return (structs.replace(shown[0], instead=tuple(shown[1:])),) if shown else ()
