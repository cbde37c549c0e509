from typing import Any

import pytest

from cudadoctor.facts import Driver, Nvml
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, shown
from .gpus import NOTHING, driver, gpu, library

FOLDER = "/usr/local/cuda/compat"
H100 = gpu("NVIDIA H100 80GB HBM3", "9.0", 80)


def outcome(seen: Driver) -> Outcome:
    return judge(
        "forward-compat-in-the-way", driver=seen, environ=environ(LD_LIBRARY_PATH=f"{FOLDER}:/opt/mine")
    )


def with_compat(version: str, *gpus: Any, found_by: str = "LD_LIBRARY_PATH", **more: Any) -> Driver:
    compat = library(version, f"{FOLDER}/libcuda.so.1", found_by=found_by, compat=True)
    return driver(*gpus, libraries=(compat, library()), **more)


def test_reports_a_newer_library_on_a_geforce() -> None:
    finding = one(outcome(with_compat("575.57.08")), Severity.ERROR)
    assert "not for a GeForce RTX 3090" in finding.summary
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": "/opt/mine"}


def test_reports_a_library_older_than_the_driver_on_any_gpu() -> None:
    finding = one(outcome(with_compat("535.54.03", H100)), Severity.ERROR)
    assert "older than the kernel module 550.54.14" in finding.summary


def test_in_the_loaders_cache_it_is_taken_out_of_the_configuration() -> None:
    finding = one(outcome(with_compat("535.54.03", found_by="the loader's cache")))
    assert "ld.so.conf.d" in shown(finding) and finding.remedies[0].fix == "show"


def test_is_silent_on_a_data_centre_gpu() -> None:
    assert isinstance(outcome(with_compat("575.57.08", H100)), Passed)


@pytest.mark.parametrize("name", ["NVIDIA RTX A6000", "NVIDIA GB10"])
def test_does_not_judge_cards_of_which_only_some_may(name: str) -> None:
    assert isinstance(outcome(with_compat("575.57.08", gpu(name))), Inconclusive)


def test_does_not_judge_without_a_version_or_a_gpu() -> None:
    assert isinstance(outcome(with_compat("")), Inconclusive)
    assert isinstance(outcome(with_compat("575.57.08", gpus=(), nvml=Nvml("timeout"))), Inconclusive)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(with_compat("550.54.14")), Passed)
    assert isinstance(outcome(NOTHING), Skipped)
