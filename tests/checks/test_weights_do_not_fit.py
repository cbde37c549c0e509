from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Environ, Machine, Model, Unknown, Variable
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from tests.simulate.models import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    GEMMA3_27B,
    QWEN3_32B,
    QWEN3_NEXT_80B,
    QWEN25_7B,
    QWEN25_32B,
)

from . import gpus, installed
from .build import one
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "weights-do-not-fit"
LAPTOP = Card("rtx-4090-laptop", int(15.57 * GIB), "8.9", source="--gpu")
H100 = Card("h100", int(79.18 * GIB), "9.0", source="--gpu")
LARGE = model(QWEN3_NEXT_80B, "fp8", 76.0)


def test_reports_weights_that_are_more_than_the_card() -> None:
    finding = one(judged(NAME, launch(), model(method="", gib=61.0)), Severity.ERROR)
    assert "60.7 GiB of weights do not fit on RTX 3090 (23.6 GiB)" in finding.summary
    (offload,) = finding.remedies  # the memory of another machine's host is not known
    assert "--cpu-offload-gb" in offload.values["options"]


def test_a_card_that_would_do_is_named_where_no_setting_helps() -> None:
    finding = one(judged(NAME, launch(max_model_len=2048), LARGE, LAPTOP), Severity.ERROR)
    assert finding.summary.endswith("at any setting: it needs 79 GiB")
    (remedy,) = finding.remedies
    assert remedy.values == {"label": "would do"}
    assert remedy.summary == "one RTX PRO 6000 (95.0 GiB)"


def test_as_many_of_the_same_card_as_would_do_are_named() -> None:
    card = structs.replace(LAPTOP, name="rtx-3090", total_bytes=RTX_3090.total_bytes)
    (remedy,) = one(judged(NAME, launch(max_model_len=2048), LARGE, card)).remedies
    assert remedy.summary.endswith(" or 8 x RTX 3090 (--tensor-parallel-size 8)")


def test_several_cards_are_advised_where_they_are_there() -> None:
    two = structs.replace(RTX_3090, count=4)
    given = launch(max_model_len=4096)
    first = one(judged(NAME, given, model(QWEN3_32B, "", 61.0), two)).remedies[0]
    assert first.values["options"] == "--tensor-parallel-size 4"


def host(total: float, free: float) -> Machine:
    return gpus.host(memory_total_bytes=int(total * GIB), memory_available_bytes=int(free * GIB))


def test_what_is_kept_in_the_host_s_memory_has_to_be_there() -> None:
    here, held = structs.replace(RTX_3090, source="NVML"), model(QWEN3_32B, "", 61.0)
    asked = launch(cpu_offload_gb=500, max_model_len=2048)
    finding = one(judged(NAME, asked, held, here, machine=host(32, 30)), Severity.ERROR)
    assert finding.summary == (
        "60.7 GiB of weights do not fit in the host's memory (32.0 GiB, 30.0 GiB available)"
    )
    finding = one(judged(NAME, asked, held, here, machine=host(64, 30)), Severity.WARNING)
    assert "may not fit in the host's memory" in finding.summary
    assert isinstance(judged(NAME, asked, held, here, machine=host(128, 100)), Passed)
    other = judged(NAME, asked, held, machine=host(32, 30))
    assert isinstance(other, Passed), "the memory of another machine is not known"


def test_each_rank_keeps_its_part_there() -> None:
    small = Card("", 8 * GIB, "8.6", count=4, source="NVML")
    held = model(QWEN3_32B, "", 61.0)
    asked: dict[str, Any] = {"tensor_parallel_size": 4, "max_model_len": 2048}
    finding = one(judged(NAME, launch(cpu_offload_gb=12, **asked), held, small, machine=host(40, 38)))
    assert finding.summary.startswith("48.0 GiB of weights do not fit in the host's memory")
    told = [one(judged(NAME, launch(**asked), held, small, machine=host(64, free))) for free in (60, 30)]
    wide, narrow = (any("--cpu-offload-gb" in each.summary for each in finding.remedies) for finding in told)
    assert wide and not narrow


def test_float32_is_run_in_16_bits_but_where_it_is_asked_for() -> None:
    wide = model({**QWEN3_32B, "torch_dtype": "float32"}, "", 122.0)
    assert isinstance(judged(NAME, launch(max_model_len=2048), wide, H100), Passed)
    undeclared = model(QWEN3_32B, "", 122.0)
    assert isinstance(judged(NAME, launch(max_model_len=2048), undeclared, H100), Passed)
    narrow = model({**QWEN3_32B, "torch_dtype": "bfloat16"}, "", 61.0)
    finding = one(judged(NAME, launch(max_model_len=2048, dtype="float32"), narrow, H100), Severity.ERROR)
    assert finding.summary.startswith("121.4 GiB of weights") and finding.remedies == ()
    assert isinstance(judged(NAME, launch(dtype="float32"), model(QWEN25_7B, "", 14.2), H100), Inconclusive)
    assert isinstance(judged(NAME, launch(dtype="float32")), Inconclusive), "quantised"
    assert isinstance(judged(NAME, launch(dtype="half"), narrow, H100), Passed)


