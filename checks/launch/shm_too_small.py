"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Container, Launch, Packages, Resources
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.knowledge.images import vllm_version
from cudadoctor.versions import numbers

_MIB, _GIB = 1 << 20, 1 << 30
#: Of an engine that is told nothing: moby/moby issue 29492. In vllm-project/production-stack issue 276 NCCL
#: found no room in it between two GPUs (both read 2026-11-21).
_ENGINES_DEFAULT = 64 * _MIB
#: vLLM's queues between its processes: the executor's to all workers, one from each worker, and that of the
#: tensor parallel group, each of so many chunks (vllm/v1/executor/multiproc_executor.py,
#: vllm/distributed/parallel_state.py, shm_broadcast.py of 0.12.0 to 0.33.0).
_CHUNKS, _TO_WORKERS_MIB, _FROM_WORKER_MIB, _IN_GROUP_MIB = 10, 16, 24, 24
#: `check_shm_free_space`, which refuses a queue that has no room: in 0.29.0 and 0.33.0, not in 0.25.0.
_GUARDED_FROM = (0, 29)
_PAGE = 4096
_LONGEST = 24  #: characters of a size: one of more is none
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([bkmgt]?)(?:i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}


class _Room(Struct, frozen=True):
    """The shared memory that the launch will have."""

    free_bytes: int
    source: str
    says: str


