from typing import Any

import pytest
from msgspec import structs

from cudadoctor.facts import Card, Environ, Given, HubAnswer, Unknown, Variable
from cudadoctor.findings import Finding, Severity
from cudadoctor.outcomes import Failed, Inconclusive, Passed, Skipped
from tests.simulate.models import QWEN3_32B, QWEN3_NEXT_80B, QWEN25_32B, Config

from . import installed
from .build import one, shown
from .launched import GIB, RTX_3090, judged, launch, model

NAME = "kv-cache-does-not-fit"


def test_reports_a_budget_that_the_weights_use_up() -> None:
    finding = one(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=0.75)), Severity.ERROR)
    assert "No available memory for the cache blocks" in finding.summary
    assert finding.summary.endswith("lowering utilisation makes it worse")
    assert "--gpu: RTX 3090: 23.6 GiB x 0.75 = 17.7 GiB" in shown(finding)


def test_what_helps_was_planned_again() -> None:
    finding = one(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=0.75)))
    check_advice(finding)


def test_fp8_is_advised_only_where_a_backend_for_it_is_there() -> None:
    asked = launch(max_model_len=4096, gpu_memory_utilization=0.75)
    with_it = installed.all_of(installed.one("vllm", "0.12.0"), installed.one("flashinfer-python", "0.5.3"))
    told = [each.summary for each in one(judged(NAME, asked, packages=with_it)).remedies]
    assert any("--kv-cache-dtype fp8" in each for each in told)
    assert not any("fp8" in each.summary for each in one(judged(NAME, asked)).remedies)


def check_advice(finding: Finding) -> None:
    first, *more = finding.remedies
    assert first.values["label"] == "would fit" and "requests at once" in first.values["holds"]
    options = first.values["options"].split()
    assert options[0] == "--gpu-memory-utilization" and first.summary.startswith(" ".join(options))
    value = float(options[1])
    assert isinstance(judged(NAME, launch(max_model_len=4096, gpu_memory_utilization=value)), Passed)
    assert {each.values["label"] for each in more} == {"more room"}
    assert all(each.values["options"].startswith("--gpu-memory-utilization 0.9") for each in more)
    assert "; 2048 tokens, " in more[0].values["holds"], "half as long is telling where few fit"


def test_arguments_of_the_class_are_spelled_as_python_has_them() -> None:
    given = launch("vllm-llm", max_model_len=4096, gpu_memory_utilization=0.75)
    told = [each.values["options"] for each in one(judged(NAME, given)).remedies]
    assert told[0].startswith("gpu_memory_utilization=0.9") and not any("--" in each for each in told)
    assert any(", max_num_seqs=" in each or ", max_num_batched_tokens=" in each for each in told)


def test_a_length_that_vllm_finds_by_itself_is_not_too_long() -> None:
    asked: dict[str, Any] = {"gpu_memory_utilization": 0.95, "max_num_seqs": 16}
    assert isinstance(judged(NAME, launch(max_model_len=32768, **asked)), Failed)
    assert isinstance(judged(NAME, launch(max_model_len="auto", **asked)), Passed)


def test_a_hybrid_needs_a_state_for_each_sequence_since_releases_that_ask() -> None:
    card, held = Card("h100", 82 * GIB, "9.0", source="--gpu-memory"), model(QWEN3_NEXT_80B, "fp8", 72.0)
    newer = installed.all_of(installed.one("vllm", "0.28.0"))
    asked = launch(max_model_len=4096, gpu_memory_utilization=0.92)
    finding = one(judged(NAME, asked, held, card, packages=newer), Severity.ERROR)
    assert finding.summary.startswith('will stop with "max_num_seqs (1024) exceeds available Mamba cache')
    options = finding.remedies[0].values["options"].split()
    assert "--max-num-seqs" in options
    changed: dict[str, Any] = {
        name[2:].replace("-", "_"): value for name, value in zip(options[::2], options[1::2], strict=True)
    }
    few = launch("vllm-serve", **{"max_model_len": 4096, "gpu_memory_utilization": 0.92, **changed})
    assert isinstance(judged(NAME, few, held, card, packages=newer), Passed)


