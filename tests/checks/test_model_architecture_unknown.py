from msgspec import structs

from cudadoctor.facts import Architecture, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import judged, launch, model

NAME = "model-architecture-unknown"
REGISTRY = "/v/vllm/model_executor/models/registry.py"


def look(architecture: Architecture | None) -> Outcome:
    return judged(NAME, launch(), structs.replace(model(), architecture=architecture))


def test_reports_one_that_this_vllm_does_not_have() -> None:
    asked = Architecture(("Qwen9ForCausalLM",), "unknown", REGISTRY, nearest=("Qwen3ForCausalLM",))
    finding = one(look(asked), Severity.ERROR)
    assert finding.summary == "vLLM 0.12.0 does not know Qwen9ForCausalLM"
    assert f"{REGISTRY}: names no such model" in shown(finding)
    assert "Qwen3ForCausalLM" in finding.remedies[0].summary


def test_says_which_version_had_it_last() -> None:
    asked = Architecture(("OldForCausalLM",), "unknown", REGISTRY, former="0.9.2")
    assert one(look(asked)).summary.endswith("vLLM 0.9.2 was the last that did")


def test_is_silent_when_it_is_known_or_runs_by_transformers() -> None:
    assert isinstance(look(Architecture(("Qwen2ForCausalLM",), "known", REGISTRY)), Passed)
    assert isinstance(look(Architecture(("NewForCausalLM",), "fallback", REGISTRY)), Passed)


def test_what_is_not_known_is_not_judged() -> None:
    assert isinstance(look(None), Inconclusive)
    assert isinstance(look(Architecture(("A",), "cannot-tell", reason="auto_map")), Inconclusive)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
