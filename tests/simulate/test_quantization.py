"""What becomes of `--quantization`, by rules that a test marked `stack` holds against the real vLLM."""

from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts.model import Methods, Quantization
from cudadoctor.simulate.quantization import Loading, loading
from tests.probes.checkpoints import AWQ, COMPRESSED, FP8

METHODS = Methods(
    "quantization/__init__.py",
    ("awq", "awq_marlin", "gptq", "gptq_marlin", "fp8", "compressed-tensors", "bitsandbytes", "gguf"),
    {"awq_marlin": ("", "awq_marlin", "marlin"), "gptq_marlin": ("", "gptq_marlin", "marlin")},
    {"awq": 75, "awq_marlin": 80, "gptq": 60, "gptq_marlin": 80, "fp8": 80},
    {"awq": ("quant_config.json", "quantize_config.json"), "fp8": (), "gptq": ("quantize_config.json",),
     "awq_marlin": ("quantize_config.json",), "bitsandbytes": ()},
)  # fmt: skip
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True, "desc_act": False}


def judged(config: dict[str, Any] | None, asked: str = "", capability: int | None = 86) -> Loading:
    stated = (
        None if config is None else Quantization(str(config.get("quant_method", "")), "config.json", config)
    )
    return loading(stated, asked, METHODS, (), capability)


@pytest.mark.parametrize(
    ("config", "asked", "ended", "method", "faster"),
    [
        (None, "", "plain", "", ""),
        (AWQ, "", "as-stated", "awq_marlin", ""),
        (AWQ, "awq", "as-asked", "awq", "awq_marlin"),
        (AWQ, "awq_marlin", "as-asked", "awq_marlin", ""),
        (AWQ, "gptq", "mismatch", "awq", ""),
        (AWQ, "fp8", "mismatch", "awq", ""),
        (AWQ, "nonsense", "not-a-method", "", ""),
        (GPTQ, "gptq", "as-asked", "gptq", "gptq_marlin"),
        (GPTQ, "", "as-stated", "gptq_marlin", ""),
        (FP8, "", "as-stated", "fp8", ""),
        (FP8, "fp8", "as-asked", "fp8", ""),
        (FP8, "awq", "mismatch", "fp8", ""),
        (COMPRESSED, "fp8", "mismatch", "compressed-tensors", ""),
        (None, "fp8", "as-asked", "fp8", ""),
        (None, "bitsandbytes", "as-asked", "bitsandbytes", ""),
        (None, "awq", "no-config", "awq", ""),
        ({"bits": 4}, "", "cannot-tell", "", ""),
    ],
)  # fmt: skip
def test_what_is_asked_for_is_held_against_what_the_checkpoint_says(
    config: dict[str, Any] | None, asked: str, ended: str, method: str, faster: str
) -> None:
    found = judged(config, asked)
    assert (found.ended, found.method, found.faster) == (ended, method, faster)


def test_awq_without_a_config_names_the_files_that_would_do(tmp_path: object) -> None:
    assert judged(None, "awq").files == ("quant_config.json", "quantize_config.json")
    assert loading(None, "awq", METHODS, ("quant_config.json",), 86).ended == "as-asked"


def test_a_method_that_takes_over_whatever_is_asked_for_makes_no_mismatch() -> None:
    methods = structs.replace(METHODS, names=(*METHODS.names, "modelopt"), takes_over={"modelopt": ()})
    stated = Quantization("modelopt", "config.json", {"quant_method": "modelopt", "quant_algo": "FP8"})
    assert loading(stated, "fp8", methods) == Loading("as-stated", "modelopt")


def test_a_checkpoint_of_a_method_that_this_vllm_lacks_is_told() -> None:
    assert judged({"quant_method": "vptq"}).ended == "not-a-method"


def test_a_card_that_is_too_old_is_not_told_to_convert() -> None:
    assert judged(AWQ, "awq", 75) == Loading("as-asked", "awq")
    assert judged(AWQ, "", 75) == Loading("as-stated", "awq")
    assert judged(AWQ, "awq_marlin", 75).ended == "mismatch"


@pytest.mark.parametrize(
    "change", [{"group_size": 48}, {"bits": 8}, {"zero_point": False}, {"group_size": None}]
)
def test_weights_that_marlin_cannot_take_are_not_converted(change: dict[str, Any]) -> None:
    assert judged({**AWQ, **change}, "awq").faster == ""


def test_without_a_card_nothing_is_said_of_conversion() -> None:
    assert judged(AWQ, "awq", None).faster == ""
    assert judged(AWQ, "awq_marlin", None).ended == "cannot-tell"


def test_a_vllm_whose_source_is_not_understood_makes_no_mismatch() -> None:
    stated = Quantization("awq", "config.json", AWQ)
    assert loading(stated, "gptq", Methods("")).ended == "cannot-tell"
    assert loading(None, "awq", Methods("")).ended == "cannot-tell"


def test_a_method_that_cannot_be_made_without_a_config_has_no_file_to_name() -> None:
    known = structs.replace(
        METHODS, files={**METHODS.files, "compressed-tensors": ()}, bare=("compressed-tensors",)
    )
    assert loading(None, "compressed-tensors", known) == Loading("no-config", "compressed-tensors")
