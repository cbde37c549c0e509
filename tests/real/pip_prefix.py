"""Real virtual environments: real wheels where they are small, planted distributions where they are not."""

import base64
import hashlib
import platform
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from packaging.tags import Tag, sys_tags
from packaging.utils import canonicalize_name, parse_wheel_filename
from packaging.version import Version


class Missing(RuntimeError):
    """Something that a real environment is made with is not to be had: a compiler, the network, a package."""


# --- wheels -------------------------------------------------------------------------------------------------


def fetch_wheel(requirement: str, work: Path) -> Path:
    """Return the wheel of `name==version` for this interpreter, downloading it into `work/wheels` once.

    Raises Missing when pip cannot get it.
    """
    if platform.machine() != "x86_64" or sys.platform != "linux":
        raise Missing(f"the wheels are for x86_64 Linux, this is {platform.machine()} {sys.platform}")
    folder = work / "wheels"
    folder.mkdir(parents=True, exist_ok=True)
    wheel = _cached_wheel(requirement, folder)
    if wheel is None:
        choice = ("--no-deps", "--only-binary=:all:", "--retries=1", "--timeout=30")
        _pip("download", *choice, "--dest", str(folder), requirement)
        wheel = _cached_wheel(requirement, folder)
    if wheel is None:
        raise Missing(f"pip download {requirement} left no wheel for this interpreter in {folder}")
    return wheel


def _cached_wheel(requirement: str, folder: Path) -> Path | None:
    name, _, version = requirement.partition("==")
    for wheel in folder.glob("*.whl"):
        found, number, _, tags = parse_wheel_filename(wheel.name)
        same = found == canonicalize_name(name) and number == Version(version)
        if same and not tags.isdisjoint(_tags_here()):
            return wheel
    return None


@lru_cache(maxsize=1)
def _tags_here() -> frozenset[Tag]:
    return frozenset(sys_tags())


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise Missing(f"pip could not get {arguments[-1]}: {lines[-1]}")


# --- environments -------------------------------------------------------------------------------------------


def make_venv(path: Path, requirements: Sequence[str], work: Path) -> Path:
    """Make a virtual environment without pip at `path` and install `name==version` requirements into it."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(path)], check=True)
    if requirements:
        install(path, requirements, work)
    return path


def install(prefix: Path, requirements: Sequence[str], work: Path) -> None:
    """Install exactly these `name==version` requirements, not their dependencies, into a venv or a prefix."""
    for requirement in requirements:
        fetch_wheel(requirement, work)
    # The wheels are found by name, not handed over as paths: for a path pip writes a direct_url.json,
    # which an installation from an index does not have.
    source = ("--no-deps", "--no-index", "--find-links", str(work / "wheels"))
    _pip("--python", str(prefix / "bin" / "python"), "install", "--no-compile", *source, *requirements)


def site_packages(prefix: Path) -> Path:
    """Return the one site-packages folder of a venv or a conda prefix."""
    (folder,) = prefix.glob("lib/python3.*/site-packages")
    return folder


def copy_venv(master: Path, path: Path) -> Path:
    """Copy a venv so that its scripts and pyvenv.cfg name the new place, and RECORD the scripts' new hash."""
    subprocess.run(["cp", "-a", str(master), str(path)], check=True)
    scripts = [file for file in (path / "bin").iterdir() if not file.is_symlink()]
    for file in (*scripts, path / "pyvenv.cfg"):
        file.write_bytes(file.read_bytes().replace(bytes(master), bytes(path)))
    for record in site_packages(path).glob("*.dist-info/RECORD"):
        _record_scripts_anew(record)
    return path


def _record_scripts_anew(record: Path) -> None:
    def anew(row: re.Match[str]) -> str:
        return _record_row(row[1], (record.parent.parent / row[1]).read_bytes())

    text = record.read_text()
    record.write_text(re.sub(r"^(\.\./\.\./\.\./bin/[^,\n]+),.*$", anew, text, flags=re.MULTILINE))


# --- planted distributions ----------------------------------------------------------------------------------


