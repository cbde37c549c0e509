import pytest

from cudadoctor.facts import BitsAndBytes, Builds
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, packages, shown

ROOT = "/s/bitsandbytes"
OLD = BitsAndBytes("0.49.2", ROOT, ("11.8", "12.6", "12.9", "13.0"), f"{ROOT}/cextension.py")
NEW = BitsAndBytes("0.50.2", ROOT, ("11.8", "12.6", "13.2"), f"{ROOT}/cextension.py", True)


def look(found: BitsAndBytes | None, cuda: str = "12.8", **variables: str) -> Outcome:
    builds = Builds("/s/torch/version.py:4", bitsandbytes=found)
    return judge(
        "bitsandbytes-library-missing",
        packages=packages(cuda=cuda),
        builds=builds,
        environ=environ(**variables),
    )


def test_up_to_0_49_the_exact_minor_must_be_there() -> None:
    finding = one(look(OLD), Severity.ERROR)
    assert finding.summary == "bitsandbytes 0.49.2 has no library for CUDA 12.8, which torch is built for"
    assert f"{ROOT}: has libraries for CUDA 11.8, 12.6, 12.9, 13.0" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("pip-install", {"packages": "bitsandbytes>=0.50.0"})
    assert remedy.instead[0].summary == "export BNB_CUDA_VERSION=129"


@pytest.mark.parametrize("cuda", ["12.6", "12.8", "12.0", "13.0"])
def test_since_0_50_another_minor_of_the_major_will_do(cuda: str) -> None:
    assert isinstance(look(NEW, cuda), Passed)


def test_another_major_never_does() -> None:
    finding = one(look(NEW, "14.0"), Severity.ERROR)
    assert finding.remedies == ()


def test_a_build_without_any_cuda_library_is_reported() -> None:
    bare = BitsAndBytes("0.50.2", ROOT, (), f"{ROOT}/cextension.py", True)
    assert "has no CUDA library at all" in shown(one(look(bare)))


def test_a_variable_that_names_a_library_that_is_there_decides() -> None:
    assert isinstance(look(OLD, BNB_CUDA_VERSION="129"), Passed)
    assert isinstance(look(NEW, "14.0", BNB_CUDA_VERSION="132"), Passed)


def test_a_variable_that_names_another_one_is_reported() -> None:
    finding = one(look(NEW, BNB_CUDA_VERSION="124"), Severity.ERROR)
    assert finding.summary == "BNB_CUDA_VERSION is 124, of which bitsandbytes 0.50.2 has no library"
    assert finding.remedies[0].summary == "unset BNB_CUDA_VERSION"


def test_since_0_50_a_variable_without_a_number_raises() -> None:
    assert "12.6, which is no number" in one(look(NEW, BNB_CUDA_VERSION="12.6")).summary
    assert "empty, which is no number" in one(look(NEW, BNB_CUDA_VERSION="")).summary
    assert isinstance(look(OLD, "12.6", BNB_CUDA_VERSION=""), Passed)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(look(OLD, "12.9"), Passed)
    assert isinstance(look(None), Skipped)
    assert isinstance(look(OLD, ""), Skipped)
