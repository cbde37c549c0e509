import shlex

from msgspec import structs

from cudadoctor.facts import Distribution
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one as finding_of
from .build import shown
from .installed import PREFIX, SITE, USER, all_of, broken, one, target


def outcome(*found: Distribution) -> Outcome:
    return judge("package-duplicated", packages=all_of(*found), target=target())


def test_reports_two_folders_and_whose_files_win() -> None:
    new = structs.replace(one("numpy", "2.0.0"), own_file="numpy/version.py")
    finding = finding_of(outcome(one("numpy", "1.26.4"), new), Severity.WARNING)
    assert finding.summary == (
        "numpy is installed twice in one folder, as 1.26.4 and 2.0.0; the files are those of 2.0.0"
    )
    for path in ("numpy-1.26.4.dist-info/METADATA", "numpy-2.0.0.dist-info/METADATA", "numpy/version.py"):
        assert f"{SITE}/{path}" in shown(finding)
    (remedy,) = finding.remedies
    assert remedy.fix == "show" and remedy.summary.endswith(
        f"{PREFIX}/bin/python3 -m pip install numpy==2.0.0"
    )


def test_a_version_with_a_command_in_it_starts_none() -> None:
    finding = finding_of(outcome(one("numpy", "1"), one("numpy", "2;touch x")))
    assert shlex.split(finding.remedies[0].summary)[-1] == "numpy==2;touch x"


def test_names_no_winner_where_nothing_shows_one() -> None:
    finding = finding_of(outcome(one("numpy", "1.26.4"), one("numpy", "2.0.0")))
    assert "the files are" not in finding.summary


def test_reports_an_empty_folder_that_was_left_beside_the_real_one() -> None:
    assert "no METADATA" in shown(
        finding_of(outcome(broken("numpy", "1.26", "no METADATA in it"), one("numpy", "2")))
    )


def test_leaves_other_folders_and_conda_to_their_own_checks() -> None:
    assert isinstance(outcome(one("numpy", "1", at=USER), one("numpy", "2")), Passed)
    over = structs.replace(one("numpy", "2"), conda="/opt/env/conda-meta/numpy-1-0.json")
    assert isinstance(outcome(one("numpy", "1", installer="conda"), over), Passed)


def test_is_silent_where_one_version_is_told_twice() -> None:
    again = structs.replace(one("cryptography", "38.0.4"), file="cryptography.egg-info/PKG-INFO")
    assert isinstance(outcome(one("cryptography", "38.0.4"), again), Passed)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(one("numpy", "1"), one("torch", "2")), Passed)


def test_does_not_apply_where_nothing_is_installed() -> None:
    assert isinstance(outcome(), Skipped)
