"""What `check` says of a whole real environment, and what that environment then really does.

    python -m tests.real.stacks d1 /path/to/venv
    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack tests/real/test_stack_truth.py

The judges are pip, uv, Python's own import and tvm-ffi's own add-on, each started by itself.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.probes.packages import normalise

from .conftest import _do_without
from .fake_nvml import H100, build, installed
from .test_flashinfer import build as build_operator

pytestmark = pytest.mark.stack
CONFLICT, FP8 = "requirement-conflict", "fp8-dlpack-unsupported"
Held = dict[str, str]


@pytest.fixture(scope="module")
def stack() -> Path:
    named = os.environ.get("CUDADOCTOR_STACK")
    if not named:
        pytest.skip("CUDADOCTOR_STACK names no environment")
    return Path(named)


@pytest.fixture
def held(stack: Path, tmp_path: Path) -> Held:
    """Return the variables of the active environment, of a user whose home folder and caches are empty."""
    (tmp_path / "home").mkdir()
    return {
        "PATH": f"{stack}/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "VIRTUAL_ENV": str(stack),
        "TVM_FFI_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def check(held: Held, *names: str) -> dict[str, dict[str, Any]]:
    argv = [sys.executable, "-m", "cudadoctor", "check", "--no-config", "--format", "json", *names]
    ran = subprocess.run(argv, capture_output=True, text=True, env=held)
    return {outcome["check"]: outcome for outcome in json.loads(ran.stdout)["outcomes"]}


def alarms(outcomes: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Return each error and each warning, with its check."""
    told = ((name, finding) for name, each in outcomes.items() for finding in each.get("findings", []))
    return [(name, finding) for name, finding in told if finding["severity"] != "note"]