def test_slots_for_adapters_are_counted() -> None:
    asked: dict[str, Any] = {"max_model_len": 4096, "gpu_memory_utilization": 0.95, "max_num_seqs": 16}
    assert isinstance(judged(NAME, launch(**asked)), Passed)
    finding = one(judged(NAME, launch(**asked, enable_lora=True, max_loras=8, max_lora_rank=64)))
    assert "LoRA adapters: 8." in shown(finding)
    assert finding.remedies[0].values["options"].startswith("--max-loras 1") or finding.remedies


@pytest.mark.parametrize(
    ("config", "method", "gib", "card"),
    [(QWEN3_32B, "", 30.5, Card("t4", int(14.56 * GIB), "7.5", source="--gpu")),
     (QWEN25_32B, "awq", 18.0, Card("", 8 * GIB, "8.6", source="--gpu-memory"))],
)  # fmt: skip
def test_weights_that_are_too_large_are_another_check_s(
    config: Config, method: str, gib: float, card: Card
) -> None:
    assert isinstance(judged(NAME, launch(max_model_len=2048), model(config, method, gib), card), Passed)


def test_a_card_that_is_too_small_at_any_setting_is_said_with_one_that_would_do() -> None:
    small = Card("a10g", int(19.2 * GIB), "8.6", source="--gpu-memory")
    finding = one(
        judged(
            NAME,
            launch(max_model_len=32768),
            card=small,
        ),
        Severity.ERROR,
    )
    offload = [each.values["options"] for each in finding.remedies]
    assert offload and all("--cpu-offload-gb" in each for each in offload)


def test_a_request_that_is_too_long_says_what_it_needs() -> None:
    finding = one(judged(NAME, launch(max_model_len=32768)), Severity.ERROR)
    assert "32768 tokens need 8.0 GiB" in finding.summary


def test_is_silent_when_it_fits() -> None:
    assert isinstance(judged(NAME, launch(max_model_len=2048, gpu_memory_utilization=0.95)), Passed)


def test_is_silent_where_no_launch_was_given() -> None:
    nothing = Unknown("no launch was given", expected=True)
    assert isinstance(judged(NAME, nothing), Skipped)
    assert isinstance(judged(NAME, launch("other")), Skipped)


@pytest.mark.parametrize(
    ("held", "card"),
    [
        (model(None), RTX_3090),
        (model({"model_type": "odd"}), RTX_3090),
        (model(), Card("mine", None)),
        (model(), Unknown("no GPU is visible here")),
        (structs.replace(model(None), state="absent", cache="/c"), RTX_3090),
    ],
)
def test_what_is_not_known_is_not_judged(held: object, card: Card) -> None:
    assert isinstance(judged(NAME, launch(), held, card), Inconclusive)  # type: ignore[arg-type]


def test_what_would_tell_of_a_model_is_named() -> None:
    absent = structs.replace(model(None), state="absent", cache="/c", reason="/c has no such model")
    said = judged(NAME, launch(), absent).reason
    assert said == "/c has no such model; --online asks the hub for it"
    offline = structs.replace(absent, offline="HF_HUB_OFFLINE")
    assert judged(NAME, launch(), offline).reason == "/c has no such model"
    asked = structs.replace(absent, online=HubAnswer("refused", "https://hub", 401, "401 Unauthorized"))
    assert judged(NAME, launch(), asked).reason.endswith("; the hub: 401 Unauthorized")
    folder = structs.replace(absent, cache="")
    assert "--online" not in judged(NAME, launch(), folder).reason


@pytest.mark.parametrize("name", ["--max-model-len", "--gpu-memory-utilization", "--kv-cache-dtype"])
def test_a_value_that_only_the_run_tells_is_not_guessed(name: str) -> None:
    given = launch(gpu_memory_utilization=0.75)
    unknown = {**given.options, name: Given((), "serve.sh:3", name, "$(nproc) is not followed")}
    outcome = judged(NAME, structs.replace(given, options=unknown))
    assert isinstance(outcome, Inconclusive) and "$(nproc)" in outcome.reason


