"""Makes a folder with the fake libnvidia-ml.so.1 in it, and the cards that it can be told to show."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_nvml.c")
GIB = 1 << 30

Lines = tuple[str, ...]


def card(name: str, capability: str, gib: float | None, *more: str, number: int = 0) -> Lines:
    """Return the lines of one GPU; without `gib` it reports no memory."""
    major, minor = capability.split(".")
    memory: Lines = ()
    if gib is not None:
        total = int(gib * GIB)
        memory = (f"total {total}", f"used {GIB // 4}", f"free {total - GIB // 2}")
    uuid = f"GPU-{number}a2b3c4d-0000-0000-0000-000000000000"
    return (f"gpu {name}", f"major {major}", f"minor {minor}", f"uuid {uuid}", *memory, *more)


RTX_3090 = card("NVIDIA GeForce RTX 3090", "8.6", 24)
RTX_4090_LAPTOP = card("NVIDIA GeForce RTX 4090 Laptop GPU", "8.9", 15.99, number=1)
H100 = card("NVIDIA H100 80GB HBM3", "9.0", 79.65, "mig 0", "fabric 3 0", number=2)
H200 = card("NVIDIA H200", "9.0", 140.4, "mig 0", "fabric 3 0", number=3)
RTX_5090 = card("NVIDIA GeForce RTX 5090", "12.0", 31.84, number=4)
GB10 = card("NVIDIA GB10", "12.1", None, number=5)
CARDS: Mapping[str, Lines] = {
    "RTX 3090": RTX_3090,
    "RTX 4090 Laptop": RTX_4090_LAPTOP,
    "H100": H100,
    "H200": H200,
    "RTX 5090": RTX_5090,
    "GB10": GB10,
}


def build(folder: Path) -> Path:
    """Compile the library into `folder` and return its path; raises FileNotFoundError without gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        raise FileNotFoundError("gcc is not on PATH")
    library = folder / "libnvidia-ml.so.1"
    flags = ["-Wall", "-Wextra", "-Werror", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{library.name}"]
    subprocess.run([gcc, *flags, "-o", str(library), str(SOURCE)], check=True)
    return library


def installed(library: Path, folder: Path, lines: Lines, version: str = "550.54.14") -> dict[str, str]:
    """Put the library into `folder` as a driver's package does, and return the variables that lead there."""
    folder.mkdir(exist_ok=True)
    real = folder / f"libnvidia-ml.so.{version}"
    shutil.copy(library, real)
    (folder / "libnvidia-ml.so.1").symlink_to(real.name)
    said = (f"version {version}", "cuda 12040")
    # A name that is no UTF-8 is spelled with surrogates.
    (folder / "gpus").write_text("\n".join((*said, *lines)) + "\n", "utf-8", "surrogateescape")
    return {**os.environ, "LD_LIBRARY_PATH": str(folder)}
