from typing import Any

from cudadoctor.facts import Unknown
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.simulate.models import GEMMA3_27B, GPT_OSS_20B, QWEN3_NEXT_80B, QWEN25_32B, Config

from . import installed
from .build import environ, one, shown
from .launched import launch, model

NAME = "cpu-offload-hybrid-unsupported"


def look(
    gib: object = 90, config: Config | None = QWEN3_NEXT_80B, version: str = "0.10.2",
    variables: dict[str, str] | None = None, **options: Any,
) -> Outcome:  # fmt: skip
    options |= {} if gib is None else {"cpu_offload_gb": gib}
    found = installed.all_of(installed.one("vllm", version))
    return judge(
        NAME,
        launch=launch(**options),
        model=model(config),
        packages=found,
        environ=environ(**(variables or {})),
    )


def test_reports_a_hybrid_whose_weights_are_to_be_elsewhere() -> None:
    finding = one(look(), Severity.ERROR)
    assert finding.summary == (
        'vLLM 0.10.2 will stop with "Cannot re-initialize the input batch when CPU weight offloading is '
        'enabled": the model is a hybrid'
    )
    layers = "36 layers with a state of their own, 12 layers with full attention"
    assert f"/models/it/config.json: {layers}" in shown(finding)
    assert fixes(finding)[0] == "vLLM 0.20 or later, which can" and len(fixes(finding)) == 2
    for version in ("0.12.0", "0.15.0", "0.19.1"):
        one(look(version=version), Severity.ERROR)


def test_windows_between_full_layers_are_groups_too_unless_they_are_made_one() -> None:
    for config in (GPT_OSS_20B, GEMMA3_27B):
        finding = one(look(config=config, version="0.12.0"), Severity.ERROR)
        assert fixes(finding)[1].startswith("--disable-hybrid-kv-cache-manager")
        assert isinstance(look(config=config, disable_hybrid_kv_cache_manager=True), Passed)
        assert isinstance(look(config=config, kv_transfer_config="{}"), Inconclusive)
    assert "12 layers with a window, 12 layers with full attention" in shown(one(look(config=GPT_OSS_20B)))


def test_is_silent_where_this_vllm_can() -> None:
    for version in ("0.20.0", "0.33.0"):
        assert isinstance(look(version=version), Passed)


def test_is_silent_where_nothing_is_offloaded_or_the_model_is_no_hybrid() -> None:
    for gib in (None, 0, "0.0"):
        assert isinstance(look(gib), Passed)
    assert isinstance(look(config=QWEN25_32B), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    found = installed.all_of(installed.one("vllm", "0.12.0"))
    none = Unknown("no launch was given", expected=True)
    assert isinstance(judge(NAME, launch=none, model=model(), packages=found, environ=environ()), Skipped)
    assert isinstance(
        judge(NAME, launch=launch("other"), model=model(), packages=found, environ=environ()), Skipped
    )


def test_what_is_not_known_is_left_open() -> None:
    assert isinstance(look(config=None), Inconclusive)
    assert isinstance(look(version="0.9.2"), Inconclusive)
    assert isinstance(look(variables={"VLLM_USE_V1": "0"}), Inconclusive)
    assert isinstance(look(kv_cache_dtype="fp8"), Inconclusive)
    one(look(version="0.11.0", kv_cache_dtype="fp8"), Severity.ERROR)


def fixes(finding: Finding) -> list[str]:
    first = finding.remedies[0]
    return [first.summary, *(each.summary for each in first.instead)]
