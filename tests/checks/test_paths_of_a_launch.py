"""What only FlashInfer's builds need is an error of a launch that runs FlashInfer, and else a warning."""

from __future__ import annotations

import pytest

from cudadoctor.facts import LinkDirectory, NvccOnPath, Paths, Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Outcome
from cudadoctor.testing import judge

from .build import (
    PREFIX,
    SITE,
    compilers,
    environ,
    folder,
    libraries,
    one,
    packages,
    shown,
    toolkit,
    toolkits,
)
from .test_cuda_home_wrong import selecting

NOT_KNOWN = Paths(None, "attention by FLASH_ATTN", "FLASH_ATTN")
SURE = Paths(True, "attention by FLASHINFER", "FLASHINFER")
ABSENT = LinkDirectory(False)


def linked(check: str, paths: Paths | Unknown) -> Outcome:
    """Judge the link line of FlashInfer and torch in a conda environment without lib64."""
    directories = {f"{PREFIX}/{name}": ABSENT for name in ("lib64", "lib64/stubs")}
    return judge(
        check,
        toolkits=toolkits(toolkit(PREFIX, layout="conda")),
        compilers=compilers("flashinfer", "torch", folders=("/usr/lib/",)),
        libraries=libraries({"/usr/lib": folder(), f"{SITE}/torch/lib": ABSENT, **directories}),
        environ=environ(),
        packages=packages(),
        paths=paths,
    )


def rooted(paths: Paths | Unknown) -> Outcome:
    """Judge a CUDA_HOME that does not exist."""
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    assert isinstance(seen.nvcc_on_path, NvccOnPath)
    return judge(
        "cuda-home-wrong",
        toolkits=seen,
        environ=environ(CUDA_HOME="/opt/gone"),
        packages=packages(),
        paths=paths,
    )


def each(paths: Paths | Unknown) -> list[Finding]:
    found = [linked("cudart-link-missing", paths), linked("libcuda-link-missing", paths), rooted(paths)]
    return [one(outcome) for outcome in found]


def test_a_launch_that_runs_flashinfer_will_stop() -> None:
    for finding in each(SURE):
        assert finding.severity is Severity.ERROR
        assert "the launch: runs FlashInfer: attention by FLASHINFER" in shown(finding)


def test_one_that_is_not_known_to_is_warned() -> None:
    for finding in each(NOT_KNOWN):
        assert finding.severity is Severity.WARNING
        assert "is not known to run FlashInfer: attention by FLASH_ATTN" in shown(finding)


@pytest.mark.parametrize("reason", ["no launch was given", "the command is no launch of vLLM"])
def test_without_a_launch_of_vllm_it_is_an_error_as_ever(reason: str) -> None:
    for finding in each(Unknown(reason, expected=True)):
        assert finding.severity is Severity.ERROR and "the launch" not in shown(finding)
