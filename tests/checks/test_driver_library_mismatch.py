from typing import Any

from msgspec import structs

from cudadoctor.facts import Driver
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown
from .gpus import NOTHING, VERSION, driver, host, library, refused

NEWER = "570.86.10"


def outcome(seen: Driver, variables: dict[str, str] | None = None, **machine: Any) -> Outcome:
    return judge(
        "driver-library-mismatch",
        driver=seen, machine=host(**machine), packages=packages(), environ=environ(**(variables or {})),
    )  # fmt: skip


def updated() -> Driver:
    nvml = refused("LIB_RM_VERSION_MISMATCH", "Driver/library version mismatch", NEWER)
    return driver(libraries=(library(NEWER),), nvml=nvml, gpus=())


def test_reports_an_update_without_a_restart() -> None:
    finding = one(outcome(updated()), Severity.ERROR)
    assert VERSION in finding.summary and NEWER in finding.summary and "restart the machine" in shown(finding)


def test_tells_a_container_to_be_started_again() -> None:
    assert "start the container again" in shown(one(outcome(updated(), container="docker")))


def test_reports_what_nvml_says_where_the_kernels_file_is_not_seen() -> None:
    seen = structs.replace(updated(), module="", module_source="")
    finding = one(outcome(seen, container="docker"), Severity.ERROR)
    assert "of another version" in finding.summary and NEWER in finding.summary
    one(outcome(structs.replace(seen, nodes=(), pci=())), Severity.ERROR)


def test_reports_it_by_the_files_alone() -> None:
    one(outcome(driver(libraries=(library(NEWER),))), Severity.ERROR)


def test_takes_a_stale_copy_off_the_loaders_path() -> None:
    copy = library("535.54.03", "/opt/old/libcuda.so.1", found_by="LD_LIBRARY_PATH")
    finding = one(outcome(driver(libraries=(copy, library())), {"LD_LIBRARY_PATH": "/opt/old:/opt/mine"}))
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": "/opt/mine"}


def test_is_silent_where_the_cache_has_the_right_one_as_well() -> None:
    assert isinstance(outcome(driver(libraries=(library(NEWER, "/a/libcuda.so.1"), library()))), Passed)


def test_is_silent_about_a_forward_compatibility_library() -> None:
    compat = library(NEWER, "/usr/local/cuda/compat/libcuda.so.1", compat=True)
    assert isinstance(outcome(driver(libraries=(compat, library()))), Passed)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(outcome(driver()), Passed)
    assert isinstance(outcome(NOTHING), Skipped)
