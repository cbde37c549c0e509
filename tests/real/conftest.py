"""Fixtures that hand each test its own copy of a real environment.

The masters are made once and stay in the cache folder, under a name that changes with the code that makes
them; older ones may be deleted at any time. What cannot be made here is skipped with its reason; with
CUDADOCTOR_REQUIRE_REAL=1 that is a failure.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from . import conda_prefix, pip_prefix
from .pip_prefix import Missing

#: Why a master could not be made, by its name: an absent network is waited for once, not once a test.
_absent: dict[str, str] = {}


@pytest.fixture(scope="session")
def work() -> Path:
    """Return the folder of wheels and masters: $CUDADOCTOR_TEST_CACHE or ~/.cache/cudadoctor-tests."""
    named = os.environ.get("CUDADOCTOR_TEST_CACHE")
    folder = Path(named) if named else Path("~/.cache/cudadoctor-tests").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


@pytest.fixture
def gxx() -> str:
    """Return the path of g++."""
    path = shutil.which("g++")
    if path is None:
        _do_without("g++ is not on PATH")
    return path


@pytest.fixture
def conda_prefix_of(work: Path, tmp_path: Path) -> Callable[..., Path]:
    """Return `conda_prefix_of(profile, with_python=False)`, which copies a prefix of that profile."""

    def copy(profile: str, *, with_python: bool = False) -> Path:
        def build(place: Path) -> Path:
            return conda_prefix.make_prefix(profile, place, work, with_python=with_python)

        name = f"conda-{profile}" + ("-python" if with_python else "")
        place = tmp_path / "prefix"
        subprocess.run(["cp", "-a", str(_master(name, work, build)), str(place)], check=True)
        return place

    return copy


@pytest.fixture
def conda_cudart12(conda_prefix_of: Callable[..., Path]) -> Path:
    """Copy a prefix with the CUDA 12.8 runtime, the driver stub and a Python."""
    return conda_prefix_of("cudart12", with_python=True)


@pytest.fixture
def conda_mixed(conda_prefix_of: Callable[..., Path]) -> Path:
    """Copy a prefix with CUDA 12.4, 12.6 and 12.8 mixed, and a Python."""
    return conda_prefix_of("mixed", with_python=True)


@pytest.fixture
def conda13(conda_prefix_of: Callable[..., Path]) -> Path:
    """Copy a prefix with a complete CUDA 13.0 and a Python: mark the test with `download`."""
    return conda_prefix_of("cuda13", with_python=True)


@pytest.fixture
def pip_cu13(work: Path, tmp_path: Path) -> Path:
    """Copy a venv with the CUDA 13.0 runtime and a planted torch 2.14.1+cu130."""
    return _copy_venv("pip_cu13", work, tmp_path)


@pytest.fixture
def pip_cu13_flashinfer(work: Path, tmp_path: Path) -> Path:
    """Copy the venv of pip_cu13 with FlashInfer 0.7.2.post1 in it: mark the test with `download`."""
    return _copy_venv("pip_cu13_flashinfer", work, tmp_path)


@pytest.fixture
def pip_cu12(work: Path, tmp_path: Path) -> Path:
    """Copy a venv with the CUDA 12.8 runtime, FlashInfer 0.5.3 and a planted torch 2.9.0+cu128."""
    return _copy_venv("pip_cu12", work, tmp_path)


def _copy_venv(name: str, work: Path, tmp_path: Path) -> Path:
    def build(place: Path) -> Path:
        return pip_prefix.VENVS[name](place, work)

    return pip_prefix.copy_venv(_master(name, work, build), tmp_path / "venv")


def _master(name: str, work: Path, build: Callable[[Path], Path]) -> Path:
    """Return the one environment that copies are taken of, building it if no finished one is in the cache."""
    place = work / "masters" / f"{name}-{_digest()}"
    finished = place.with_name(f"{place.name}.finished")
    with _locked(work / "lock"):
        if not finished.exists() and name not in _absent:
            shutil.rmtree(place, ignore_errors=True)
            place.parent.mkdir(exist_ok=True)
            try:
                build(place)
                finished.touch()
            except Missing as missing:
                _absent[name] = str(missing)
    if name in _absent:
        _do_without(_absent[name])
    return place


def _digest() -> str:
    """Return what a master depends on besides its name: the builders' source and the interpreter."""
    sources = [Path(module.__file__ or "").read_bytes() for module in (conda_prefix, pip_prefix)]
    interpreter = f"{sys.base_prefix} {sys.version}".encode()
    return hashlib.sha256(b"\0".join([*sources, interpreter])).hexdigest()[:12]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other test processes out: parallel workers share the cache."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _do_without(reason: str) -> NoReturn:
    if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1":
        pytest.fail(f"CUDADOCTOR_REQUIRE_REAL=1, but {reason}", pytrace=False)
    pytest.skip(reason)