def python(stack: Path, code: str, held: Held, *arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [f"{stack}/bin/python", "-B", "-c", code, *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=held, timeout=500)


def version(stack: Path, name: str) -> str:
    found = list(stack.glob(f"lib/python3*/site-packages/{name}-*.dist-info"))
    return found[0].name.removesuffix(".dist-info").rpartition("-")[2] if found else ""


# --- requirements -------------------------------------------------------------------------------------------

#: pip and uv, in one form: (who requires it, which project, the version that is installed, "" for none).
Wants = set[tuple[str, str, str]]
_PIP = re.compile(
    r"^(\S+) \S+ (?:has requirement ([\w.-]+)\S*, but you have \S+ (\S+)"
    r"|requires ([\w.-]+), which is not installed)\.$",
    re.MULTILINE,
)
_UV = re.compile(
    r"^The package `([^`]+)` requires `([\w.-]+)[^`]*`, but (?:`([^`]+)` is|it's not) installed", re.MULTILINE
)


def wants(form: re.Pattern[str], text: str) -> Wants:
    return {
        (normalise(found[1]), normalise(found[2] or found[found.re.groups]), found[3] or "")
        for found in form.finditer(text)
    }


def by_pip(stack: Path, held: Held) -> Wants:
    ran = subprocess.run(
        [f"{stack}/bin/python", "-B", "-m", "pip", "check"], capture_output=True, text=True, env=held
    )
    assert ran.returncode in (0, 1), ran.stderr
    return wants(_PIP, ran.stdout)


def by_uv(stack: Path, held: Held) -> Wants:
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if uv is None:
        _do_without("uv is not installed")
    argv = [uv, "pip", "check", "--python", f"{stack}/bin/python"]
    ran = subprocess.run(argv, capture_output=True, text=True, env=held)
    assert ran.returncode in (0, 1), ran.stderr
    return wants(_UV, ran.stdout + ran.stderr)


def by_us(outcome: dict[str, Any]) -> Wants:
    """Return what the findings show: the files that require, and the files of what is installed."""
    found = set()
    for finding in outcome.get("findings", []):
        shown = [(each["source"], each["detail"]) for each in finding["evidence"]]
        there = dict(detail.split(" ") for _, detail in shown if re.fullmatch(r"\S+ \d\S*", detail))
        for source, detail in shown:
            if wanted := re.match(r"requires ([\w.-]+)", detail):
                holder = source.rpartition("/")[0].rpartition("/")[2].partition("-")[0]
                found.add((normalise(holder), normalise(wanted[1]), there.get(normalise(wanted[1]), "")))
    return found


def test_requirements_conflict_where_pip_and_uv_say_so(stack: Path, held: Held) -> None:
    ours = by_us(check(held, CONFLICT)[CONFLICT])
    assert ours == by_pip(stack, held) == by_uv(stack, held)


def test_the_conflict_of_transformers_is_named_and_ends_as_an_import_error(stack: Path, held: Held) -> None:
    if (version(stack, "vllm"), version(stack, "transformers")) != ("0.12.0", "4.41.2"):
        pytest.skip("not vLLM 0.12.0 with transformers 4.41.2: `python -m tests.real.stacks d1` makes that")
    (finding,) = check(held, CONFLICT)[CONFLICT]["findings"]
    assert finding["severity"] == "error"
    assert finding["summary"].startswith("vllm 0.12.0 requires transformers<5,>=4.56.0; 4.41.2 is installed")
    (remedy,) = finding["remedies"]
    assert "'transformers>=4.56.0,<5'" in remedy["summary"] and "tokenizers" not in remedy["summary"]
    ran = python(stack, "import vllm; print('imported'); vllm.LLM", held)
    assert ran.stdout.strip().endswith("imported"), "it is LLM that imports transformers"
    assert "ImportError: tokenizers>=0.19,<0.20 is required" in ran.stderr
    deep = check(held, "--deep", "stack-import-fails")["stack-import-fails"]
    (finding,) = deep["findings"]
    assert finding["severity"] == "error" and "tokenizers>=0.19,<0.20 is required" in finding["summary"]


# --- FP8 across dlpack --------------------------------------------------------------------------------------

#: As a launch on this machine does it, or with "gpu" as one does where torch has a GPU.
TENSOR = """
import sys, torch
if "gpu" in sys.argv:
    torch.cuda.is_available = lambda: True
import tvm_ffi
print("took", tvm_ffi.convert(lambda tensor: str(tensor.dtype))(torch.zeros(16, dtype=torch.float8_e4m3fn)))
"""


def conda_like(folder: Path) -> Path:
    """Make a toolkit as conda lays it out: the headers below targets/, and nothing in include/."""
    headers = folder / "targets/x86_64-linux/include"
    headers.mkdir(parents=True)
    for name in ("cuda_runtime.h", "cuda_runtime_api.h", "cuda.h"):
        (headers / name).write_text("")
    return folder


def without_compiler(held: Held, tmp_path: Path) -> Held:
    return {**held, "PATH": held["PATH"].partition(":")[0]}


def conda_home(held: Held, tmp_path: Path) -> Held:
    return {**held, "CUDA_HOME": str(conda_like(tmp_path / "conda"))}


def unwritable(held: Held, tmp_path: Path) -> Held:
    (tmp_path / "file").touch()
    return {**held, "TVM_FFI_CACHE_DIR": str(tmp_path / "file/cache")}


def broken_compiler(held: Held, tmp_path: Path) -> Held:
    return {**held, "CXX": "/bin/false"}


def switched_off(held: Held, tmp_path: Path) -> Held:
    return {**held, "TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}


def as_it_is(held: Held, tmp_path: Path) -> Held:
    return held


def on_a_gpu_machine(held: Held, tmp_path: Path) -> Held:
    """Return the variables of conda_home where a driver and a GPU are at work, and asked for."""
    try:
        library = build(tmp_path)
    except FileNotFoundError as missing:
        _do_without(str(missing))
    driver = installed(library, tmp_path / "driver", H100)["LD_LIBRARY_PATH"]
    return {**conda_home(held, tmp_path), "LD_LIBRARY_PATH": driver, "NVIDIA_VISIBLE_DEVICES": "all"}


#: Whether the tensor gets across with a torch before 2.10.
WAYS: dict[Callable[[Held, Path], Held], bool] = {
    as_it_is: True,
    without_compiler: False,
    broken_compiler: False,
    unwritable: False,
    switched_off: False,
    conda_home: True,
    on_a_gpu_machine: False,
}


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_an_fp8_tensor_gets_across_where_the_check_is_silent(
    way: Callable[[Held, Path], Held], stack: Path, held: Held, tmp_path: Path, gxx: str
) -> None:
    """With an empty cache of add-ons: what is built by the one is not found by the other."""
    variables = way(held, tmp_path)
    outcome = check(variables, FP8)[FP8]
    assert not (tmp_path / "cache").exists(), "the check builds nothing"
    gpu = ["gpu"] if way is on_a_gpu_machine else []
    ran = python(stack, TENSOR, variables, *gpu)
    took = "took float8_e4m3fn" in ran.stdout
    assert took or "float8 types are not supported by dlpack" in ran.stderr, ran.stderr
    native = int(version(stack, "torch").split(".")[1]) >= 10
    assert took == (native or WAYS[way])
    assert outcome["outcome"] == ("passed" if took else "failed"), outcome
    assert took or [finding["severity"] for finding in outcome["findings"]] == ["warning"]


# --- everything that is said --------------------------------------------------------------------------------


def proves_the_conflict(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    assert by_us({"findings": [finding]}) <= by_pip(stack, held) & by_uv(stack, held)


def proves_the_import(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    code = finding["evidence"][0]["source"].partition(": ")[2]
    ran = python(stack, code, held)
    said = finding["evidence"][0]["detail"].partition(": ")[2].split(". ")[0]
    assert ran.returncode and said in ran.stderr, (code, said, ran.stderr)


def proves_the_refusal(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    code = (
        "import torch.utils.cpp_extension as extension; from torch.torch_version import TorchVersion\n"
        "extension._check_cuda_version('g++', TorchVersion('12.2.0'))"
    )
    ran = python(stack, code, held)
    assert "mismatches the version that was used to compile" in ran.stderr, ran.stderr


def proves_the_tensor(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    assert "float8 types are not supported by dlpack" in python(stack, TENSOR, held).stderr


def built(operator: str, stack: Path, held: Held) -> str:
    """Return what stops FlashInfer's own build of an operator for some GPU; "" where it ends well."""
    return build_operator(operator, stack, {**held, "FLASHINFER_CUDA_ARCH_LIST": "8.6"})


def proves_the_link(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    missed = re.search(r"cannot find (-l\w+)", finding["summary"])
    assert missed is not None, f"no word of ld's to compare with: {finding['summary']}"
    said = built("silu", stack, held)
    assert re.search(rf"cannot find {missed[1]}\b", said), said


def proves_the_build(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    assert built("silu", stack, held), f"FlashInfer builds, and we say: {finding['summary']}"


def proves_the_header(stack: Path, held: Held, finding: dict[str, Any]) -> None:
    operator = next((name for name in ("sampling", "norm") if name in finding["summary"]), "silu")
    said = built(operator, stack, held)
    names = re.findall(r"[\w/]+\.h\b", finding["summary"])
    assert any(f"{name}: No such file" in said for name in names), (names, said)


Proof = Callable[[Path, Held, dict[str, Any]], None]
#: The real failure behind each finding that a whole environment may give: what shows it here.
PROOFS: dict[str, Proof] = {
    CONFLICT: proves_the_conflict,
    "stack-import-fails": proves_the_import,
    "torch-cuda-mismatch": proves_the_refusal,
    FP8: proves_the_tensor,
    "cudart-link-missing": proves_the_link,
    "libcuda-link-missing": proves_the_link,
    "jit-build-fails": proves_the_build,
    "cuda-headers-missing": proves_the_header,
}


@pytest.mark.parametrize("options", [(), ("--deep",)], ids=["plain", "deep"])
def test_every_finding_has_a_real_failure_behind_it(
    options: tuple[str, ...], stack: Path, held: Held, capsys: pytest.CaptureFixture[str]
) -> None:
    found = alarms(check(held, *options))
    with capsys.disabled():
        print(f"\ncheck {' '.join(options)} on {stack.name}: {len(found)} findings")
    for name, finding in found:
        proof = PROOFS.get(name)
        assert proof is not None, f"nothing proves {name}: {finding['summary']}"
        proof(stack, held, finding)
        with capsys.disabled():
            print(f"  {finding['severity']} {name}, proven by {proof.__name__}")


@pytest.mark.download
def test_a_healthy_environment_gives_no_alarm(stack: Path, held: Held, tmp_path: Path, conda13: Path) -> None:
    """The stack of CUDA 13 with a whole toolkit of that CUDA, laid out as NVIDIA's own packages do it."""
    if not version(stack, "nvidia_cuda_runtime").startswith("13."):
        pytest.skip("no stack of CUDA 13")
    root, target = tmp_path / "cuda", conda13 / "targets/x86_64-linux"
    (root / "include").mkdir(parents=True)
    for name, real in {"bin": conda13 / "bin", "nvvm": conda13 / "nvvm", "lib64": target / "lib"}.items():
        (root / name).symlink_to(real)
    # The prefix of the tests has no headers of cuBLAS and cuRAND: those of the wheels are of the same CUDA.
    (wheels,) = stack.glob("lib/python3*/site-packages/nvidia/cu13/include")
    for header in (*(target / "include").iterdir(), *wheels.iterdir()):
        if not (root / "include" / header.name).exists():
            (root / "include" / header.name).symlink_to(header)
    healthy = {**held, "CUDA_HOME": str(root), "PATH": f"{stack}/bin:{root}/bin:/usr/bin:/bin"}
    assert alarms(check(healthy)) == []
    assert alarms(check(healthy, "--deep")) == []