@check
def shm_too_small(
    launch: Launch, packages: Packages, resources: Resources | None = None
) -> Iterator[Finding]:
    """The launch uses several GPUs, and /dev/shm has too little room for what passes between them.

    ## What it means
    A container gets 64 MiB of /dev/shm where nothing is said. vLLM's processes pass their messages through
    queues of 160 and 240 MiB in it. From 0.29 on vLLM refuses to start where one has no room: `Insufficient
    space in /dev/shm`. Before that they cost only what is written to them, and a full /dev/shm ends a process
    with `Bus error`. NCCL, where GPUs cannot reach each other directly, takes some 9 MiB for each connection
    at once: `Error while creating shared memory segment /dev/shm/nccl-... (size 9637888)`. A launch for one
    GPU needs none of this.

    ## How to tell
    `df -h /dev/shm`, in the container

    ## What helps
    `--shm-size=1g` or `--ipc=host` for `docker run`, `shm_size: 1gb` in a compose file. Outside of
    containers: to remove what ended processes have left there.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    workers, engines = _workers(launch)
    if workers * engines == 1 and launch.text("--mm-processor-cache-type") != "shm":
        raise Skip("the launch is for one GPU, and vLLM takes no shared memory for that")
    room = _room(launch, resources)
    if room is None:
        return
    if workers * engines > 1:
        yield from _between(launch, packages, room, workers, engines)
    yield from _of_images(launch, room)


def _workers(launch: Launch) -> tuple[int, int]:
    """Return how many workers an engine has on this machine, and how many engines there are here."""
    sizes = ("--tensor-parallel-size", "--pipeline-parallel-size", "--prefill-context-parallel-size")
    workers = 1
    for name in sizes:
        workers *= max(1, launch.integer(name) or 1)
    local = launch.integer("--data-parallel-size-local")
    engines = launch.integer("--data-parallel-size") or 1 if local is None else local
    return max(1, workers // max(1, launch.integer("--nnodes") or 1)), max(1, engines)


# --- the room -----------------------------------------------------------------------------------------------


def _room(launch: Launch, resources: Resources | None) -> _Room | None:
    """Return what room there will be; None: no limit. Raises CannotTell where that is not known."""
    container = launch.container
    if container is None:
        return _of_host(resources)
    if container.engine == "dockerfile":
        raise CannotTell("how much shared memory the container gets is said where it is started")
    if container.ipc == "host":
        return _of_host(resources)
    if container.ipc.partition(":")[0] in ("container", "service"):
        raise CannotTell("the container has the shared memory of another one")
    elsewhere = any(mount.target.rstrip("/") == "/dev/shm" for mount in container.mounts)
    if elsewhere or any("/dev/shm" in wrapper for wrapper in launch.wrappers):
        raise CannotTell("a mount brings its own /dev/shm into the container, of a size that is not known")
    return _of_container(launch, container)


def _of_host(resources: Resources | None) -> _Room | None:
    if resources is None:
        raise CannotTell("the /dev/shm of the machine that it is planned for is not known")
    shared = resources.shared_memory
    if shared is None:
        raise CannotTell("there is no /dev/shm here that can be looked at")
    if shared.free_bytes is None:
        return None
    of = f" of {_size(shared.total_bytes)}" if shared.total_bytes is not None else ""
    return _Room(shared.free_bytes, "/dev/shm", f"{_size(shared.free_bytes)}{of} free")


def _of_container(launch: Launch, container: Container) -> _Room:
    if not container.shm_size:
        return _Room(_ENGINES_DEFAULT, launch.source, f"no shm size is given: {_size(_ENGINES_DEFAULT)}")
    size_text = container.shm_size.strip()
    match = _SIZE.fullmatch(size_text) if len(size_text) <= _LONGEST else None
    if match is None:
        raise CannotTell(f"what size {size_text[:_LONGEST]!r} is for /dev/shm is not known")
    size = int(float(match[1]) * (1 << _POWERS[match[2].lower()]))
    return _Room(size, launch.source, f"a shm size of {container.shm_size}")


# --- what is wanted -----------------------------------------------------------------------------------------


def _between(
    launch: Launch, packages: Packages, room: _Room, workers: int, engines: int
) -> Iterator[Finding]:
    """Yield what vLLM's own queues, and else NCCL's connections, have no room for."""
    backend = launch.text("--distributed-executor-backend") or "mp"
    queues = [_TO_WORKERS_MIB * _CHUNKS, *[_FROM_WORKER_MIB * _CHUNKS] * workers, _IN_GROUP_MIB]
    ranks = f"{workers * engines} GPUs"
    evidence = (Evidence(room.source, room.says), Evidence(_why(launch), ranks))
    remedies = _remedies(launch, engines * sum(queues) * _MIB)
    if backend == "mp" and workers > 1:
        largest = max(queues) * _MIB
        if room.free_bytes < largest and _guarded(launch, packages):
            says = f'will stop with "Insufficient space in /dev/shm": {_size(largest)} wanted at once'
            yield Finding(f"{says}, {_size(room.free_bytes)} there", Severity.ERROR, evidence, remedies)
            return
        # One page of flags, and of each chunk the first: less holds not even the shortest messages.
        least = engines * len(queues) * (_CHUNKS + 1) * _PAGE
        if room.free_bytes < least:
            says = f"/dev/shm is full: {_size(room.free_bytes)} for the messages of {ranks} (Bus error)"
            yield Finding(says, Severity.ERROR, evidence, remedies)
            return
    if room.free_bytes <= _ENGINES_DEFAULT:
        says = f"{_size(room.free_bytes)} of /dev/shm may be too little for NCCL between {ranks}"
        yield Finding(says, Severity.WARNING, evidence, remedies)


def _guarded(launch: Launch, packages: Packages) -> bool:
    """Return whether the vLLM that will run, where it is known, looks for room before it makes a queue."""
    installed = packages.find("vllm")
    version = vllm_version(launch.image) if launch.contained else installed.version if installed else ""
    return numbers(version) >= _GUARDED_FROM


def _of_images(launch: Launch, room: _Room) -> Iterator[Finding]:
    """Yield a cache of preprocessed images and sounds that is larger than what it lies in."""
    if launch.text("--mm-processor-cache-type") != "shm":
        return
    given = launch.number("--mm-processor-cache-gb")
    wanted = int((4 if given is None else given) * _GIB)  # vllm/config/multimodal.py: 4
    if room.free_bytes < wanted:
        cache = launch.options["--mm-processor-cache-type"]
        yield Finding(
            f"/dev/shm has {_size(room.free_bytes)}, and the cache in it grows to {_size(wanted)}: a Bus "
            "error when enough images have come",
            Severity.WARNING,
            (Evidence(room.source, room.says), Evidence(cache.origin, "--mm-processor-cache-type shm")),
            _remedies(launch, wanted + _GIB),
        )


def _why(launch: Launch) -> str:
    names = [name for name in launch.options if name.endswith("-parallel-size")]
    return ", ".join(f"{name} {launch.text(name)}" for name in names) or "the launch"


def _remedies(launch: Launch, wanted_bytes: int) -> tuple[Remedy, ...]:
    gib = max(1, -(-wanted_bytes // _GIB))
    container = launch.container
    if container is None or container.ipc == "host":
        own = Remedy("show", {}, f"mount -o remount,size={gib}g /dev/shm   # as the superuser")
        return (Remedy("show", {}, "remove what ended processes left in /dev/shm (psm_*, nccl-*)", (own,)),)
    if container.engine == "compose":
        return (Remedy("show", {}, f"shm_size: {gib}gb", (Remedy("show", {}, "ipc: host"),)),)
    return (Remedy("show", {}, f"--shm-size={gib}g", (Remedy("show", {}, "--ipc=host"),)),)


def _size(count_bytes: int) -> str:
    if count_bytes >= _GIB:
        return f"{count_bytes / _GIB:.3g} GiB"
    return f"{count_bytes / _MIB:.3g} MiB" if count_bytes >= _MIB else f"{count_bytes >> 10} KiB"