def plant_distribution(
    prefix: Path,
    name: str,
    version: str,
    files: Mapping[str, str | bytes] = {},
    requires: Sequence[str] = (),
) -> Path:
    """Write a distribution as pip leaves one behind, for wheels too large to download; return its dist-info.

    `files` maps paths relative to site-packages to their content. `requires` are Requires-Dist lines.
    """
    site = site_packages(prefix)
    info = f"{re.sub(r'[-_.]+', '_', name)}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Requires-Dist: {line}\n" for line in requires]
    whole = {**files, f"{info}/METADATA": "".join(metadata), f"{info}/INSTALLER": "pip\n"}
    rows = []
    for path, content in whole.items():
        data = content.encode() if isinstance(content, str) else content
        (site / path).parent.mkdir(parents=True, exist_ok=True)
        (site / path).write_bytes(data)
        rows.append(_record_row(path, data))
    rows.append(f"{info}/RECORD,,")
    (site / info / "RECORD").write_text("\n".join(rows) + "\n")
    return site / info


def _record_row(path: str, data: bytes) -> str:
    digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
    return f"{path},sha256={digest},{len(data)}"


TORCH_VERSION_PY = """\
from typing import Optional

__all__ = ['__version__', 'debug', 'cuda', 'git_version', 'hip', 'rocm', 'xpu']
__version__ = '{version}'
debug = False
cuda: Optional[str] = '{cuda}'
git_version = '{commit}'
hip: Optional[str] = None
rocm: Optional[str] = None
xpu: Optional[str] = None
"""


def plant_torch(
    prefix: Path, version: str, cuda: str, *, listed: str = "", requires: Sequence[str] = ()
) -> Path:
    """Plant a torch whose `torch.__version__` is `version` (such as 2.14.1+cu130), built for CUDA `cuda`.

    `listed` is the version in its METADATA where that differs: the default index refuses local versions, so
    there torch 2.14.1+cu130 is listed as 2.14.1. PyTorch's own index lists it with the suffix.
    """
    commit = hashlib.sha1(version.encode()).hexdigest()
    files = {
        "torch/__init__.py": "from .version import __version__ as __version__\n",
        "torch/version.py": TORCH_VERSION_PY.format(version=version, cuda=cuda, commit=commit),
    }
    return plant_distribution(prefix, "torch", listed or version, files, requires)


def plant_triton(prefix: Path, version: str) -> Path:
    """Plant a triton of this version."""
    files = {"triton/__init__.py": f'"""isort:skip_file"""\n__version__ = {version!r}\n'}
    return plant_distribution(prefix, "triton", version, files)


# --- the environments of the tests --------------------------------------------------------------------------


def make_cu13(path: Path, work: Path) -> Path:
    """Make a CUDA 13.0 venv as the default index gives it: 5 MB of wheels, planted torch and triton."""
    real = ("nvidia-cuda-runtime==13.0.96", "nvidia-nvtx==13.0.85", "apache-tvm-ffi==0.1.11")
    make_venv(path, real, work)
    needs = ['triton~=3.8.0; platform_system == "Linux" and python_version < "3.15"']
    plant_torch(path, "2.14.1+cu130", "13.0", listed="2.14.1", requires=needs)
    plant_triton(path, "3.8.0")
    return path


def make_cu13_flashinfer(path: Path, work: Path) -> Path:
    """Make the CUDA 13.0 venv with FlashInfer 0.7.2.post1 in it, a 62 MB wheel."""
    make_cu13(path, work)
    install(path, ["flashinfer-python==0.7.2.post1"], work)
    return path


def make_cu12(path: Path, work: Path) -> Path:
    """Make a CUDA 12.8 venv as PyTorch's own index gives it: 10 MB of wheels, planted torch and triton."""
    real = ("nvidia-cuda-runtime-cu12==12.8.90", "apache-tvm-ffi==0.1.2", "flashinfer-python==0.5.3")
    make_venv(path, real, work)
    pins = ("nvidia-cuda-runtime-cu12==12.8.90", "triton==3.5.0")
    needs = [f'{pin}; platform_system == "Linux"' for pin in pins]
    plant_torch(path, "2.9.0+cu128", "12.8", requires=needs)
    plant_triton(path, "3.5.0")
    return path


#: The venvs by the name of their fixture.
VENVS = {"pip_cu13": make_cu13, "pip_cu13_flashinfer": make_cu13_flashinfer, "pip_cu12": make_cu12}
