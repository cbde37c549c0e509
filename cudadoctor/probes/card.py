"""The cards that a launch is planned for: those it will see, or the one that was named instead."""

from __future__ import annotations

from msgspec import structs

from cudadoctor.facts import Card, Driver, Environ, Gpu, Launch, Machine, Unknown
from cudadoctor.host import Host
from cudadoctor.knowledge import gpus
from cudadoctor.probes.target import Asked, Request
from cudadoctor.simulate.devices import visible

_GIB = 1 << 30


def probe(
    host: Host, request: Request, driver: Driver, environ: Environ, machine: Machine, launch: Launch
) -> Card | Unknown:
    """Return the cards; Unknown where none was named and none is here."""
    asked = request.launch or Asked()
    if asked.gpu or asked.memory_bytes:
        return _named(asked)
    seen = [gpu for gpu in _visible(driver.gpus, environ, launch) if not gpu.problem]
    if not seen:
        return Unknown("no GPU is visible here, and none was named (--gpu, --gpu-memory)")
    return _here(seen, machine)


def _visible(gpus: tuple[Gpu, ...], environ: Environ, launch: Launch) -> tuple[Gpu, ...]:
    """Return what CUDA_VISIBLE_DEVICES leaves; in a container, of what its engine gives it."""
    if launch.container is None:
        return visible(gpus, environ).gpus
    given = structs.replace(environ, variables=launch.variables)
    return visible(_given(gpus, launch.container.gpus), given).gpus


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


def _here(seen: list[Gpu], machine: Machine) -> Card:
    """Return the visible GPUs as one kind; of mixed ones the one with the least memory counts for all."""
    least = min(seen, key=lambda gpu: gpu.memory_total_bytes or machine.memory_total_bytes)
    unified = least.memory_total_bytes is None
    return Card(
        least.name,
        machine.memory_total_bytes if unified else _as_cuda_has_it(least),
        least.capability,
        len(seen),
        machine.memory_available_bytes if unified else least.memory_free_bytes,
        unified,
        "NVML",
    )


def _as_cuda_has_it(gpu: Gpu) -> int | None:
    """Return the memory that CUDA will report: NVML counts what the driver keeps for itself as well."""
    known = gpus.find_in(gpu.name)
    total = gpu.memory_total_bytes
    if known is None or total is None or not 0.93 * total <= known.total_gib * _GIB <= total:
        return total
    return int(known.total_gib * _GIB)
