"""See the check's own page."""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from cudadoctor.declare import CannotTell, check
from cudadoctor.facts import Card, Launch, Model, Room
from cudadoctor.fetching import download, either, runs_here, wants_model
from cudadoctor.findings import Evidence, Finding, Severity


@check
def model_cache_not_writable(launch: Launch, model: Model, card: Card | None = None) -> Iterator[Finding]:
    """The model is to be downloaded into a folder that the program cannot write to.

    ## What it means
    What is missing of the model is downloaded into the hub's cache, or into `--download-dir`, and that ends
    with a PermissionError where the program's user may not write there. In a container the user is another
    one than outside: a folder that is mounted belongs to a user of the host, and the engine makes one that
    does not exist for root. In `--download-dir` vLLM also makes a lock file, even where nothing is missing.

    ## How to tell
    `touch FOLDER/x` as that user; in a container, `docker run --rm -v ... --entrypoint touch IMAGE FOLDER/x`.

    ## What helps
    The folder given to the user that the container runs as; a mount without `:ro`; or a download before, by
    a user that may.
    """
    wants_model(launch)
    runs_here(card)
    room = model.room
    if room is None or model.offline:
        return
    if room.writable is None:
        raise CannotTell(f"whether the program may write to {room.folder} is not known")
    if room.writable:
        return
    whole = model.state == "cached" and model.to_come_bytes == 0
    what = "vLLM can make no lock file in" if whole else f"{model.name} cannot be downloaded into"
    where = "--download-dir" if model.weights_cache else model.source or "the cache"
    cache = model.weights_cache or model.cache
    yield Finding(
        f"{what} {cache}: {room.detail}",
        # An engine that does not run as root makes the folder for its own user.
        Severity.WARNING if room.why == "made-for-root" else Severity.ERROR,
        (
            Evidence(room.folder, room.detail),
            Evidence(where, f"downloads go to {cache}"),
        ),
        either(*_helps(launch, model, room, whole)),
    )


def _helps(launch: Launch, model: Model, room: Room, whole: bool) -> Iterator[str]:
    folder = shlex.quote(room.folder)
    user = launch.container.user if launch.container is not None else ""
    if room.why == "mounted-read-only":
        yield "the mount without :ro"
    elif room.why == "made-for-root":
        yield f"the folder made before, and given to the user: sudo chown {user} FOLDER"
    elif room.why == "refused" and launch.contained:
        yield f"sudo chown -R {user} {folder}"
    elif room.why == "refused":
        yield f'sudo chown -R "$(id -u):$(id -g)" {folder}   # where it is meant to be this user\'s'
    if launch.contained and not whole:
        yield f"{download(model)}   # before, as a user that may"
    elif not launch.contained:
        yield (
            "leave --download-dir out"
            if model.weights_cache
            else "export HF_HUB_CACHE=FOLDER   # of one's own"
        )
