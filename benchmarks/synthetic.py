"""Environments of any size, made of small files: what a conda prefix with pip packages in it looks like."""

from __future__ import annotations

import json
from pathlib import Path

_SHARE = ("nvidia-cublas-cu12", "nvidia-cuda-runtime-cu12", "nvidia-cudnn-cu12", "torchvision", "triton")


def make_environment(root: Path, *, distributions: int, records: int, files: int) -> Path:
    """Make a conda-like prefix with so many distributions, conda records and files inside the packages."""
    site = root / "lib/python3.11/site-packages"
    site.mkdir(parents=True)
    (root / "bin").mkdir()
    (root / "bin/python3").write_text("#!/bin/sh\n")
    (root / "bin/python3").chmod(0o755)
    for number in range(distributions):
        name = _SHARE[number] if number < len(_SHARE) else f"package-{number}"
        _distribution(site, name, f"1.{number}")
    _distribution(site, "torch", "2.9.0+cu128")
    (site / "torch").mkdir(exist_ok=True)
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu128'\ncuda: str | None = '12.8'\n")
    meta = root / "conda-meta"
    meta.mkdir()
    for number in range(records):
        name = f"cuda-part-{number}" if number % 12 == 0 else f"library-{number}"
        _record(meta, name, "12.8.90")
    for number in range(files):
        folder = site / f"package_{number % 150}" / f"part{number % 7}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"module_{number}.py").write_text("")
    return root


def _distribution(site: Path, name: str, version: str) -> None:
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir()
    requires = "".join(f"Requires-Dist: package-{n}>=1\n" for n in range(12))
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{requires}\n"
    (folder / "METADATA").write_text(head + "Words.\n" * 400)
    (folder / "INSTALLER").write_text("pip\n")


def _record(meta: Path, name: str, version: str) -> None:
    paths = [f"lib/{name}/file{n}" for n in range(200)]
    data = {"paths": [{"_path": path, "sha256": "0" * 64} for path in paths]}
    record: dict[str, object] = {"name": name, "version": version, "build": "0", "channel": "conda-forge"}
    record |= {"files": paths, "paths_data": data}
    (meta / f"{name}-{version}-0.json").write_text(json.dumps(record))
