import shlex

from msgspec import structs

from cudadoctor.facts import Distribution
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one as finding_of
from .build import shown
from .installed import MACHINE, PREFIX, SITE, all_of, broken, one, target


def outcome(*found: Distribution) -> Outcome:
    return judge("package-metadata-broken", packages=all_of(*found), target=target(), machine=MACHINE)


def test_reports_metadata_that_cannot_be_read() -> None:
    finding = finding_of(outcome(broken("torch", "2.9.0", "its METADATA is damaged")), Severity.WARNING)
    assert finding.summary == "the metadata of torch 2.9.0 is broken: its METADATA is damaged"
    (remedy,) = finding.remedies
    assert remedy.fix == "show" and remedy.summary == (
        f"rm -r {SITE}/torch-2.9.0.dist-info && "
        f"{PREFIX}/bin/python3 -m pip install --force-reinstall --no-deps torch==2.9.0"
    )


def test_one_that_may_not_be_read_is_whole_and_stays() -> None:
    finding = finding_of(outcome(broken("torch", "2.9.0", "Permission denied")), Severity.WARNING)
    assert finding.summary == "the metadata of torch 2.9.0 may not be read by this user"
    assert not finding.remedies


def test_removes_nothing_where_nothing_can_be_installed() -> None:
    gone = structs.replace(target(), python="")
    found = all_of(broken("torch", "2.9.0", "its METADATA is damaged"))
    ended = judge("package-metadata-broken", packages=found, target=gone, machine=MACHINE)
    assert "rm -r" not in finding_of(ended).remedies[0].summary


def test_a_folder_with_a_command_in_its_name_starts_none() -> None:
    odd = broken("foo", "1;touch x", "no METADATA in it")
    words = shlex.split(finding_of(outcome(odd)).remedies[0].summary)
    assert words == [
        "rm", "-r", f"{SITE}/foo-1;touch x.dist-info", "&&", f"{PREFIX}/bin/python3", "-m", "pip", "install",
        "--force-reinstall", "--no-deps", "foo==1;touch x",
    ]  # fmt: skip


def test_reports_what_an_interrupted_pip_left_as_a_note() -> None:
    problem = "~orch-2.9.0.dist-info: left behind by an interrupted pip"
    finding = finding_of(outcome(Distribution("~orch", "2.9.0", SITE, problem=problem)), Severity.NOTE)
    assert f"rm -r '{SITE}/~orch-2.9.0.dist-info'" in shown(finding)


def test_reports_a_requirement_that_nobody_can_read_as_a_note() -> None:
    assert "'b>>>1'" in finding_of(outcome(one("a", "1", "b>>>1")), Severity.NOTE).summary


def test_one_that_cannot_be_named_is_reported_without_a_command() -> None:
    found = Distribution("flash-attn", "", SITE, problem="flash-attn.egg-link: No such file or directory")
    assert not finding_of(outcome(found), Severity.WARNING).remedies


def test_leaves_a_second_folder_to_the_check_of_duplicates() -> None:
    assert isinstance(outcome(broken("numpy", "1.26", "no METADATA in it"), one("numpy", "2.0")), Passed)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(one("a", "1", "b"), one("b", "1")), Passed)


def test_does_not_apply_where_nothing_is_installed() -> None:
    assert isinstance(outcome(), Skipped)
