import shlex
from typing import Any

import pytest

from cudadoctor.facts import Driver, Nvml, Ptxas, PtxasUse
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, environ, one, packages, severities, shown
from .gpus import NOTHING, driver, gpu

BIN = f"{SITE}/triton/backends/nvidia/bin"
SOURCE = f"{SITE}/triton/backends/nvidia/compiler.py"
GB10, RTX_5090 = gpu("NVIDIA GB10", "12.1", None), gpu("NVIDIA GeForce RTX 5090", "12.0", 32)


def use(capability: str = "12.1", version: str = "12.8", **more: Any) -> PtxasUse:
    path = more.pop("path", f"{BIN}/ptxas")
    return PtxasUse(capability, path, version, more.pop("variable", "TRITON_PTXAS_PATH"), **more)


def look(*uses: PtxasUse, seen: Driver | None = None, vllm: str = "0.12.0", **more: Any) -> Outcome:
    held = Ptxas(SOURCE, uses, more.pop("others", {}), more.pop("doubt", ""))
    installed = packages(triton=more.pop("triton", "3.5.0"), **({"vllm": vllm} if vllm else {}))
    at_work = seen or driver(GB10, version="580.95.05", cuda="13.0")
    return judge(
        "triton-ptxas-too-old", ptxas=held, driver=at_work, packages=installed, environ=environ(**more)
    )


def test_reports_a_gpu_that_tritons_ptxas_does_not_know() -> None:
    finding = one(look(use()), Severity.ERROR)
    assert finding.summary == "Triton's ptxas 12.8 does not know NVIDIA GB10 (compute capability 12.1)"
    assert f"{BIN}/ptxas: is of CUDA 12.8; sm_121a came with 12.9" in shown(finding)
    assert "Triton 3.6 or newer (torch 2.10, vLLM 0.17)" in shown(finding)


def test_names_a_ptxas_within_reach_that_knows_the_gpu_and_that_the_driver_can_follow() -> None:
    others = {"/12.8/bin/ptxas": "12.8.93", "/13/bin/ptxas": "13.0.88", "/14/bin/ptxas": "14.0.1"}
    finding = one(look(use(), others=others))
    assert finding.remedies[0].summary == "export TRITON_PTXAS_PATH=/13/bin/ptxas"
    assert "Triton 3.6" in finding.remedies[0].instead[0].summary
    odd = one(look(use(), others={"/my tools;x/ptxas": "13.0.88"})).remedies[0].summary
    assert shlex.split(odd) == ["export", "TRITON_PTXAS_PATH=/my tools;x/ptxas"]
    older = driver(GB10, version="575.57.08", cuda="12.9")
    assert "export" not in shown(one(look(use(), others=others, seen=older)))


def test_names_what_triton_passes_over() -> None:
    finding = one(look(use(passed_over="/nowhere/ptxas")))
    assert "TRITON_PTXAS_PATH: /nowhere/ptxas cannot be run: Triton passes it over" in shown(finding)


def test_names_a_variable_with_which_triton_raises() -> None:
    both = [use(kind, "", path="", problem="Permission denied") for kind in ("12.0", "12.1")]
    finding = one(look(*both, TRITON_PTXAS_PATH=""), Severity.ERROR)
    assert finding.summary == "Triton cannot run its ptxas (empty) of TRITON_PTXAS_PATH: Permission denied"
    assert finding.remedies[0].summary == "unset TRITON_PTXAS_PATH"
    finding = one(look(use(version="", problem="Permission denied")))
    assert finding.remedies[0].summary == f"chmod +x {BIN}/ptxas"


def test_names_a_ptxas_that_knows_the_gpu_no_longer() -> None:
    volta = driver(gpu("Tesla V100", "7.0", 16), version="580.95.05", cuda="13.0")
    new = use("7.0", "13.0", path="/cuda/bin/ptxas")
    finding = one(look(new, seen=volta, TRITON_PTXAS_PATH="/cuda/bin/ptxas"), Severity.ERROR)
    assert "/cuda/bin/ptxas: is of CUDA 13.0, which has no sm_70" in shown(finding)
    assert finding.remedies[0].summary == "unset TRITON_PTXAS_PATH"
    assert isinstance(look(use("7.0", "12.8"), seen=volta), Passed)


def test_is_a_warning_where_torch_compile_alone_needs_it() -> None:
    one(look(use(), vllm=""), Severity.WARNING)
    own = {"compile_version": "13.0"}
    assert isinstance(look(use(**own), vllm=""), Passed)
    one(look(use(**own)), Severity.WARNING)


def test_is_a_warning_where_another_gpu_is_served() -> None:
    both = driver(GB10, RTX_5090, version="580.95.05", cuda="13.0")
    one(look(use(), use("12.0"), seen=both), Severity.WARNING)
    assert isinstance(look(use(), use("12.0"), seen=both, CUDA_VISIBLE_DEVICES="GPU-9"), Passed)


def test_where_the_launch_may_see_either_gpu_only_what_holds_for_both_is_said() -> None:
    both = driver(GB10, RTX_5090, version="580.95.05", cuda="13.0")
    unsure = look(use(), use("12.0"), seen=both, CUDA_VISIBLE_DEVICES="0")
    assert isinstance(unsure, Inconclusive) and "CUDA_DEVICE_ORDER" in unsure.reason
    old = look(use(version="12.6"), use("12.0", "12.6"), seen=both, CUDA_VISIBLE_DEVICES="0")
    assert severities(old) == ["error", "error"]
    assert isinstance(look(use(version="12.9"), use("12.0"), seen=both, CUDA_VISIBLE_DEVICES="0"), Passed)


@pytest.mark.parametrize(("capability", "version"), [("12.0", "12.8"), ("12.1", "12.9"), ("10.3", "13.3")])
def test_is_silent_where_the_ptxas_knows_the_gpu(capability: str, version: str) -> None:
    seen = driver(gpu("GPU", capability, 32), version="580.95.05", cuda="13.0")
    assert isinstance(look(use(capability, version), seen=seen), Passed)


def test_is_silent_on_gpus_that_every_ptxas_knows() -> None:
    assert isinstance(look(seen=driver()), Passed)


def test_says_what_is_not_known() -> None:
    assert isinstance(look(doubt="Triton 2.1 chooses in another way"), Inconclusive)
    assert isinstance(look(doubt="Triton 2.1 chooses in another way", seen=driver()), Passed)
    assert isinstance(look(use(path="", version="")), Inconclusive)
    silent = driver(gpus=(), nvml=Nvml("timeout", reason="NVML did not answer within 5 s"))
    assert isinstance(look(seen=silent), Inconclusive)


def test_is_skipped_without_a_gpu_or_without_triton() -> None:
    assert isinstance(look(seen=NOTHING), Skipped)
    assert isinstance(look(triton=""), Skipped)
