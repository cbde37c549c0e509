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


UNKNOWN = Architecture(("Qwen9ForCausalLM",), "unknown", REGISTRY)


def test_the_reason_is_the_right_one() -> None:
    nothing = look(None)
    assert isinstance(nothing, Inconclusive) and "no vLLM is installed" not in nothing.reason
    image = judged(NAME, structs.replace(launch(), image="vllm/vllm-openai:v0.12.0"), model())
    assert isinstance(image, Inconclusive) and "image" in image.reason


def test_where_the_launch_or_the_model_may_name_another_it_cannot_be_told() -> None:
    asked = structs.replace(model(), architecture=UNKNOWN)
    for given in (
        launch(hf_overrides='{"architectures": ["A"]}'),
        launch(model_impl="terratorch"),
        structs.replace(launch(), partial="EXTRA at run.sh:3"),
    ):
        assert isinstance(judged(NAME, given, asked), Inconclusive)
    draft = structs.replace(asked, config={"speculators_config": {}})
    for changed in (structs.replace(asked, params=True), draft):
        assert isinstance(judged(NAME, launch(), changed), Inconclusive)
    assert one(judged(NAME, launch(model_impl="auto"), asked))


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
