import pytest

from cudadoctor.facts import Distribution
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, shown
from .build import one as finding_of
from .installed import SITE, USER, all_of, one, target

MORE = "/srv/more"


def outcome(*found: Distribution, kind: str = "conda", **variables: str) -> Outcome:
    sites = tuple(dict.fromkeys([*(d.location for d in found), SITE]))
    return judge(
        "package-shadowed",
        packages=all_of(*found),
        target=target(kind, "3.12.4", *sites),
        environ=environ(**variables),
    )


def test_reports_what_the_user_s_folder_puts_before_a_conda_environment() -> None:
    finding = finding_of(
        outcome(
            one("numpy", "1.0", at=USER),
            one("torch", "2.4.0", at=USER),
            one("torch", "2.9.0"),
            one("numpy", "2"),
        ),
        Severity.WARNING,
    )
    assert finding.summary == (
        "torch 2.4.0 of the user's folder is imported instead of the environment's 2.9.0,"
        " and one more package"
    )
    assert f"{USER}/torch-2.4.0.dist-info/METADATA" in shown(finding)
    assert finding.remedies[0].summary == "export PYTHONNOUSERSITE=1"


@pytest.mark.parametrize("kind", ["venv", "conda", "system"])
def test_reports_what_pythonpath_puts_first(kind: str) -> None:
    finding = finding_of(
        outcome(one("vllm", "0.9", at=MORE), one("vllm", "0.12.0"), kind=kind, PYTHONPATH=f"/a:{MORE}/"),
        Severity.WARNING,
    )
    assert "vllm 0.9 of PYTHONPATH" in finding.summary
    assert finding.remedies[0].summary == "export PYTHONPATH=/a"


def test_is_a_note_where_the_stack_has_no_part_in_it() -> None:
    finding = finding_of(outcome(one("rich", "1", at=MORE), one("rich", "2"), PYTHONPATH=MORE), Severity.NOTE)
    assert finding.remedies[0].summary == "unset PYTHONPATH"


@pytest.mark.parametrize("kind", ["venv", "uv", "system"])
def test_is_silent_where_the_user_s_folder_or_a_base_is_covered_by_design(kind: str) -> None:
    assert isinstance(outcome(one("rich", "1", at=USER), one("rich", "2"), kind=kind), Passed)
    assert isinstance(outcome(one("rich", "2"), one("rich", "1", at="/usr/lib/python3"), kind=kind), Passed)


def test_is_silent_where_both_are_one_version_or_only_one_is_there() -> None:
    assert isinstance(outcome(one("torch", "2", at=USER), one("torch", "2")), Passed)
    assert isinstance(outcome(one("torch", "2", at=USER), one("numpy", "2")), Passed)


def test_does_not_apply_where_nothing_is_installed() -> None:
    assert isinstance(outcome(), Skipped)
