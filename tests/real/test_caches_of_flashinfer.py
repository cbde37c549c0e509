"""What FlashInfer and torch themselves leave behind, against what the checks say of it.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack

As in test_flashinfer: the venv holds torch and flashinfer-python, nvcc is the machine's own.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cudadoctor.simulate.ninja import variables_of
from tests.real.test_flashinfer import build, check, environ, stack, stub, toolkit

pytestmark = pytest.mark.stack
__all__ = ["environ", "stack", "stub", "toolkit"]

BATON = """
import sys, time
from torch.utils.file_baton import FileBaton
assert FileBaton(sys.argv[1]).try_acquire()
print("ready", flush=True)
time.sleep(600)
"""


def writes_anew(stack: Path) -> bool:
    """Return whether the stack's FlashInfer writes build.ninja before every build."""
    (source,) = stack.glob("lib/python3.*/site-packages/flashinfer/jit/core.py")
    return "if not self.is_ninja_generated" not in source.read_text()


@pytest.fixture
def operator(stack: Path, environ: dict[str, str], stub: Path) -> Path:
    """Return the folder of an operator that was set up with a CUDA_HOME that is none, and failed."""
    environ["LIBRARY_PATH"] = str(stub)
    assert "cannot find -lcudart" in build("silu", stack, environ)
    (folder,) = Path(environ["FLASHINFER_WORKSPACE_BASE"]).glob(".cache/flashinfer/*/*/cached_ops/silu*")
    return folder


def test_a_corrected_cuda_home_reaches_the_operator_once_it_is_moved_aside(
    operator: Path, stack: Path, environ: dict[str, str], toolkit: Path
) -> None:
    wrong = variables_of((operator / "build.ninja").read_text())["cuda_home"][0]
    corrected = {**environ, "CUDA_HOME": str(toolkit)}
    found = check(corrected)["flashinfer-build-stale"]
    if writes_anew(stack):
        assert found["outcome"] == "skipped", found
        assert build("silu", stack, corrected) == ""
        return
    (finding,) = found["findings"]
    assert f"cuda_home = {wrong}, where {toolkit} would" in finding["evidence"][0]["detail"]
    (remedy,) = finding["remedies"]
    assert list(remedy["values"]) == [str(operator)]
    assert f"-L{wrong}/lib64" in build("silu", stack, corrected), "the old build.ninja is still used"
    subprocess.run(["sh", "-c", remedy["summary"]], check=True, env=environ)
    assert check(corrected)["flashinfer-build-stale"]["outcome"] == "passed"
    assert build("silu", stack, corrected) == ""
    assert check(corrected)["flashinfer-build-stale"]["outcome"] == "passed"


def test_what_would_be_written_now_is_what_flashinfer_writes(
    stack: Path, environ: dict[str, str], toolkit: Path
) -> None:
    if writes_anew(stack):
        pytest.skip("this FlashInfer writes its build files before every build")
    chosen = {
        **environ,
        "CUDA_HOME": f"{toolkit}/",
        "CXX": "g++",
        "CC": "gcc",
        "FLASHINFER_EXTRA_CFLAGS": "-O1 -DA='x y'",
        "FLASHINFER_EXTRA_CUDAFLAGS": "-O1",
        "FLASHINFER_EXTRA_LDFLAGS": "-L/nowhere -lnowhere",
    }
    assert "cannot find -lnowhere" in build("silu", stack, chosen)
    assert check(chosen)["flashinfer-build-stale"]["outcome"] == "passed"
    for name in ("CXX", "CC"):
        without = {key: value for key, value in chosen.items() if key != name}
        assert name in check(without)["flashinfer-build-stale"]["findings"][0]["summary"]


@contextmanager
def holding(lock: Path, stack: Path) -> Iterator[None]:
    """Let torch's own FileBaton hold a lock, in a process that is killed at the end."""
    lock.parent.mkdir(parents=True)
    command = [f"{stack}/bin/python", "-c", BATON, str(lock)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield
    finally:
        process.kill()
        process.wait()


def test_a_lock_of_torch_is_stale_when_its_process_was_killed(
    stack: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    (source,) = stack.glob("lib/python3.*/site-packages/torch/utils/cpp_extension.py")
    lock = tmp_path / "extensions/exl/lock"
    environ["TORCH_EXTENSIONS_DIR"] = str(tmp_path / "extensions")
    with holding(lock, stack):
        assert check(environ)["build-lock-stale"]["outcome"] == "passed"
    assert os.path.exists(lock)
    found = check(environ)["build-lock-stale"]
    if "FileBaton(" in source.read_text():
        if found["outcome"] == "inconclusive":
            pytest.skip(f"this machine leaves doubt: {found['reason']}")
        assert list(found["findings"][0]["remedies"][0]["values"]) == [str(lock)]
        lock.unlink()
    assert check(environ)["build-lock-stale"]["outcome"] == "passed"
