"""Which GPUs a process will see: CUDA_VISIBLE_DEVICES as the driver, and torch after it, reads that."""

from __future__ import annotations

import re
from collections.abc import Sized

from msgspec import Struct

from cudadoctor.facts import Environ, Gpu

_NUMBER = re.compile(r"[+-]?\d*", re.ASCII)
_DIGITS = 18  #: of a number that is read: longer ones are no GPU's


class Visible(Struct, frozen=True):
    """The GPUs that are left, what ended the list early, and whether we know which GPUs they are."""

    gpus: tuple[Gpu, ...]
    why: str = ""  #: why what comes next in the list, or all of it, is not seen
    certain: bool = True  #: False where the numbers are CUDA's own: then `gpus` are all that may be meant

    def holds(self, hit: Sized, of: Sized) -> bool:
        """Return whether what is so of some GPUs, or kinds, is so for what the launch sees, `of` all of them.

        Where it is not known which GPUs it sees, it has to be so of every one.
        """
        return len(hit) > 0 and (self.certain or len(hit) == len(of))

    @property
    def doubt(self) -> str:
        """Why it is not known which GPUs are seen."""
        return (
            "CUDA_VISIBLE_DEVICES counts in CUDA's own order, the fastest GPU first, and these GPUs differ: "
            "which of them it means is known only with CUDA_DEVICE_ORDER=PCI_BUS_ID"
        )


def visible(gpus: tuple[Gpu, ...], environ: Environ) -> Visible:
    """Return what CUDA_VISIBLE_DEVICES leaves of these GPUs: the list ends at the first name of none.

    CUDA numbers the fastest GPU first unless CUDA_DEVICE_ORDER is PCI_BUS_ID, NVML goes by the bus.
    """
    value = environ.get("CUDA_VISIBLE_DEVICES")
    if value is None:
        return Visible(gpus)
    if value.startswith(("GPU-", "MIG-")):
        return _by_uuid(value, gpus)
    ordered = environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
    same = len({(gpu.name, gpu.capability) for gpu in gpus}) < 2
    seen = _by_number(value, gpus)
    return seen if ordered or same or len(seen.gpus) in (0, len(gpus)) else Visible(gpus, seen.why, False)


def _by_number(value: str, gpus: tuple[Gpu, ...]) -> Visible:
    chosen: list[int] = []
    for token in value.split(","):
        number = _as_number(token.strip())
        if number in chosen:
            return Visible((), f"{number} is in the list twice")
        if not 0 <= number < len(gpus):
            return Visible(tuple(gpus[index] for index in chosen), _ended_by(token.strip(), len(gpus)))
        chosen.append(number)
    return Visible(tuple(gpus[index] for index in chosen))


def _as_number(token: str) -> int:
    """Return the number that a text begins with, as strtoul does; -1 for none."""
    match = _NUMBER.match(token)
    digits = match[0] if match else ""
    return int(digits[:_DIGITS]) if digits.strip("+-") else -1


def _ended_by(token: str, count: int) -> str:
    if not token:
        return "it is empty"
    if token == "-1":
        return "-1 ends the list"
    there_are = "there is one GPU, number 0" if count == 1 else f"there are {count} GPUs, 0 to {count - 1}"
    return f"{token!r} names none: {there_are}"


def _by_uuid(value: str, gpus: tuple[Gpu, ...]) -> Visible:
    kind = value[:4]
    chosen: list[Gpu] = []
    names: list[str] = []
    for token in value.split(","):
        if token in names:
            return Visible((), f"{token} is in the list twice")
        found = [gpu for gpu in gpus if any(_same(token, own) for own in _uuids(gpu, kind))]
        if not token.startswith(kind) or len(found) != 1:
            return Visible(tuple(chosen), f"{token!r} names no GPU of this machine")
        if kind == "GPU-" and found[0] in chosen:
            return Visible((), f"{token} is in the list by another name already")
        names.append(token)
        chosen += [gpu for gpu in found if gpu not in chosen]
    return Visible(tuple(chosen))


def _uuids(gpu: Gpu, kind: str) -> tuple[str, ...]:
    return (gpu.uuid,) if kind == "GPU-" else gpu.mig_devices


def _same(token: str, known: str) -> bool:
    """Return whether a token means the GPU whose UUID begins so; a token may be a beginning itself."""
    return bool(known) and len(token) > 4 and (known.startswith(token) or token.startswith(known))