def test_a_gpu_without_bfloat16_may_run_some_models_in_32_bits() -> None:
    t4 = Card("t4", int(14.56 * GIB), "7.5", source="--gpu")
    assert isinstance(judged(NAME, launch(), model(GEMMA3_27B, "", 51.0), t4), Inconclusive)


def test_fp8_that_is_made_when_all_is_loaded_needs_room_for_all() -> None:
    l40s = Card("l40s", int(44.4 * GIB), "8.9", source="--gpu")
    plain, asked = model(QWEN3_32B, "", 61.0), launch(max_model_len=1024, quantization="fp8")
    finding = one(judged(NAME, asked, plain, l40s), Severity.ERROR)
    assert finding.summary.endswith("(44.4 GiB): vLLM 0.12.0 quantises them when all are loaded")
    assert [each.fix for each in finding.remedies] == ["show"]
    assert isinstance(judged(NAME, asked, plain, H100), Passed)
    newer, unread = (installed.all_of(installed.one("vllm", each)) for each in ("0.20.0", "0.14.0"))
    assert isinstance(judged(NAME, asked, plain, l40s, packages=newer), Passed)
    assert isinstance(judged(NAME, asked, plain, l40s, packages=unread), Inconclusive)


@pytest.mark.parametrize(
    "options",
    [{"data_parallel_size": 8}, {"tensor_parallel_size": 8, "enable_expert_parallel": True}],
)
def test_how_experts_are_divided_is_not_guessed(options: dict[str, Any]) -> None:
    h200 = Card("h200", int(139.8 * GIB), "9.0", count=8, source="--gpu")
    assert isinstance(judged(NAME, launch(**options), model(DEEPSEEK_V3, "fp8", 640.0), h200), Inconclusive)


def test_each_replica_of_a_dense_model_takes_gpus_of_its_own() -> None:
    four = structs.replace(RTX_3090, count=4)
    given = launch(max_model_len=4096, data_parallel_size=2)
    first = one(judged(NAME, given, model(QWEN3_32B, "", 61.0), four)).remedies[0]
    assert "tensor-parallel" not in first.values.get("options", ""), "4 ranks of 2 replicas are 8 GPUs"


def test_a_group_of_quantised_weights_is_not_divided() -> None:
    odd = {**QWEN25_32B, "intermediate_size": 128 * 231}
    two = structs.replace(LAPTOP, count=2)
    told = [each.summary for each in one(judged(NAME, launch(max_model_len=2048), model(odd), two)).remedies]
    assert not any("tensor-parallel" in each for each in told)
    even = [each.summary for each in one(judged(NAME, launch(max_model_len=2048), model(), two)).remedies]
    assert any("--tensor-parallel-size 2" in each for each in even)


@pytest.mark.parametrize(
    "options", [{"hf_overrides": '{"num_hidden_layers": 1}'}, {"rope_scaling": "{}"}, {"dtype": "int3"}]
)
def test_what_changes_the_model_is_not_guessed(options: dict[str, Any]) -> None:
    assert isinstance(judged(NAME, launch(**options)), Inconclusive)


def test_variables_that_change_the_plan_are_read() -> None:
    def told(held: Model, **variables: str) -> Outcome:
        environ = Environ(
            {n: Variable(v, "environment") for n, v in variables.items()}, "the current variables"
        )
        two = structs.replace(RTX_3090, count=2)
        return judged(NAME, launch(pipeline_parallel_size=2), held, two, environ=environ)

    assert isinstance(told(model(), VLLM_PP_LAYER_PARTITION="10,54"), Inconclusive)
    assert isinstance(told(model()), Passed)
    mla = model(DEEPSEEK_V2_LITE, "", 29.0)
    assert isinstance(told(mla, VLLM_MLA_DISABLE="1"), Inconclusive)
    assert isinstance(told(mla, VLLM_MLA_DISABLE="0"), Passed)


def test_options_that_may_be_given_as_well_are_not_guessed() -> None:
    partial = structs.replace(launch(max_model_len=2048), partial="EXTRA at serve.sh:3")
    outcome = judged(NAME, partial, LARGE, LAPTOP)
    assert isinstance(outcome, Inconclusive) and "EXTRA at serve.sh:3" in outcome.reason


def test_is_silent_when_healthy() -> None:
    assert isinstance(judged(NAME, launch()), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    assert isinstance(judged(NAME, Unknown("no launch was given", expected=True)), Skipped)
