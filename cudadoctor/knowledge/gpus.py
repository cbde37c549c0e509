"""Cards by name: what CUDA reports as their memory, which is less than the number on the box.

What is reported differs by some 0.1 GiB between drivers, and on Windows (WSL) by more; where a machine can be
asked, its own figure counts. Cards whose figure was not found in a posted log are not here.
"""

from __future__ import annotations

import re

from msgspec import Struct

_VLLM = "vLLM's logs of measured starts, 2026-11"
_OOM = "the total capacity in posted out-of-memory messages of torch, read 2026-11-21"


class Gpu(Struct, frozen=True):
    """A card, as CUDA sees it."""

    name: str
    total_gib: float
    capability: str  #: https://developer.nvidia.com/cuda-gpus lists them; T4 to GB10 as in ptxas --help
    source: str
    unified: bool = False


GPUS: tuple[Gpu, ...] = (
    Gpu("gtx-1650", 4.0, "7.5", _VLLM),
    Gpu("rtx-3060", 11.63, "8.6", _OOM),
    Gpu("rtx-3090", 23.58, "8.6", _VLLM),
    Gpu("rtx-4090", 23.52, "8.9", "vllm-project/vllm issue 42049 (23.64 with older drivers)"),
    Gpu("rtx-4090-laptop", 15.57, "8.9", f"{_OOM} (15.99 under WSL)"),
    Gpu("rtx-5070-ti", 15.48, "12.0", "vllm-project/vllm issue 14452, of the RTX 5080"),
    Gpu("rtx-5080", 15.48, "12.0", "vllm-project/vllm issue 14452"),
    Gpu("rtx-5090", 31.36, "12.0", f"{_OOM}; vllm-project/vllm issue 14452: 31.37"),
    Gpu("rtx-pro-6000", 94.97, "12.0", _OOM),
    Gpu("t4", 14.56, "7.5", f"{_OOM} (14.74 with older drivers)"),
    Gpu("v100-16", 15.77, "7.0", _OOM),
    Gpu("v100-32", 31.73, "7.0", _OOM),
    Gpu("a10g", 22.05, "8.6", _VLLM),
    Gpu("l4", 22.03, "8.9", _OOM),
    Gpu("l40s", 44.4, "8.9", _VLLM),
    Gpu("a100-40", 39.39, "8.0", _OOM),
    Gpu("a100-80", 79.15, "8.0", _VLLM),
    Gpu("h100", 79.18, "9.0", _VLLM),
    Gpu("h200", 139.8, "9.0", _OOM),
    Gpu("b200", 178.35, "10.0", _OOM),
    Gpu("gb10", 121.7, "12.1", _VLLM, unified=True),
)
_BY_NAME = {gpu.name: gpu for gpu in GPUS}
_OTHER_NAMES = {
    "dgx-spark": "gb10", "spark": "gb10", "v100": "v100-16", "a100": "a100-80", "a100-40gb": "a100-40",
    "a100-80gb": "a100-80", "h100-80gb": "h100", "v100-32gb": "v100-32", "tesla-t4": "t4",
}  # fmt: skip
#: What stands between the words of a name.
_WORDS = re.compile(r"[^a-z0-9]+")


def find(name: str) -> Gpu | None:
    """Return the card of this name, "rtx-3090" or "NVIDIA RTX 3090"; None where none is known by it."""
    plain = _WORDS.sub("-", name.lower()).strip("-")
    plain = plain.removeprefix("nvidia-").removeprefix("geforce-")
    return _BY_NAME.get(_OTHER_NAMES.get(plain, plain))


def names() -> tuple[str, ...]:
    """Return the names that `find` knows, for a suggestion where one is wrong."""
    return (*_BY_NAME, *_OTHER_NAMES)


def find_in(text: str) -> Gpu | None:
    """Return the card that a text speaks of, like "2x A100 40GB"; None for none or a part (MIG)."""
    plain = f"-{_WORDS.sub('-', text.lower()).strip('-')}-"
    if "-mig-" in plain:
        return None
    held = [gpu for gpu in GPUS if f"-{gpu.name}-" in plain or f"-{gpu.name}gb-" in plain]
    if not held:
        held = [_BY_NAME[gpu] for other, gpu in _OTHER_NAMES.items() if f"-{other}-" in plain]
    return max(held, key=lambda gpu: len(gpu.name), default=None)
