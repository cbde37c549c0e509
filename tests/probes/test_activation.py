"""A real activation in a real bash."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cudadoctor.facts import Environ
from cudadoctor.host import RealHost
from cudadoctor.probes import environ, target
from cudadoctor.probes.target import Request
from cudadoctor.testing import FakeHost

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not on this machine")


@pytest.fixture
def conda(tmp_path: Path) -> Path:
    """Return a conda-like prefix whose activation needs a shell to know."""
    root = tmp_path / "env"
    (root / "conda-meta").mkdir(parents=True)
    (root / "etc/conda/activate.d").mkdir(parents=True)
    (root / "bin").mkdir()
    shutil.copy("/bin/sh", root / "bin/python3")
    return root


def seen(prefix: Path, script: str, *, deep: bool = True) -> Environ:
    (prefix / "etc/conda/activate.d/cuda.sh").write_text(script)
    host = RealHost({"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "CPATH": "/kept"})
    request = Request(prefix=str(prefix), deep=deep)
    return environ.probe(host, target.probe(host, request), request)


COMPUTED = (
    'echo noise; if [ -d "$CONDA_PREFIX" ]; then export CUDA_HOME="$(dirname "$CONDA_PREFIX")/cuda"; fi\n'
)


def test_a_value_that_only_a_shell_knows_is_had_with_deep(conda: Path) -> None:
    found = seen(conda, COMPUTED)
    assert found.get("CUDA_HOME") == f"{conda.parent}/cuda"
    assert found.where("CUDA_HOME") == "CUDA_HOME (activation)"
    assert found.judged == "the variables after a real activation, in a child shell"
    assert found.get("CPATH") == "/kept" and found.where("CPATH") == "CPATH"
    assert found.path[0] == f"{conda}/bin"


def test_nothing_is_run_without_deep(conda: Path, tmp_path: Path) -> None:
    found = seen(conda, f"touch {tmp_path}/ran\n{COMPUTED}", deep=False)
    assert not (tmp_path / "ran").exists()
    assert found.get("CUDA_HOME") is None


def test_a_script_that_ends_the_shell_leaves_what_files_tell(conda: Path) -> None:
    found = seen(conda, "export CUDA_HOME=/opt/cuda\nexit 3\n")
    assert "a real activation failed: its scripts end the shell (exit status 3)" in found.judged


def test_a_real_venv_is_activated(tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(venv)], check=True)
    with (venv / "bin/activate").open("a") as script:
        script.write("export CUDA_HOME=/opt/from-activate\n")
    host = RealHost({"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"})
    request = Request(prefix=str(venv), deep=True)
    found = environ.probe(host, target.probe(host, request), request)
    assert found.get("CUDA_HOME") == "/opt/from-activate"
    assert found.get("VIRTUAL_ENV") == str(venv) and found.path[0] == f"{venv}/bin"


def test_a_machine_without_bash_says_so() -> None:
    files = {"/env/conda-meta/": "", "/env/etc/conda/activate.d/x.sh": "export CUDA_HOME=/opt/cuda\n"}
    host = FakeHost(files, executables=["/env/bin/python3"])
    request = Request(prefix="/env", deep=True)
    found = environ.probe(host, target.probe(host, request), request)
    assert found.get("CUDA_HOME") == "/opt/cuda" and "no bash on PATH" in found.judged