def test_a_drafter_beside_the_model_is_not_guessed() -> None:
    drafted = launch(speculative_config='{"method": "eagle3", "model": "x/y"}')
    assert isinstance(judged(NAME, drafted), Inconclusive)
    counted = launch(
        speculative_config='{"method": "ngram"}', max_model_len=2048, gpu_memory_utilization=0.95
    )
    assert isinstance(judged(NAME, counted), Passed)


def test_impossible_numbers_are_not_judged() -> None:
    assert isinstance(judged(NAME, launch(max_model_len="long")), Inconclusive)
    assert isinstance(judged(NAME, launch(gpu_memory_utilization=7)), Inconclusive)
    assert isinstance(judged(NAME, launch(), card=Card("x", -GIB)), Inconclusive)


def environ(**variables: str) -> Environ:
    return Environ({n: Variable(v, "environment") for n, v in variables.items()}, "the current variables")


def test_fp8_is_not_advised_with_a_backend_that_cannot() -> None:
    asked = launch(max_model_len=4096, gpu_memory_utilization=0.75)
    with_it = installed.all_of(installed.one("vllm", "0.12.0"), installed.one("flashinfer-python", "0.5.3"))
    named = environ(VLLM_ATTENTION_BACKEND="FLASH_ATTN")
    told = [each.summary for each in one(judged(NAME, asked, packages=with_it, environ=named)).remedies]
    assert told and not any("fp8" in each for each in told)


def test_what_the_shell_exports_is_counted() -> None:
    counted = environ(VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS="1")
    asked = launch(max_model_len=32768)
    assert "CUDA graphs" in shown(one(judged(NAME, asked, environ=counted)))
    assert "CUDA graphs" not in shown(one(judged(NAME, asked)))


@pytest.mark.parametrize(
    ("given", "advised"),
    [({"kv_cache_memory_bytes": 100_000_000_000}, "--kv-cache-memory-bytes "),
     ({"num_gpu_blocks_override": 1_000_000}, "--num-gpu-blocks-override ")],
)  # fmt: skip
def test_a_cache_of_a_given_size_has_to_be_there(given: dict[str, Any], advised: str) -> None:
    finding = one(judged(NAME, launch(max_model_len=2048, **given)), Severity.ERROR)
    assert "is asked for, which does not fit" in finding.summary
    assert finding.remedies[0].values["options"].startswith(advised)
    name, value = finding.remedies[0].values["options"].split()
    fewer = launch(max_model_len=2048, **{name[2:].replace("-", "_"): value})
    assert isinstance(judged(NAME, fewer), Passed)


@pytest.mark.parametrize("length", [4096, 16384, 32768])
@pytest.mark.parametrize("utilization", [0.75, 0.8, 0.9])
@pytest.mark.parametrize("sequences", [1, 16, 256])
def test_no_change_is_advised_that_can_be_left_out(length: int, utilization: float, sequences: int) -> None:
    asked: dict[str, Any] = {
        "max_model_len": length, "gpu_memory_utilization": utilization, "max_num_seqs": sequences
    }  # fmt: skip
    for remedy in getattr(judged(NAME, launch(**asked)), "findings", [])[:1]:
        for line in remedy.remedies:
            words = line.values.get("options", "").split()
            names = [word for word in words if word.startswith("--")]
            assert line.values["label"] != "would fit" or "--max-num-seqs" not in names or sequences > 1
            if line.values["label"] == "would fit" and len(names) > 1:
                check_minimal(asked, words)


def check_minimal(asked: dict[str, Any], words: list[str]) -> None:
    pairs = [(name[2:].replace("-", "_"), value) for name, value in zip(words[::2], words[1::2], strict=True)]
    for left_out in pairs:
        others = {name: value for name, value in pairs if name != left_out[0]}
        assert not isinstance(judged(NAME, launch(**{**asked, **others})), Passed), (pairs, left_out)
