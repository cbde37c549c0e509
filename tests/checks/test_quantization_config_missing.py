from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Given, Methods, Model, Quantization, Refused, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped

from .build import one, shown
from .launched import RTX_3090, judged, launch, model

NAME = "quantization-config-missing"
SOURCE = "/v/vllm/model_executor/layers/quantization/__init__.py"
METHODS = Methods(
    SOURCE,
    ("awq", "awq_marlin", "gptq", "fp8", "bitsandbytes", "compressed-tensors"),
    {"awq_marlin": ("", "awq_marlin", "marlin")},
    {"awq": 75, "awq_marlin": 80, "fp8": 80},
    {"awq": ("quant_config.json", "quantize_config.json"), "fp8": (), "compressed-tensors": ()},
    ("compressed-tensors",),
    {"awq": ("float16",), "awq_marlin": ("float16", "bfloat16")},
)
T4 = Card("t4", 14 << 30, "7.5", source="--gpu")
FOUR_BITS = Quantization(
    "awq", "config.json: quantization_config", {"bits": 4, "group_size": 128, "zero_point": True}
)


def held(method: str = "", **more: Any) -> Model:
    """Return a model in a folder; `method` is what its config says of its weights."""
    return structs.replace(model(method=method), **{"methods": METHODS, "dtype": "float16", **more})


def look(
    asked: str = "", seen: Model | None = None, card: Card | Unknown = RTX_3090, **more: object
) -> Outcome:
    options: dict[str, Any] = {**({"quantization": asked} if asked else {}), **more}
    return judged(NAME, launch(**options), seen or held(), card)


def test_reports_a_checkpoint_without_a_config_for_it() -> None:
    finding = one(look("awq"), Severity.ERROR)
    assert 'will stop with "Cannot find the config file for awq"' in finding.summary
    assert "command line: quantization awq" in shown(finding)
    assert "/models/it: no quant_config.json and no quantize_config.json either" in shown(finding)
    assert finding.remedies[0].summary.startswith("leave --quantization out") and "18.0 GiB" in shown(finding)


def test_what_is_quantised_that_way_and_here_is_named_first() -> None:
    finding = one(look("awq", held(similar=("/models/it-AWQ",))))
    assert finding.remedies[0].summary.startswith("/models/it-AWQ")
    assert "leave --quantization out" in finding.remedies[0].instead[0].summary


def test_a_file_beside_the_config_will_do() -> None:
    assert isinstance(look("awq", held(quantization_files=("quant_config.json",))), Passed)


def test_what_is_quantised_while_it_loads_needs_no_config() -> None:
    assert isinstance(look("fp8"), Passed) and isinstance(look("bitsandbytes"), Passed)


def test_reports_a_method_that_has_neither_file_nor_default() -> None:
    assert "there is no default" in one(look("compressed-tensors"), Severity.ERROR).summary


def test_a_cache_that_vllm_itself_has_filled_may_lack_the_file() -> None:
    cached = held(state="cached", cache="/hub")
    assert "will probably stop" in one(look("awq", cached), Severity.WARNING).summary
    assert one(look("awq", structs.replace(cached, whole=True)), Severity.ERROR)
    assert one(look("awq", structs.replace(cached, offline="HF_HUB_OFFLINE")), Severity.ERROR)


def test_of_a_model_that_only_the_hub_has_the_files_are_not_known() -> None:
    assert isinstance(look("awq", held(state="absent", cache="/hub", path="")), Inconclusive)


def test_reports_another_method_than_the_checkpoint_has() -> None:
    finding = one(look("awq", held("gptq")), Severity.ERROR)
    assert finding.summary == "the checkpoint is quantised with gptq, which --quantization awq does not load"
    assert "/models/it/config.json: quantization_config: quant_method gptq" in shown(finding)


def test_says_that_the_card_cannot_convert_it() -> None:
    finding = one(look("awq_marlin", held(quantization=FOUR_BITS), T4), Severity.ERROR)
    assert "awq_marlin needs compute capability 8.0" in finding.summary


def test_reports_a_method_that_this_vllm_does_not_have() -> None:
    assert "no quantisation called exl2" in one(look("exl2"), Severity.ERROR).summary
    finding = one(look("", held("exl2")), Severity.ERROR)
    assert "cannot load weights that are quantised with exl2" in finding.summary and SOURCE in shown(finding)


def test_a_plugin_may_have_the_method() -> None:
    assert isinstance(look("exl2", held(methods=structs.replace(METHODS, doubt="mine 1.0"))), Inconclusive)


def test_what_option_unknown_says_is_not_said_twice() -> None:
    refused = Refused("--quantization", "--quantization", "command line", "choice", "exl2")
    given = structs.replace(launch(quantization="exl2"), refused=(refused,))
    assert isinstance(judged(NAME, given, held()), Skipped)


def test_reports_a_card_that_is_too_old_for_the_method() -> None:
    finding = one(look("fp8", card=T4), Severity.ERROR)
    assert finding.summary == "fp8 needs a GPU of compute capability 8.0, and t4 has 7.5"
    assert one(look("", held("fp8"), T4)).remedies == ()


def test_reports_a_dtype_that_the_method_does_not_compute_in() -> None:
    seen = held(quantization=FOUR_BITS, dtype="bfloat16")
    finding = one(look("awq", seen), Severity.ERROR)
    assert finding.summary == "awq computes in float16 only, and the launch would in bfloat16"
    assert [each.summary for each in (finding.remedies[0], *finding.remedies[0].instead)] == [
        "--quantization awq_marlin", "--dtype float16",
    ]  # fmt: skip
    assert isinstance(look("awq", seen, dtype="half"), Passed)
    assert isinstance(look("awq", seen, T4), Passed)  # which has no bfloat16: "auto" makes float16 of it
    assert isinstance(look("", seen), Passed)
    assert one(look("awq", held(quantization=FOUR_BITS), dtype="bfloat16"))


def test_is_silent_when_the_checkpoint_says_so_itself() -> None:
    assert isinstance(look("", held(quantization=FOUR_BITS)), Passed)
    assert isinstance(look("AWQ", held(quantization=FOUR_BITS)), Passed)
    assert isinstance(look(), Passed) and isinstance(look("None"), Passed)


def test_is_silent_of_the_card_where_none_is_known() -> None:
    assert isinstance(look("fp8", card=Unknown("no GPU is visible here")), Passed)
    assert isinstance(look("fp8", card=Card("mine", None)), Passed)


@pytest.mark.parametrize(
    "more", [{"methods": None}, {"methods": Methods("")}, {"params": True}, {"config": None}]
)
def test_what_is_not_known_is_not_judged(more: dict[str, Any]) -> None:
    assert isinstance(look("awq", held(**more)), Inconclusive)


def test_what_the_launch_does_not_tell_is_not_judged() -> None:
    given = structs.replace(
        launch(), options={"--quantization": Given((), "run.py:3", "quantization", "a variable")}
    )
    assert isinstance(judged(NAME, given, held()), Inconclusive)
    assert isinstance(look("awq", hf_overrides="{}"), Inconclusive)
    in_container = structs.replace(launch(quantization="awq"), image="vllm/vllm-openai:latest")
    assert "image" in judged(NAME, in_container, held(methods=None)).reason


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)
