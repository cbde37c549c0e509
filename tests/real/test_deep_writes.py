"""`check --deep` as a whole, under strace: neither the stack nor a compiler writes outside our own folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.probes.test_live import TORCH, plant

from .conftest import _do_without
from .test_deep import root_of, written

#: What packages do on import: caches where variables say, or below the home folder, and temporary files.
WRITES = """
import os, pathlib, subprocess, tempfile
for name, default in {
    "TORCH_HOME": "~/.cache/torch", "HF_HOME": "~/.cache/huggingface", "TRITON_CACHE_DIR": "~/.triton/cache",
    "XDG_CACHE_HOME": "~/.cache", "TVM_FFI_CACHE_DIR": "~/.cache/tvm-ffi", "VLLM_CACHE_ROOT": "~/.cache/vllm",
    "VLLM_CONFIG_ROOT": "~/.config/vllm", "FLASHINFER_WORKSPACE_BASE": "~", "MPLCONFIGDIR": "~/.config/m",
    "TORCHINDUCTOR_CACHE_DIR": "/tmp/inductor", "NUMBA_CACHE_DIR": "~/.numba",
}.items():
    place = pathlib.Path(os.path.expanduser(os.environ.get(name, default)))
    place.mkdir(parents=True, exist_ok=True)
    (place / "made_on_import").touch()
tempfile.mkstemp()
subprocess.run("echo made > child_s_own", shell=True, check=True)
"""


@pytest.fixture
def strace() -> str:
    path = shutil.which("strace")
    if path is None:
        _do_without("strace is not on PATH")
    return path


def traced(strace: str, prefix: Path, tmp_path: Path, **more: str) -> tuple[set[str], dict[str, str]]:
    """Run `check --deep` on an environment; return the paths written to, and how each check ended."""
    for name in ("log", "home", "tmp", "work"):
        (tmp_path / name).mkdir()
    held = {"HOME": str(tmp_path / "home"), "TMPDIR": str(tmp_path / "tmp"), "VIRTUAL_ENV": str(prefix)}
    held |= {"PATH": f"{prefix}/bin:{os.environ['PATH']}", "PYTHONDONTWRITEBYTECODE": "1", **more}
    calls = ["-e", "trace=%file,clone,clone3,fork,vfork", "-e", "signal=none"]
    before = [strace, "-ff", "-y", "-s", "4096", "-o", f"{tmp_path}/log/s", *calls]
    command = [sys.executable, "-m", "cudadoctor", "check", "--deep", "--no-config", "--format", "json"]
    ran = subprocess.run([*before, *command], capture_output=True, text=True, env=held, cwd=tmp_path / "work")
    outcomes = {each["check"]: each["outcome"] for each in json.loads(ran.stdout)["outcomes"]}
    log = tmp_path / "log"
    return set(written(log, root_of(log), str(tmp_path / "work"))), outcomes


def assert_inside(paths: set[str], tmp_path: Path) -> None:
    inside = str(tmp_path / "tmp/cudadoctor-")
    harmless = ("/dev/null", "/dev/tty", "/proc/self/")
    assert not {path for path in paths if not path.startswith((inside, *harmless))}
    assert not list((tmp_path / "tmp").iterdir()), "our folder is gone"
    assert not list((tmp_path / "home").iterdir()) and not list((tmp_path / "work").iterdir())


def test_a_stack_that_writes_on_import_writes_into_our_folder(strace: str, tmp_path: Path) -> None:
    prefix = tmp_path / "env"
    venv.create(prefix, symlinks=True, with_pip=False)
    (site,) = prefix.glob("lib/python3*/site-packages")
    plant(site, "torch", WRITES + TORCH)
    paths, outcomes = traced(strace, prefix, tmp_path)
    assert outcomes["stack-import-fails"] == "passed"
    assert sum(path.endswith("made_on_import") for path in paths) >= 11
    assert any(path.endswith("child_s_own") for path in paths)
    assert_inside(paths, tmp_path)


@pytest.mark.stack
def test_a_real_stack_writes_into_our_folder(strace: str, tmp_path: Path) -> None:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    paths, outcomes = traced(strace, Path(named), tmp_path)
    assert outcomes["stack-import-fails"] in ("passed", "failed") and len(paths) > 10
    assert_inside(paths, tmp_path)
