"""The jobs of a build fit into the memory."""

import os
import re
import shutil
import subprocess

import msgspec
import pytest

from cudadoctor.facts import Machine, Packages, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, machine, no_toolkits, one, packages, severities, shown, toolkits


def look(
    host: Machine, installed: Packages | None = None, found: Toolkits | None = None, **variables: str
) -> Outcome:
    return judge(
        "build-memory-short",
        environ=environ(**variables),
        machine=host,
        packages=installed or packages(),
        toolkits=found or toolkits(),
    )


def test_reports_too_many_jobs_for_the_usual_operators() -> None:
    finding = one(look(machine(16, 6)), Severity.WARNING)
    assert (
        finding.summary
        == "building FlashInfer's attention operators takes 7.7 GiB with 11 jobs, 6.0 GiB are free"
    )
    assert "ninja's default for 16 cores is 18 jobs" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values, remedy.summary) == ("max-jobs", {"MAX_JOBS": "2"}, "export MAX_JOBS=2")


def test_only_notes_what_only_the_large_operators_need() -> None:
    finding = one(look(machine(32, 61)), Severity.NOTE)
    assert "takes 102.0 GiB with 34 jobs, 61.0 GiB are free" in finding.summary
    assert finding.remedies[0].values == {"MAX_JOBS": "20"}


@pytest.mark.parametrize(
    ("cores", "free"), [(16, 60), (32, 60), (8, 28), (2, 23), (128, 64), (20, 20), (4, 13)]
)
def test_an_ordinary_workstation_gets_a_note_at_most(cores: int, free: float) -> None:
    assert severities(look(machine(cores, free))) in ([], ["note"])


@pytest.mark.parametrize(("cores", "free"), [(16, 60), (8, 30), (2, 23), (4, 18), (64, 256)])
def test_is_silent_when_even_the_large_operators_fit(cores: int, free: float) -> None:
    assert isinstance(look(machine(cores, free)), Passed)


def test_the_remedy_clears_the_finding() -> None:
    for host in (machine(16, 6), machine(32, 61), machine(64, 1), machine(2, 0.2)):
        (remedy,) = one(look(host)).remedies
        assert isinstance(look(host, MAX_JOBS=remedy.values["MAX_JOBS"]), Passed)


def test_one_job_is_never_too_many() -> None:
    assert isinstance(look(machine(16, 0.5), MAX_JOBS="1"), Passed)


def test_counts_the_jobs_that_were_asked_for() -> None:
    assert isinstance(look(machine(64, 16), MAX_JOBS="4"), Passed)
    finding = one(look(machine(2, 16), MAX_JOBS="40"), Severity.NOTE)
    assert "MAX_JOBS: MAX_JOBS=40" in shown(finding)


def test_zero_jobs_means_no_limit() -> None:
    finding = one(look(machine(2, 16), MAX_JOBS="0"), Severity.NOTE)
    assert "MAX_JOBS=0, which means no limit" in shown(finding)


@pytest.mark.parametrize("value", ["four", "-1", " 4", "4.0", "²"])
def test_reports_a_number_of_jobs_that_is_no_number(value: str) -> None:
    finding = one(look(machine(2, 60), MAX_JOBS=value), Severity.WARNING)
    assert finding.summary == f"MAX_JOBS={value} is no number: FlashInfer ignores it"
    assert finding.remedies[0].values == {"MAX_JOBS": "3"}


def test_no_number_and_no_memory_are_two_findings() -> None:
    assert severities(look(machine(16, 6), MAX_JOBS="many")) == ["warning", "warning"]


def test_an_empty_number_is_like_none() -> None:
    assert isinstance(look(machine(2, 60), MAX_JOBS=""), Passed)


def test_names_the_container_whose_limit_it_is() -> None:
    host = msgspec.structs.replace(machine(16, 6), container="docker")
    assert "in the docker container" in shown(one(look(host)))


def test_is_silent_when_the_operators_come_prebuilt() -> None:
    assert isinstance(look(machine(16, 6), packages(jit_cache="0.6.4")), Passed)
    assert one(look(machine(16, 6), packages(jit_cache="0.6.4"), MAX_JOBS="x"))


def test_is_silent_when_flashinfer_compiles_nothing() -> None:
    host = machine(64, 1)
    assert isinstance(look(host, packages(flashinfer="")), Skipped)
    assert isinstance(look(host, found=no_toolkits()), Skipped)
    assert isinstance(look(host, FLASHINFER_DISABLE_JIT="1"), Skipped)


def test_memory_of_unknown_size_leaves_no_verdict() -> None:
    assert isinstance(look(machine(8, 0)), Inconclusive)


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "build-memory-short",
        environ=environ(),
        machine=Unknown("timed out"),
        packages=packages(),
        toolkits=toolkits(),
    )
    assert isinstance(outcome, Inconclusive)


def test_ninja_says_the_same_default() -> None:
    ninja = shutil.which("ninja")
    if ninja is None or not hasattr(os, "sched_setaffinity"):
        pytest.skip("ninja is not on PATH")
    before = os.sched_getaffinity(0)
    for count in range(1, min(len(before), 4) + 1):
        os.sched_setaffinity(0, set(sorted(before)[:count]))
        try:
            said = subprocess.run([ninja, "-h"], capture_output=True, text=True).stderr
        finally:
            os.sched_setaffinity(0, before)
        match = re.search(r"-j N .*\[default=(\d+)", said)
        assert match is not None, said
        assert f"is {match[1]} jobs" in shown(one(look(machine(count, 0.1)))), "as ninja -h says"
