"""Which CUDA the wheels of torch are for, and where those of another CUDA are."""

from __future__ import annotations

#: The CUDA of the wheels on the package index (x86_64), by torch's release: their METADATA, read 2026-11-21.
_DEFAULT_CUDA = {
    "2.5": "12.4", "2.6": "12.4", "2.7": "12.6", "2.8": "12.8", "2.9": "12.8", "2.10": "12.8", "2.11": "13.0",
    "2.12": "13.0", "2.13": "13.0", "2.14": "13.0", "2.15": "13.2",
}  # fmt: skip
_INDEX = "https://download.pytorch.org/whl"  #: https://pytorch.org/get-started/locally/, read 2026-11-21


def index_for(version: str, cuda: str = "") -> str:
    """Return the index of torch's wheels for a CUDA release, as pip takes it with --index-url.

    Without `cuda` it is the release that this torch's wheels on the package index are for; "" where that is
    not known.
    """
    cuda = cuda or _DEFAULT_CUDA.get(".".join(version.split(".")[:2]), "")
    return f"{_INDEX}/cu{cuda.replace('.', '')}" if cuda else ""
