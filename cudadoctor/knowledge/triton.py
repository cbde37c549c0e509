"""Which ptxas the releases of Triton bring for Blackwell."""

from __future__ import annotations

#: Its CUDA, the first release of Triton that brings it, and the torch and vLLM that pin this one: `ptxas
#: --version` of triton 3.5.0 and 3.8.0 as installed and of the wheels 3.6.0 and 3.9.0, and the METADATA of
#: torch 2.9.0 to 2.15.0 and vLLM 0.12.0 to 0.33.0, all 2026-11-21. Oldest first.
_BRINGS = (
    ("12.8", "3.5", "torch 2.9, vLLM 0.12"),
    ("12.9", "3.6", "torch 2.10, vLLM 0.17"),
    ("13.3", "3.8", "torch 2.14"),
    ("13.4", "3.9", "torch 2.15"),
)


def bringing(cuda: str) -> str:
    """Return the first Triton whose ptxas is of this CUDA or newer, in words; "" where none is known."""
    wanted = tuple(map(int, cuda.split(".")))
    for brought, triton, come_with in _BRINGS:
        if tuple(map(int, brought.split("."))) >= wanted:
            return f"Triton {triton} or newer ({come_with}), whose ptxas is of CUDA {brought}"
    return ""
