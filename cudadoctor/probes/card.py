"""The cards that a launch is planned for: those it will see, or the one that was named instead."""

from __future__ import annotations

import math
from itertools import takewhile

from msgspec import structs

from cudadoctor.facts import Card, Driver, Environ, Gpu, Held, Launch, Machine, Unknown
from cudadoctor.host import Host
from cudadoctor.knowledge import gpus
from cudadoctor.probes.target import Asked, Request
from cudadoctor.simulate.devices import Visible, visible
from cudadoctor.simulate.parallel import sizes_of

_GIB = 1 << 30


def probe(
    host: Host, request: Request, driver: Driver, environ: Environ, machine: Machine, launch: Launch
) -> Card | Unknown:
    """Return the cards; Unknown where none was named and none is here."""
    asked = request.launch or Asked()
    if asked.gpu or asked.memory_bytes:
        return _named(asked)
    if why := launch.doubtful.get("CUDA_VISIBLE_DEVICES"):
        return Unknown(f"which GPUs are visible is not known: {why}")
    variables = environ if launch.container is None else structs.replace(environ, variables=launch.variables)
    found = _visible(driver.gpus, variables, launch)
    seen = [gpu for gpu in found.gpus if not gpu.problem]
    if not seen:
        return Unknown("no GPU is visible here, and none was named (--gpu, --gpu-memory)")
    used = _used(seen, found, variables, launch)
    return _here(seen, used, machine) if used else Unknown(_differ(seen))


def _visible(gpus: tuple[Gpu, ...], variables: Environ, launch: Launch) -> Visible:
    """Return what CUDA_VISIBLE_DEVICES leaves; in a container, of what its engine gives it."""
    return visible(gpus if launch.container is None else _given(gpus, launch.container.gpus), variables)


def _used(seen: list[Gpu], found: Visible, variables: Environ, launch: Launch) -> list[Gpu]:
    """Return the GPUs that the launch's ranks take; empty where they differ and it is not known which.

    The ranks take the first of CUDA's list, which begins with the fastest unless the variables order it.
    """
    sizes = sizes_of(launch)
    ranks = max(1, sizes.cards) if sizes is not None else 1
    named = (variables.get("CUDA_VISIBLE_DEVICES") or "").startswith(("GPU-", "MIG-"))
    ordered = named or variables.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    if len({(gpu.name, gpu.capability) for gpu in seen}) < 2 or (ordered and found.certain):
        return seen[:ranks]
    return seen if found.certain and ranks >= len(seen) else []


def _differ(seen: list[Gpu]) -> str:
    kinds = ", ".join(dict.fromkeys(gpu.name for gpu in seen))
    return (
        f"the GPUs here differ ({kinds}), and CUDA begins with the fastest: which of them the launch takes "
        "is known with CUDA_DEVICE_ORDER=PCI_BUS_ID, and CUDA_VISIBLE_DEVICES for one by its number"
    )


def _given(gpus: tuple[Gpu, ...], asked: str) -> tuple[Gpu, ...]:
    """Return the GPUs of `--gpus`: a number of them, or those named by "device=0,GPU-..."."""
    if asked.isdecimal():
        return gpus[: int(asked)]
    if not asked.startswith("device="):
        return gpus
    names = asked.removeprefix("device=").split(",")
    return tuple(gpu for gpu in gpus if any(_is(gpu, name.strip()) for name in names))


def _is(gpu: Gpu, name: str) -> bool:
    return name == str(gpu.index) or bool(gpu.uuid and name.startswith(gpu.uuid))


def _named(asked: Asked) -> Card | Unknown:
    known = gpus.find(asked.gpu) if asked.gpu else None
    total = asked.memory_bytes or (int(known.total_gib * _GIB) if known else 0)
    return Card(
        known.name if known else asked.gpu,
        total or None,
        asked.capability or (known.capability if known else ""),
        asked.cards,
        unified=known.unified if known else False,
        source="--gpu" if asked.gpu else "--gpu-memory",
    )


def _here(seen: list[Gpu], used: list[Gpu], machine: Machine) -> Card:
    """Return the GPUs that are used as one kind; of mixed ones the one with the least memory counts for all.

    Those that are visible beside them count as far as they are of these kinds.
    """
    least = min(used, key=lambda gpu: gpu.memory_total_bytes or machine.memory_total_bytes)
    unified = least.memory_total_bytes is None
    kinds = {gpu.name for gpu in used}
    same = [gpu for gpu in used if gpu.name == least.name]
    fullest = min(same, key=lambda gpu: math.inf if gpu.memory_free_bytes is None else gpu.memory_free_bytes)
    return Card(
        least.name,
        machine.memory_total_bytes if unified else _as_cuda_has_it(least),
        least.capability if len({gpu.capability for gpu in used}) == 1 else "",
        len(list(takewhile(lambda gpu: gpu.name in kinds, seen))),
        machine.memory_available_bytes if unified else fullest.memory_free_bytes,
        unified,
        "NVML",
        None if unified or fullest.memory_free_bytes is None else fullest.index,
        tuple(
            Held(gpu.index, gpu.memory_free_bytes)
            for gpu in seen
            if gpu.name == least.name and gpu.memory_free_bytes is not None
        ),
    )


def _as_cuda_has_it(gpu: Gpu) -> int | None:
    """Return the memory that CUDA will report: NVML counts what the driver keeps for itself as well."""
    known = gpus.find_in(gpu.name)
    total = gpu.memory_total_bytes
    if known is None or total is None or not 0.93 * total <= known.total_gib * _GIB <= total:
        return total
    return int(known.total_gib * _GIB)
