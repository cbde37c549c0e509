"""Which driver a CUDA version needs, and which nvcc a GPU."""

from __future__ import annotations

from cudadoctor.versions import numbers

#: The first driver of each CUDA release on Linux: table 3 of the CUDA 13.2 Update 2 release notes,
#: https://docs.nvidia.com/cuda/cuda-toolkit-release-notes/, read 2026-11-21. Newest first.
DRIVERS: tuple[tuple[str, str], ...] = (
    ("13.2", "595.45.04"),
    ("13.1", "590.44.01"),
    ("13.0", "580.65.06"),
    ("12.9", "575.51.03"),
    ("12.8", "570.26"),
    ("12.6", "560.28.03"),
    ("12.5", "555.42.02"),
    ("12.4", "550.54.14"),
    ("12.3", "545.23.06"),
    ("12.2", "535.54.03"),
    ("12.1", "530.30.02"),
    ("12.0", "525.60.13"),
    ("11.8", "520.61.05"),
    ("11.7", "515.43.04"),
    ("11.6", "510.39.01"),
    ("11.5", "495.29.05"),
    ("11.4", "470.42.01"),
    ("11.3", "465.19.01"),
    ("11.2", "460.27.03"),
    ("11.1", "455.23"),
    ("11.0", "450.51.05"),
)
#: The driver that runs programs built with any release of a CUDA major (minor-version compatibility):
#: https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html, read 2026-11-21.
OLDEST = {"11": "450.80.02", "12": "525.60.13", "13": "580.65.06"}

#: The first nvcc that compiles for a GPU: `ptxas --help` of NVIDIA's wheels 11.7 to 13.5, run 2026-11-21.
SINCE = {
    "8.9": "11.8", "9.0": "11.8", "10.0": "12.8", "12.0": "12.8", "10.3": "12.9", "12.1": "12.9",
    "8.8": "13.0", "11.0": "13.0", "10.7": "13.4",
}  # fmt: skip
#: The oldest GPU that nvcc of a CUDA major compiles for; the same source.
UNTIL = {"12": "5.0", "13": "7.5"}


def cuda_of(driver: str) -> str:
    """Return the CUDA release that a driver came with, as far as the table goes; "" for what is older."""
    return next((cuda for cuda, first in DRIVERS if numbers(first) <= numbers(driver)), "")


def first_for(cuda: str) -> str:
    """Return the first driver of a CUDA release, or "" where the table does not know it."""
    return next((driver for known, driver in DRIVERS if known == cuda), "")
