"""Which GPU code runs on which GPU.

Machine code of capability X.y runs on X.z with z >= y and on no other X; code named with an `a` runs on that
one alone. PTX is translated by the driver for any newer one. (CUDA C++ Programming Guide, "Binary
Compatibility" and "PTX Compatibility", read 2026-11.)
"""

from __future__ import annotations

from cudadoctor.versions import numbers

#: Of Tegra: their machine code is not that of the desktop GPUs next to them.
TEGRA = frozenset(("5.3", "6.2", "7.2", "8.7", "8.8", "10.1", "11.0"))


def covers(code: str, capability: str) -> bool:
    """Return whether machine code runs on a GPU."""
    if code == capability:
        return True
    if code.endswith("a"):
        return code[:-1] == capability
    made_for, own = numbers(code), numbers(capability)
    return made_for[:1] == own[:1] and made_for <= own and code not in TEGRA


def translates(ptx: str, capability: str) -> bool:
    """Return whether the driver can translate PTX for a GPU."""
    if ptx.endswith("a"):
        return ptx[:-1] == capability
    return numbers(ptx) <= numbers(capability)
