from cudadoctor.facts import Builds, FlashInferPart
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, one, shown


def part(
    name: str = "flashinfer-cubin", version: str = "0.6.13", *, suits: bool = False, otherwise: str = "raises"
) -> FlashInferPart:
    where = f"/s/{name.replace('-', '_')}/_build_meta.py"
    meta = "/s/flashinfer/_build_meta.py"
    return FlashInferPart(
        name, version, where, "0.6.14", meta, suits, otherwise, "/s/flashinfer/jit/env.py:75"
    )


def look(*parts: FlashInferPart, **variables: str) -> Outcome:
    return judge(
        "flashinfer-parts-mismatch", builds=Builds(flashinfer_parts=parts), environ=environ(**variables)
    )


def test_a_part_that_makes_the_import_raise_is_an_error() -> None:
    finding = one(look(part()), Severity.ERROR)
    assert finding.summary.startswith("flashinfer-cubin 0.6.13 does not suit FlashInfer 0.6.14: importing")
    assert "/s/flashinfer/jit/env.py:75: the RuntimeError" in shown(finding)
    assert finding.remedies[0].summary == "pip uninstall flashinfer-cubin"
    assert "flashinfer-cubin==0.6.14" in finding.remedies[0].instead[0].summary


def test_a_part_that_is_left_aside_is_a_warning() -> None:
    finding = one(look(part("flashinfer-jit-cache", "0.6.13+cu130", otherwise="warns")), Severity.WARNING)
    assert "it is not used" in finding.summary
    assert finding.remedies[0].instead[0].summary == (
        "flashinfer-jit-cache==0.6.14+cu130, from https://flashinfer.ai/whl/cu130"
    )


def test_each_part_has_a_finding_of_its_own() -> None:
    assert len(look(part(), part("flashinfer-jit-cache")).findings) == 2


def test_is_silent_when_they_agree_or_nobody_looks() -> None:
    assert isinstance(look(part(suits=True)), Passed)
    assert isinstance(look(part(otherwise="")), Passed)


def test_is_silent_when_the_parts_are_absent() -> None:
    assert isinstance(look(), Skipped)


def test_does_not_apply_where_the_version_check_is_off() -> None:
    assert isinstance(look(part(), FLASHINFER_DISABLE_VERSION_CHECK="1"), Skipped)
