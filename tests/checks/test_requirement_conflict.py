import pytest

from cudadoctor.facts import Distribution, Packages
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one as finding_of
from .build import shown
from .installed import MACHINE, PREFIX, SITE, all_of, one, target

TORCH = one("torch", "2.9.0+cu128")
VLLM = one("vllm", "0.12.0", "transformers<5,>=4.56.0", "torch==2.9.0")


def outcome(*found: Distribution, kind: str = "venv", version: str = "3.12.4") -> Outcome:
    seen = all_of(*found)
    return judge("requirement-conflict", packages=seen, target=target(kind, version), machine=MACHINE)


def test_explains_who_requires_what_and_which_change_clears_it() -> None:
    others = (one("compressed-tensors", "0.12.2", "transformers>=4.45"), one("x", "1", "transformers>4.50"))
    finding = finding_of(outcome(VLLM, TORCH, *others, one("transformers", "4.41.2")), Severity.ERROR)
    assert finding.summary == (
        "vllm 0.12.0 requires transformers<5,>=4.56.0; 4.41.2 is installed"
        " (2 more requirements with the same cause)"
    )
    assert finding.evidence[0].source == f"{SITE}/vllm-0.12.0.dist-info/METADATA"
    assert f"{SITE}/transformers-4.41.2.dist-info/METADATA" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("pip-install", {"packages": "transformers>=4.56.0,<5"})
    assert remedy.summary == f"{PREFIX}/bin/python3 -m pip install 'transformers>=4.56.0,<5'"


def test_one_change_is_one_finding_and_the_one_that_clears_most_comes_first() -> None:
    holder, other = one("a", "1", "x>=2", "y>=2"), one("b", "1", "y>=3")
    found = outcome(holder, other, one("x", "1"), one("y", "1"))
    assert isinstance(found, Failed)
    first, second = found.findings
    assert [r.values["packages"] for f in found.findings for r in f.remedies] == ["y>=3", "x>=2"]
    assert "clears 2 of 3" in shown(first) and "clears 1 of 3" in shown(second)


def test_the_remedy_is_one_that_the_fix_takes() -> None:
    from tests.fixes.ask import plan

    found = outcome(one("a", "1", "x!=1.5,>=1.2.*,<9", "z~=1.4.2"), one("x", "1"))
    assert isinstance(found, Failed)
    for finding in found.findings:
        assert plan("pip-install", dict(finding.remedies[0].values))


def test_in_a_conda_environment_conda_changes_what_is_its_own() -> None:
    mine = one("transformers", "4.41.2", installer="conda")
    (remedy,) = finding_of(outcome(VLLM, TORCH, mine, kind="conda")).remedies
    assert (remedy.fix, remedy.values["packages"]) == ("conda-install", "transformers=4.56")
    pips = one("transformers", "4.41.2")
    (remedy,) = finding_of(outcome(VLLM, TORCH, pips, kind="conda")).remedies
    assert remedy.fix == "pip-install"


def test_where_no_version_suits_all_nothing_is_offered_and_both_are_named() -> None:
    found = outcome(one("a", "1", "x<2"), one("b", "1", "x>=2"), one("x", "3"))
    finding = finding_of(found, Severity.WARNING)
    assert not finding.remedies and "no version suits" in shown(finding)
    assert f"{SITE}/b-1.dist-info/METADATA" in shown(finding)


@pytest.mark.parametrize(
    ("found", "severity"),
    [
        ((one("torch", "2.9.0", "triton==3.5.0"), one("triton", "3.4.0")), Severity.ERROR),
        (
            (one("torch", "2.9.0", "nvidia-nccl-cu12==2.27.5"), one("nvidia-nccl-cu12", "2.28")),
            Severity.ERROR,
        ),
        ((one("vllm", "0.12.0", "cbor2"),), Severity.ERROR),
        ((one("transformers", "4.41.2", "tokenizers<0.20"), one("tokenizers", "0.22.1")), Severity.ERROR),
        ((one("vllm", "0.12.0", "numba==0.61.2"), one("numba", "0.62.0")), Severity.WARNING),
        ((one("google-x", "1", "protobuf<6"), one("protobuf", "6.1")), Severity.WARNING),
        ((one("albumentations", "1", "opencv-python", installer="conda"),), Severity.NOTE),
    ],
)
def test_it_is_as_bad_as_what_fails(found: tuple[Distribution, ...], severity: Severity) -> None:
    finding_of(outcome(*found), severity)


def test_reports_a_python_that_is_too_old() -> None:
    needs = Distribution("a", "1", SITE, python=">=3.13")
    finding = finding_of(outcome(needs), Severity.WARNING)
    assert finding.summary == "a 1 requires Python >=3.13; this is Python 3.12.4" and not finding.remedies


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(VLLM, TORCH, one("transformers", "4.57.3")), Passed)


def test_does_not_apply_where_nothing_is_installed() -> None:
    assert isinstance(outcome(), Skipped)


def test_cannot_tell_without_the_python_s_version() -> None:
    assert isinstance(outcome(VLLM, version=""), Inconclusive)


def test_a_thousand_conflicts_of_one_cause_are_one_short_finding() -> None:
    holders = [one(f"h{number}", "1", "x>=2") for number in range(1000)]
    finding = finding_of(outcome(*holders, one("x", "1")))
    assert len(finding.evidence) < 20 and "999 more" in finding.summary


def test_hostile_requirements_do_no_harm() -> None:
    lines = [
        "x" * 10000,
        "a" + "(" * 5000,
        "a>=" + "1." * 5000 + "1",
        "a; " + "(" * 3000,
        "\x1b[31m",
        "a" * 5 + ">=" + "9" * 4000,
    ]
    packages = Packages(tuple(one(f"n{index}", "1", line) for index, line in enumerate(lines)))
    found = judge("requirement-conflict", packages=packages, target=target(), machine=MACHINE)
    assert isinstance(found, (Passed, Failed))
