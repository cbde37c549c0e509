from cudadoctor.facts import Selection, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkit, toolkits


def outcome(seen: Toolkits, variables: dict[str, str] | None = None, **more: str) -> Outcome:
    return judge(
        "nvcc-missing", toolkits=seen, environ=environ(**(variables or {})), packages=packages(**more)
    )


def without_nvcc(rule: str = "the default, as no nvcc is on PATH") -> Toolkits:
    return toolkits(toolkit("/opt/half", nvcc=False), rule=rule)


def test_reports_a_cuda_home_without_nvcc() -> None:
    finding = one(outcome(without_nvcc("CUDA_HOME"), {"CUDA_HOME": "/opt/half"}), Severity.ERROR)
    assert "/opt/half/bin/nvcc" in finding.summary and "CUDA_HOME=/opt/half" in shown(finding)


def test_does_not_apply_where_flashinfer_may_not_compile() -> None:
    off = {"CUDA_HOME": "/opt/half", "FLASHINFER_DISABLE_JIT": "1"}
    assert isinstance(outcome(without_nvcc("CUDA_HOME"), off), Skipped)


def test_flashinfer_alone_cannot_work_without_nvcc() -> None:
    one(outcome(no_toolkits()), Severity.ERROR)


def test_is_a_note_where_vllm_takes_another_backend() -> None:
    one(outcome(no_toolkits(), vllm="0.12.0"), Severity.NOTE)


def test_is_a_note_with_prebuilt_operators() -> None:
    one(outcome(no_toolkits(), jit_cache="0.6.4"), Severity.NOTE)


def test_offers_a_toolkit_that_is_merely_not_on_path() -> None:
    away = Toolkits(toolkits().toolkits, (), toolkits().headers)
    finding = one(outcome(away))
    assert finding.remedies[0].values == {"CUDA_HOME": "/usr/local/cuda"}


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(toolkits()), Passed)


def test_is_silent_when_flashinfer_is_told_where_nvcc_is() -> None:
    assert isinstance(outcome(no_toolkits(), {"FLASHINFER_NVCC": "/opt/cuda/bin/nvcc"}), Passed)


def test_does_not_apply_without_flashinfer_or_without_cuda() -> None:
    assert isinstance(outcome(no_toolkits(), flashinfer=""), Skipped)
    assert isinstance(outcome(no_toolkits(), cuda=""), Skipped)


def test_a_selection_without_nvcc_by_default_is_no_error_beside_vllm() -> None:
    seen = without_nvcc()
    assert isinstance(seen.selections[0], Selection)
    one(outcome(seen, vllm="0.12.0"), Severity.NOTE)
