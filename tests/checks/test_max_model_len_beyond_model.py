from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Launch, Packages, Variable
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Failed, Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge
from tests.simulate.models import QWEN3_4B, QWEN25_32B, Config

from . import installed
from .build import environ, one, shown
from .launched import launch, model

NAME = "max-model-len-beyond-model"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


def stack(version: str) -> Packages:
    return installed.all_of(installed.one("vllm", version))


def look(
    tokens: object = 131072, config: Config | None = QWEN25_32B, version: str = "0.12.0",
    variables: dict[str, str] | None = None, given: Launch | None = None, **options: Any,
) -> Outcome:  # fmt: skip
    options |= {"max_model_len": tokens} if tokens else {}
    return judge(
        NAME, launch=given or launch(**options), model=model(config), packages=stack(version),
        environ=environ(**(variables or {})),
    )  # fmt: skip


def test_reports_more_than_the_model_has() -> None:
    finding = one(look(), Severity.ERROR)
    assert finding.summary == (
        "--max-model-len 131072 is beyond the 32768 tokens that the model is made for; "
        'vLLM will stop with "... is greater than the derived max_model_len"'
    )
    assert "command line: max_model_len 131072" in shown(finding)
    assert "/models/it/config.json: max_position_embeddings: 32768" in shown(finding)
    assert finding.remedies[0].summary == "--max-model-len 32768" and not finding.remedies[0].instead
    later = one(look(version="0.20.0")).remedies[0]
    assert later.instead[0].summary.startswith("--max-model-len auto")


def test_is_silent_up_to_what_the_model_has_and_without_the_option() -> None:
    for tokens in (32768, "32k", "32K", 1, "auto", -1, ""):
        assert isinstance(look(tokens), Passed), tokens
    one(look("33K"), Severity.ERROR)
    assert isinstance(look(131072, QWEN3_4B), Passed)


def test_is_silent_where_the_command_is_another() -> None:
    assert isinstance(look(given=launch("other")), Skipped)


def test_the_variable_makes_it_a_warning() -> None:
    name = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
    finding = one(look(variables={name: "True"}), Severity.WARNING)
    assert "gives nonsense or an error of CUDA's" in finding.summary and f"{name}: {name}=True" in shown(
        finding
    )
    one(look(variables={name: "0"}), Severity.ERROR)
    contained = structs.replace(launch(max_model_len=131072), image="vllm/vllm-openai:v0.12.0")
    one(look(given=contained, variables={name: "1"}), Severity.ERROR)
    held = structs.replace(contained, variables={name: Variable("1", "compose.yaml:7")})
    assert f"compose.yaml:7: {name}=1" in shown(one(look(given=held), Severity.WARNING))


def test_a_scaling_that_the_config_states_counts() -> None:
    scaled = {**QWEN25_32B, "rope_scaling": YARN}
    assert isinstance(look(131072, scaled), Passed)
    finding = one(look(131073, scaled))
    assert "yarn, factor 4 of 32768" in shown(finding)
    assert finding.remedies[0].summary == "--max-model-len 131072"
    one(look(131072, scaled, "0.33.0"), Severity.ERROR)
    assert isinstance(look(131072, scaled, "0.29.0"), Inconclusive)


@pytest.mark.parametrize(
    "options",
    [
        {"hf_overrides": "{}"}, {"hf_overrides.rope_scaling": "{}"}, {"rope_scaling": "{}"},
        {"hf_config_path": "x"}, {"runner": "pooling"}, {"task": "embed"},
    ],
)  # fmt: skip
def test_what_else_may_change_the_length_leaves_it_open(options: dict[str, Any]) -> None:
    assert isinstance(look(**options), Inconclusive)


def test_what_config_json_does_not_tell_leaves_it_open() -> None:
    bare = {key: value for key, value in QWEN25_32B.items() if key != "max_position_embeddings"}
    for config in (
        None, bare, {**QWEN25_32B, "max_position_embeddings": "many"},
        {**QWEN25_32B, "rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        {**QWEN25_32B, "rope_scaling": {"factor": 4.0}}, {**QWEN25_32B, "thinker_config": {"x": 1}},
    ):  # fmt: skip
        assert isinstance(look(config=config), Inconclusive), config
    assert isinstance(look(version="0.8.5"), Inconclusive)
    assert isinstance(look(version="0.34.0"), Inconclusive)


def test_a_params_json_may_say_otherwise() -> None:
    held = structs.replace(model(), params=True)
    by_options: tuple[tuple[dict[str, Any], type], ...] = (
        ({}, Inconclusive),
        ({"config_format": "hf"}, Failed),
    )
    for options, ends in by_options:
        given = launch(max_model_len=131072, **options)
        found = judge(NAME, launch=given, model=held, packages=stack("0.12.0"), environ=environ())
        assert isinstance(found, ends)
