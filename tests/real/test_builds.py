"""What the artefacts say of their builds, against what the real stack does with them.

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack

The venv holds torch and flashinfer-python; with vLLM in it there is more to see. The wheels of bitsandbytes
and xformers are unpacked beside it, and found by PYTHONPATH: nothing is installed into the venv.
"""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import BitsAndBytes, Builds
from cudadoctor.host import RealHost
from cudadoctor.outcomes import Passed
from cudadoctor.probes.builds import _known, probe
from cudadoctor.testing import judge
from tests.checks.build import SITE, environ, packages

from .conftest import _do_without
from .pip_prefix import Missing, fetch_wheel

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def stack() -> Path:
    """Return the venv with the real stack."""
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no venv with torch and flashinfer-python")
    return Path(named)


def variables(stack: Path, beside: Path | None = None, **more: str) -> dict[str, str]:
    """Return an active venv's variables, with a folder of further packages beside it."""
    found = {
        "PATH": f"{stack}/bin:/usr/bin:/bin",
        "HOME": os.environ["HOME"],
        "VIRTUAL_ENV": str(stack),
        **more,
    }
    return {**found, "PYTHONPATH": str(beside)} if beside else found


def check(held: dict[str, str], *names: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", "json", *names]
    ran = subprocess.run(command, capture_output=True, text=True, env=held)
    return {outcome["check"]: outcome for outcome in json.loads(ran.stdout)["outcomes"]}


def severities(outcome: dict[str, Any]) -> list[str]:
    return [finding["severity"] for finding in outcome.get("findings", [])]


def python(stack: Path, code: str, held: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [f"{stack}/bin/python", "-B", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env=held, timeout=300)


PARTS = {
    "flashinfer-cubin": "def get_cubin_dir():\n    return '/tmp'\n",
    "flashinfer-jit-cache": "def get_jit_cache_dir():\n    return '/tmp'\n"
    "def get_jit_cache_providers():\n    return ()\n",
}


def plant(folder: Path, name: str, version: str) -> None:
    """Put a companion of FlashInfer's of any version into a folder."""
    module = name.replace("-", "_")
    (folder / module).mkdir(parents=True)
    (folder / module / "__init__.py").write_text(f"__version__ = '{version}'\n{PARTS[name]}")
    info = folder / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n")


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("version", ["{}", "0.0.1", "{}+cu130", "{}.post9"])
def test_importing_flashinfer_ends_as_the_check_says(
    stack: Path, tmp_path: Path, name: str, version: str
) -> None:
    found = python(stack, "import importlib.metadata as m; print(m.version('flashinfer-python'))", {})
    plant(tmp_path, name, version.format(found.stdout.strip()))
    held = variables(stack, tmp_path, FLASHINFER_WORKSPACE_BASE=str(tmp_path / "cache"))
    ran = python(stack, "import flashinfer", held)
    raised = "RuntimeError" in ran.stderr and "does not match" in ran.stderr
    warned = f"Ignoring incompatible {name}" in ran.stdout + ran.stderr
    assert raised or ran.returncode == 0, ran.stderr
    outcome = check(held, "flashinfer-parts-mismatch")["flashinfer-parts-mismatch"]
    assert severities(outcome) == (["error"] if raised else ["warning"] if warned else [])


REFUSAL = """
import torch.utils.cpp_extension as extension
from torch.torch_version import TorchVersion
extension._check_cuda_version("g++", TorchVersion("12.2.0"))
"""


@pytest.mark.parametrize("release", ["11.8", "12.0", "12.8", "13.0", "13.2"])
def test_torch_refuses_an_nvcc_where_the_check_says_so(
    stack: Path, tmp_path: Path, gxx: str, release: str
) -> None:
    for folder in ("bin", "include"):
        (tmp_path / folder).mkdir()
    (tmp_path / "include/cuda_runtime.h").touch()
    says = f"Cuda compilation tools, release {release}, V{release}.0"
    source = f'#include <stdio.h>\nint main(void) {{ puts("{says}"); return 0; }}\n'
    make = [gxx, "-x", "c++", "-", "-o", f"{tmp_path}/bin/nvcc"]
    subprocess.run(make, input=source, text=True, check=True)
    held = variables(stack, CUDA_HOME=str(tmp_path))
    ran = python(stack, REFUSAL, held)
    refused = "RuntimeError" in ran.stderr and "mismatches the version" in ran.stderr
    assert refused or ran.returncode == 0 or "minimum required version" in ran.stderr, ran.stderr
    outcome = check(held, "torch-cuda-mismatch")["torch-cuda-mismatch"]
    assert severities(outcome) == (["warning"] if refused else []), outcome


def test_vllm_s_list_of_variables_is_the_one_that_it_has_at_run_time(stack: Path) -> None:
    (site,) = stack.glob("lib/python3*/site-packages")
    file = site / "vllm/envs.py"
    if not file.exists():
        pytest.skip(f"{stack}: vLLM is not installed in it")
    code = f"import runpy; print(*runpy.run_path('{file}')['environment_variables'])"
    ran = python(stack, code, variables(stack))
    assert ran.returncode == 0, ran.stderr
    assert _known(file.read_text()) == frozenset(ran.stdout.split())


def unpacked(requirement: str, work: Path, place: Path) -> Path:
    """Unpack a wheel of the package index into a folder."""
    try:
        wheel = fetch_wheel(requirement, work)
    except Missing as missing:
        _do_without(str(missing))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


CHOICE = """
import json, os, sys
from bitsandbytes.cextension import get_cuda_bnb_library_path as choose
from bitsandbytes.cuda_specs import CUDASpecs
releases, names = json.load(sys.stdin)
for name in names:
    os.environ.pop("BNB_CUDA_VERSION", None)
    if name is not None:
        os.environ["BNB_CUDA_VERSION"] = name
    for release in releases:
        major, minor = map(int, release.split("."))
        try:
            print(int(choose(CUDASpecs((9, 0), f"{major}{minor}", (major, minor))).exists()))
        except RuntimeError:
            print(0)
"""
RELEASES = ("11.7", "11.8", "12.0", "12.1", "12.6", "12.7", "12.8", "12.9", "13.0", "13.1", "13.2", "14.0")


@pytest.mark.download
@pytest.mark.parametrize("version", ["0.49.2", "0.50.2"])
def test_bitsandbytes_finds_a_library_where_the_check_is_silent(
    stack: Path, work: Path, tmp_path: Path, version: str
) -> None:
    place = unpacked(f"bitsandbytes=={version}", work, tmp_path)
    names = (None, "126", "999", "12.6")
    command = [f"{stack}/bin/python", "-B", "-c", CHOICE]
    asked = json.dumps([RELEASES, names])
    ran = subprocess.run(
        command, capture_output=True, text=True, env=variables(stack, place), input=asked, timeout=300
    )
    assert ran.returncode == 0, ran.stderr
    builds = Builds(bitsandbytes=_library(place, version))
    silent = []
    for name in names:
        judged = environ(**({} if name is None else {"BNB_CUDA_VERSION": name}))
        outcomes = (
            judge(CHECK, packages=packages(cuda=cuda), builds=builds, environ=judged) for cuda in RELEASES
        )
        silent += [int(isinstance(outcome, Passed)) for outcome in outcomes]
    assert silent == [int(line) for line in ran.stdout.split()]


CHECK = "bitsandbytes-library-missing"


def _library(place: Path, version: str) -> BitsAndBytes | None:
    from msgspec.structs import replace

    found = packages(torch="", flashinfer="", bitsandbytes=version)
    moved = tuple(replace(each, location=str(place)) for each in found.distributions)
    assert SITE not in {each.location for each in moved}
    return probe(RealHost(), environ(), replace(found, distributions=moved)).bitsandbytes


@pytest.mark.download
def test_xformers_loads_where_the_checks_are_silent(stack: Path, work: Path, tmp_path: Path) -> None:
    place = unpacked("xformers==0.0.33.post1", work, tmp_path)
    held = variables(stack, place)
    found = check(held, "built-for-another-torch", "built-for-another-cuda", "requirement-conflict")
    told = "xformers" in json.dumps(found)
    ran = python(stack, "import xformers._cpp_lib as c; print(c._cpp_library_load_exception is None)", held)
    assert ran.stdout.strip() == str(not told), (ran.stdout, ran.stderr, found)
