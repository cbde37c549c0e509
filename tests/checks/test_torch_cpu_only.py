import shlex

import pytest

from cudadoctor.facts import Builds, BuiltFor, Packages
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, one, packages, shown

SOURCE = f"{SITE}/torch/version.py:4"


def look(installed: Packages, *built: BuiltFor) -> Outcome:
    return judge("torch-cpu-only", packages=installed, builds=Builds(SOURCE, built_for=built))


def cpu(version: str = "2.9.0+cpu", **more: str) -> Packages:
    return packages(version, "", flashinfer="", **more)


def test_reports_a_cpu_only_torch_under_vllm() -> None:
    finding = one(look(cpu(vllm="0.12.0")), Severity.ERROR)
    assert finding.summary == "torch 2.9.0+cpu is a CPU-only build, beside vllm for CUDA"
    assert f"{SOURCE}: cuda is None" in shown(finding)
    (remedy,) = finding.remedies
    url = "https://download.pytorch.org/whl/cu128"
    assert remedy.summary == f"pip install --force-reinstall torch==2.9.0 --index-url {url}"


def test_takes_the_cuda_release_that_the_others_are_built_for() -> None:
    vision = BuiltFor("torchvision", "0.24.0+cu126", "version.py:1", "0.24.0+cu126", cuda="12.6")
    finding = one(look(cpu(), vision), Severity.ERROR)
    assert "beside torchvision for CUDA" in finding.summary
    assert finding.remedies[0].summary.endswith("/cu126")


def test_an_unknown_torch_is_given_no_index() -> None:
    assert one(look(cpu("3.1.0", vllm="0.99.0"))).remedies[0].summary.endswith("torch==3.1.0")


@pytest.mark.parametrize(
    "vllm", ["0.12.0+cpu", "0.12.1.dev3+g4fd9d6a85.cpu", "0.12.0+rocm640", "0.12.0+empty"]
)
def test_a_vllm_for_another_device_needs_no_cuda(vllm: str) -> None:
    assert isinstance(look(cpu(vllm=vllm)), Passed)


def test_is_silent_on_a_machine_that_has_no_cuda_stack() -> None:
    cpu_vision = BuiltFor("torchvision", "0.24.0+cpu", "version.py:1", "0.24.0+cpu", cuda="cpu")
    assert isinstance(look(cpu(nvidia_cublas_cu12="12.8.4.1"), cpu_vision), Passed)


@pytest.mark.parametrize("version", ["2.9.0+xpu", "2.9.0+rocm6.4"])
def test_a_torch_for_another_device_is_not_cpu_only(version: str) -> None:
    assert isinstance(look(cpu(version, vllm="0.12.0")), Skipped)


def test_does_not_apply_to_a_cuda_torch_or_to_none() -> None:
    assert isinstance(look(packages(vllm="0.12.0")), Skipped)
    assert isinstance(look(packages(torch="", vllm="0.12.0")), Skipped)


def test_a_version_with_a_command_in_it_starts_none() -> None:
    words = shlex.split(one(look(cpu("3;touch x", vllm="0.99.0"))).remedies[0].summary)
    assert words == ["pip", "install", "--force-reinstall", "torch==3;touch x"]
