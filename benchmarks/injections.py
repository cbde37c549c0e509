"""Kills and errors at every step of a repair: `python -m benchmarks.injections [--only CALL] [--jobs N]`.

A small environment is repaired by the real program under strace, which kills it, or lets a system call fail,
at the first, the second, ... call of each kind that can write to the environment, to its journal or to a
cache. After each the environment is looked at, taken back on one copy and completed on another: both have to
be what they would be had nothing happened. Exits 1 where something was lost.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from msgspec import Struct

ELF_LIBRARY = ("gcc", "-shared", "-nostdlib", "-x", "c", "/dev/null", "-o")


def make_environment(root: Path) -> None:
    """Make `root`/env, `root`/home and FlashInfer's cache, broken in as many ways as there are repairs.

    A repair of it makes folders and links, turns and removes links, writes files anew and over others, and
    moves a folder aside that is not in the environment.
    """
    env = root / "env"
    for folder in ("bin", "include", "lib/stubs", "nvvm/bin", "conda-meta", "etc/conda/activate.d"):
        (env / folder).mkdir(parents=True)
    for program in ("bin/python3", "bin/nvcc", "nvvm/bin/cicc"):
        shutil.copy("/bin/true", env / program)  # a binary, as nvcc is: a script would stand for another
    for header in ("cuda_runtime.h", "cuda_runtime_api.h"):
        (env / "include" / header).write_text("#define CUDART_VERSION 12080\n")
    (env / "include/cuda.h").write_text("#define CUDA_VERSION 12080\n")
    (env / "conda-meta/history").touch()
    for name in ("cuda-nvcc", "cuda-cudart-dev", "cuda-version"):
        record = f'{{"name": "{name}", "version": "12.8.90", "build": "0", "files": [], "channel": "nvidia"}}'
        (env / f"conda-meta/{name}-12.8.90-0.json").write_text(record)
    library = env / "lib/libcudart.so.12"
    subprocess.run([*ELF_LIBRARY, str(library), "-Wl,-soname,libcudart.so.12"], check=True)
    (env / "lib/libcudart.so").symlink_to("libcudart.so.12")
    shutil.copy(library, env / "lib/stubs/libcuda.so")
    shutil.copy(library, env / "lib/libnvrtc.so.12")
    (env / "lib/libnvrtc.so").symlink_to("/gone/libnvrtc.so.12.4")
    (env / "lib/libcublas.so").symlink_to("/gone/libcublas.so.12")
    _packages(env / "lib/python3.11/site-packages")
    _operator(root / "cache/.cache/flashinfer/0.5.3/90a/cached_ops/silu_and_mul", root)
    (root / "home").mkdir()


def _packages(site: Path) -> None:
    for name, version in (("torch", "2.9.0+cu128"), ("flashinfer_python", "0.5.3")):
        folder = site / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")
    (site / "torch").mkdir()
    (site / "torch/version.py").write_text("__version__ = '2.9.0+cu128'\ncuda = '12.8'\n")


def _operator(folder: Path, root: Path) -> None:
    """Make an operator that was set up with the wrong CUDA_HOME and never got built."""
    folder.mkdir(parents=True)
    (folder / "build.ninja").write_text(
        f"name = {folder.name}\ncuda_home = {root}/wrong\ncxx = c++\nnvcc = $cuda_home/bin/nvcc\n"
        "cflags = -O3\ncuda_cflags = -O3\nldflags = -shared -lcudart\n\nrule compile\n"
    )
    (folder / "silu.cuda.o").write_bytes(b"\x7fELF half")


def variables(root: Path) -> dict[str, str]:
    """Return the variables that the repair is run with."""
    return {
        "PATH": f"{root}/env/bin:/usr/bin:/bin",
        "HOME": f"{root}/home",
        "CUDA_HOME": f"{root}/wrong",
        "FLASHINFER_WORKSPACE_BASE": f"{root}/cache",
        "LANG": "C.UTF-8",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
