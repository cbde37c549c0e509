import math
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.knowledge.gpus import GPUS, find
from cudadoctor.simulate.advice import Machine, Task, advise, longest_context, most_users, planned
from cudadoctor.simulate.gpu_memory import OUTCOMES, Card, Plan, plan
from cudadoctor.simulate.kv_cache import GIB, Flags
from cudadoctor.simulate.lora import adapters
from cudadoctor.simulate.model_length import with_length
from cudadoctor.simulate.model_shape import read_shape
from cudadoctor.simulate.overhead import batch_of
from cudadoctor.simulate.weights import Range, UnknownWeights, weights_from_index, weights_from_shape
from tests.simulate.models import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    GEMMA3_27B,
    GPT_OSS_20B,
    QWEN3_4B,
    QWEN3_32B,
    QWEN3_NEXT_80B,
    QWEN25_7B,
    QWEN25_32B,
    Config,
    shape,
)

AWQ_32B = shape(QWEN25_32B)
LOADED = Range(18.1436 * GIB, 18.1436 * GIB)
FP8 = Machine(("fp8",), host_free=64 * GIB)


def card(name: str, free_gib: float | None = None, count: int = 1) -> Card:
    gpu = find(name)
    assert gpu is not None
    free = None if free_gib is None else free_gib * GIB
    return Card(gpu.total_gib * GIB, gpu.name, free, gpu.unified, count)


def task(config: Config, name: str, free_gib: float | None = None, **flags: Any) -> Task:
    return Task(shape(config), Flags(**flags), card(name, free_gib))


def on_a_3090(utilization: float, **flags: Any) -> Task:
    given: dict[str, Any] = {
        "vllm": "0.12.0", "quantization": "awq", "max_model_len": 4096, "max_num_seqs": 64,
        "max_num_batched_tokens": 8192, "gpu_memory_utilization": utilization, **flags,
    }  # fmt: skip
    return task(QWEN25_32B, "rtx-3090", **given)


# --- five deployments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["auto", "fp8"])
def test_at_0_75_nothing_is_left_of_a_3090_whatever_the_kv_dtype(dtype: str) -> None:
    found = planned(on_a_3090(0.75, kv_cache_dtype=dtype))
    assert found.outcome == "no-kv-cache"
    assert found.available.low / GIB < -1.93 < found.available.high / GIB, "what was logged"


def test_at_0_90_the_logged_memory_of_a_3090_is_in_the_range() -> None:
    found = planned(on_a_3090(0.90))
    assert found.may_fit
    assert found.available.low / GIB < 1.17 < found.available.high / GIB
    assert found.at_least.tokens < 4784 < found.at_most.tokens


def test_raising_utilisation_is_what_helps_a_3090_and_lowering_is_not() -> None:
    found = advise(on_a_3090(0.75), FP8)
    assert found.raise_utilization is True
    first = dict(found.advice[0].changes)
    assert 0.9 <= first["gpu_memory_utilization"] <= 0.95  # type: ignore[operator]
    assert found.advice[0].sure
    assert all(one.plan.may_fit for one in found.advice)


@pytest.mark.parametrize(("utilization", "length"), [(0.85, 2048), (0.5, 1024), (0.3, 512)])
def test_an_80b_mixture_does_not_fit_a_16_gb_laptop_at_any_setting(utilization: float, length: int) -> None:
    flags: dict[str, Any] = {"vllm": "0.10.2", "quantization": "fp8", "gpu_memory_utilization": utilization}
    laptop = task(QWEN3_NEXT_80B, "rtx-4090-laptop", **flags, max_model_len=length)
    assert planned(laptop).outcome == "weights-do-not-fit"
    found = advise(laptop, Machine(("fp8",), 128 * GIB, offload=False))
    assert not found.advice
    assert found.needs is not None
    assert 76 < found.needs / GIB < 84, "of the class of 80 GB"


def test_131_072_tokens_are_too_long_for_a_16_gb_laptop() -> None:
    flags: dict[str, Any] = {
        "vllm": "0.10.1",
        "quantization": "fp8",
        "gpu_memory_utilization": 0.85,
        "max_num_seqs": 256,
    }
    laptop = task(QWEN3_4B, "rtx-4090-laptop", **flags, max_model_len=131072, max_num_batched_tokens=8192)
    assert planned(laptop).outcome == "too-long"
    lengths = [dict(one.changes).get("max_model_len") for one in advise(laptop, Machine()).advice if one.sure]
    assert any(isinstance(length, int) and 40_000 < length < 70_000 for length in lengths)


def test_a_32b_model_has_room_on_a_gb10() -> None:
    flags: dict[str, Any] = {
        "vllm": "0.10.1.1",
        "quantization": "fp8",
        "max_model_len": 32000,
        "max_num_seqs": 64,
    }
    found = planned(
        task(QWEN3_32B, "gb10", **flags, gpu_memory_utilization=0.9, max_num_batched_tokens=16384)
    )
    assert found.outcome == "fits"
    assert found.at_least.tokens <= 271_360 <= found.at_most.tokens


def test_a_long_window_for_two_fits_a_3060_and_the_first_try_is_tight() -> None:
    flags: dict[str, Any] = {
        "vllm": "0.9.2",
        "quantization": "awq",
        "gpu_memory_utilization": 0.88,
        "enforce_eager": True,
    }
    planned_profile = task(
        QWEN25_7B, "rtx-3060", **flags, max_model_len=12288, max_num_seqs=2, kv_cache_dtype="fp8"
    )
    assert planned(planned_profile).fits
    eight = task(QWEN25_7B, "rtx-3060", **flags, max_model_len=8192, max_num_seqs=6, kv_cache_dtype="fp8")
    found = planned(eight)
    assert found.fits
    assert found.at_least.concurrency is not None
    assert found.at_least.concurrency >= 6


# --- outcomes and advice ------------------------------------------------------------------------------------


def test_less_free_than_the_budget_is_its_own_outcome_and_lower_utilisation_helps() -> None:
    flags: dict[str, Any] = {
        "vllm": "0.12.0",
        "quantization": "awq",
        "max_model_len": 8192,
        "max_num_seqs": 16,
    }
    busy = task(QWEN25_7B, "rtx-3090", 14.0, **flags, gpu_memory_utilization=0.9)
    assert planned(busy).outcome == "not-free"
    found = advise(busy, Machine())
    assert found.raise_utilization is False
    assert dict(found.advice[0].changes) == {"gpu_memory_utilization": 0.55}, "0.59, less context and graphs"


def test_several_cards_are_advised_where_one_is_too_small() -> None:
    two = Task(
        shape(QWEN3_32B), Flags(vllm="0.12.0", max_model_len=8192, usage="server"), card("l40s", count=2)
    )
    found = advise(two, Machine())
    assert {"tensor_parallel_size": 2} in [dict(one.changes) for one in found.advice if one.sure]


def test_host_memory_is_advised_only_where_it_is_free_and_works() -> None:
    asked = on_a_3090(0.90, max_model_len=32768)
    with_room, without = advise(asked, FP8), advise(asked, Machine(("fp8",), host_free=0.5 * GIB))
    assert any("cpu_offload_gb" in dict(one.changes) for one in with_room.advice)
    assert not any("cpu_offload_gb" in dict(one.changes) for one in without.advice)
    assert not any(
        "cpu_offload_gb" in dict(one.changes) for one in advise(asked, Machine(offload=False)).advice
    )


def served(config: Config, name: str, version: str = "0.12.0", **flags: Any) -> Task:
    return task(config, name, vllm=version, usage="server", **flags)


def told(asked: Task, machine: Machine = FP8) -> list[tuple[str, dict[str, object]]]:
    return [(one.kind, dict(one.changes)) for one in advise(asked, machine).advice]


def test_the_least_utilisation_that_surely_starts_is_what_would_fit() -> None:
    asked = served(
        QWEN25_32B, "rtx-3090", quantization="awq", max_model_len=4096, gpu_memory_utilization=0.75
    )
    first, *more = told(asked)
    assert first == ("would fit", {"gpu_memory_utilization": 0.9}), "a round one, and no more than needed"
    assert not planned(asked, gpu_memory_utilization=0.85).fits
    assert more[0] == ("more room", {"gpu_memory_utilization": 0.9, "kv_cache_dtype": "fp8"})
    assert more[1] == ("more room", {"gpu_memory_utilization": 0.9, "max_num_seqs": 16})
    assert {kind for kind, _ in told(asked, Machine())} == {"would fit", "more room"}
    assert not any("kv_cache_dtype" in changes for _, changes in told(asked, Machine()))


def test_more_room_is_clearly_more() -> None:
    for asked in (on_a_3090(0.75), on_a_3090(0.9, max_model_len=32768, max_num_seqs=256)):
        first, *more = advise(asked, FP8).advice
        tokens = [one.plan.at_least.tokens for one in more if one.kind == "more room"]
        assert tokens
        assert min(tokens) >= 1.3 * first.plan.at_least.tokens


def test_of_changes_that_help_together_none_is_idle() -> None:
    asked = served(
        QWEN3_4B, "rtx-4090-laptop", quantization="fp8", max_model_len=131072, gpu_memory_utilization=0.85,
        max_num_batched_tokens=8192,
    )  # fmt: skip
    kept = next(changes for _, changes in told(asked) if "max_model_len" not in changes)
    assert len(kept) > 1
    assert planned(asked, **kept).fits
    for name in kept:
        assert not planned(asked, **{key: kept[key] for key in kept if key != name}).fits


def test_a_length_is_advised_beside_what_keeps_it() -> None:
    flags: dict[str, Any] = {"quantization": "awq", "max_model_len": 32768}
    kinds = [kind for kind, _ in told(served(QWEN25_32B, "rtx-3090", **flags))]
    changes = [changes for _, changes in told(served(QWEN25_32B, "rtx-3090", **flags))]
    assert kinds[:2] == ["would fit", "would fit"]
    assert len(kinds) <= 4
    assert [("max_model_len" in each) for each in changes[:2]] == [True, False]
    length = changes[0]["max_model_len"]
    assert isinstance(length, int)
    assert length % 512 == 0


def test_ranks_are_those_that_divide_the_heads_and_the_cards() -> None:
    two, three = (
        Task(shape(QWEN3_32B), Flags("0.12.0", max_model_len=8192, usage="server"), card("a10g", count=count))
        for count in (2, 7)
    )
    assert advise(two, Machine(offload=False)).advice == ()
    assert told(three, Machine(offload=False))[0] == ("would fit", {"tensor_parallel_size": 4})


def test_two_cards_with_a_shorter_length_come_before_weights_in_host_memory() -> None:
    two = Task(
        shape(QWEN3_32B), Flags("0.12.0", quantization="fp8", usage="server"), card("rtx-3090", count=2)
    )
    assert planned(two).outcome == "weights-do-not-fit"
    (_, first), *_ = told(two)
    assert first["tensor_parallel_size"] == 2
    assert "cpu_offload_gb" not in first


def test_where_memory_is_held_less_is_advised_only_where_that_is_enough() -> None:
    flags: dict[str, Any] = {"quantization": "awq", "max_model_len": 8192, "gpu_memory_utilization": 0.9}
    asked = task(QWEN25_7B, "rtx-3090", 6.0, vllm="0.12.0", **flags)
    found = advise(asked, Machine())
    assert (found.advice, found.raise_utilization, found.needs) == ((), None, None)


def test_what_only_may_start_is_called_so() -> None:
    asked = served(
        QWEN25_32B, "rtx-3090", quantization="awq", max_model_len=16384, gpu_memory_utilization=0.88,
        max_num_seqs=1, enforce_eager=True,
    )  # fmt: skip
    for kind, changes in told(asked, Machine(offload=False)):
        found = planned(asked, **changes)
        assert found.may_fit if kind == "may fit" else found.fits


# --- LoRA ---------------------------------------------------------------------------------------------------


def test_adapters_take_their_slots_whether_or_not_there_are_any() -> None:
    flags = Flags("0.12.0", max_model_len=4096, quantization="awq", max_loras=1, max_lora_rank=16)
    found = adapters(AWQ_32B, flags)
    # Of each of 64 layers, for one rank: q, k and v 3 x 5120 + 7168, o 5120 + 5120, gate and up 2 x 5120 +
    # 2 x 27648, down 27648 + 5120: `create_lora_weights` of vLLM 0.12.0, by hand.
    assert found.low == 64 * 131_072 * 16 * 2
    assert found.low < found.high < 1.2 * found.low
    four = adapters(AWQ_32B, structs.replace(flags, max_loras=4, max_lora_rank=64))
    assert four.low == 16 * found.low


def test_half_of_an_adapter_s_matrices_is_divided_over_the_ranks() -> None:
    flags = Flags("0.12.0", max_loras=1, tensor_parallel_size=2)
    alone, two = (adapters(AWQ_32B, structs.replace(flags, tensor_parallel_size=size)).low for size in (1, 2))
    sharded = adapters(AWQ_32B, structs.replace(flags, fully_sharded_loras=True)).low
    assert alone / 2 == sharded < two < alone


def test_adapters_are_a_part_of_the_plan_and_fewer_of_them_are_advised() -> None:
    asked = on_a_3090(0.90, max_num_batched_tokens=2048, max_num_seqs=16, max_loras=8, max_lora_rank=64)
    assert "LoRA adapters" in [part.name for part in planned(asked).overhead]
    assert not planned(asked).may_fit
    assert planned(asked, max_loras=0).fits
    assert any("max_loras" in changes for _, changes in told(asked))


def test_experts_have_slots_too() -> None:
    flags = Flags("0.12.0", max_loras=1)
    assert adapters(shape(QWEN3_NEXT_80B), flags).low > 10 * adapters(shape(QWEN3_4B), flags).low
    assert adapters(shape(DEEPSEEK_V2_LITE), flags).low > 0


def test_what_fits_needs_no_advice() -> None:
    assert advise(task(QWEN25_7B, "l40s", vllm="0.12.0", max_model_len=4096), FP8).advice == ()


def test_one_user_gets_a_longer_context_than_many_and_many_are_more() -> None:
    asked = on_a_3090(0.95, max_num_batched_tokens=2048)
    (*_, one), (*_, many) = longest_context(asked, FP8), most_users(asked, FP8, 1024)
    assert one.sure
    assert many.sure
    assert one.plan.max_model_len > 4 * many.plan.max_model_len
    users = dict(many.changes)["max_num_seqs"]
    assert isinstance(users, int)
    assert many.plan.at_least.concurrency is not None
    assert 4 < users <= many.plan.at_least.concurrency


def test_a_hybrid_needs_a_block_of_state_for_every_sequence() -> None:
    flags = Flags(vllm="0.26.0", max_model_len=512, max_num_seqs=1024, max_num_batched_tokens=2048)
    small = Task(shape(QWEN3_NEXT_80B), flags, Card(82 * GIB), checkpoint=72 * GIB)
    assert planned(small).outcome == "too-many-sequences"
    assert planned(small, vllm="0.12.0").outcome != "too-many-sequences", "that release does not ask"
    assert planned(small, enforce_eager=True).outcome != "too-many-sequences", "no graphs are captured"
    assert planned(small, max_num_seqs=None, max_num_batched_tokens=8192).outcome == "too-many-sequences"
    assert any("max_num_seqs" in dict(one.changes) for one in advise(small, Machine()).advice)


def test_a_cache_of_given_bytes_leaves_utilisation_aside() -> None:
    flags = Flags(
        vllm="0.12.0", max_model_len=4096, kv_cache_memory_bytes=2 * GIB, gpu_memory_utilization=0.1
    )
    found = plan(shape(QWEN25_7B), flags, card("rtx-3090"), Range(5.3 * GIB, 5.3 * GIB))
    assert found.fits
    assert found.at_least == found.at_most


def test_a_cache_of_given_bytes_must_fit_on_the_card() -> None:
    def with_bytes(count: int, **flags: Any) -> Plan:
        return planned(task(QWEN25_7B, "rtx-4090", vllm="0.12.0", kv_cache_memory_bytes=count, **flags))

    large = with_bytes(100_000_000_000, max_model_len=8192)
    assert large.outcome == "cache-too-large"
    assert large.room is not None
    assert large.room.high < 24 * GIB - large.weights.low
    assert with_bytes(2 * GIB, max_model_len=8192).fits
    tight = math.floor((large.room.low + large.room.high) / 2)
    assert with_bytes(tight, max_model_len=8192).outcome == "may-fit"
    assert with_bytes(GIB // 4, max_model_len=8192).outcome == "too-long"


def test_less_free_than_the_budget_stops_a_cache_of_given_bytes_too() -> None:
    busy = task(QWEN25_7B, "rtx-4090", 18.0, vllm="0.12.0", kv_cache_memory_bytes=GIB, max_model_len=8192)
    assert planned(busy).outcome == "not-free"
    assert planned(busy, gpu_memory_utilization=0.7).outcome in ("fits", "may-fit")


def with_blocks(count: int, version: str = "0.12.0", **flags: Any) -> Plan:
    asked: dict[str, Any] = {"max_model_len": 8192, "num_gpu_blocks_override": count, **flags}
    return planned(task(QWEN25_7B, "rtx-4090", vllm=version, **asked))


@pytest.mark.parametrize("version", ["0.12.0", "0.25.0"])
def test_a_number_of_blocks_must_fit_on_the_card_and_hold_a_request(version: str) -> None:
    assert with_blocks(100_000_000, version).outcome == "cache-too-large"
    assert with_blocks(1000, version).fits
    assert with_blocks(10, version).outcome == "too-long"
    assert with_blocks(10, version).longest == (160, 160)
    assert with_blocks(0, version).outcome == "no-kv-cache"


def test_the_length_is_held_against_the_blocks_alone_in_later_releases() -> None:
    assert with_blocks(600, "0.12.0", gpu_memory_utilization=0.6).outcome == "no-kv-cache"
    assert with_blocks(600, "0.25.0", gpu_memory_utilization=0.6).fits
    with pytest.raises(ValueError, match="not looked at"):
        with_blocks(600, "0.22.0")


def test_a_window_counts_the_batch_that_this_card_has_by_default() -> None:
    gemma = {**GEMMA3_27B["text_config"], "max_position_embeddings": 131072}
    flags: dict[str, Any] = {"vllm": "0.12.0", "max_model_len": 32768}
    large = task(gemma, "h100", **flags, usage="server")
    assert planned(large).needed == planned(large, max_num_batched_tokens=8192).needed
    assert planned(large, usage="llm").needed > planned(large).needed
    unknown = planned(large, usage="")
    assert unknown.needed == planned(large, usage="llm").needed, "the larger default, to be sure"
    small = task(gemma, "rtx-3090", **flags, usage="server")
    assert planned(small).needed == planned(small, max_num_batched_tokens=2048).needed


@pytest.mark.parametrize(("version", "length"), [("0.12.0", 131072), ("0.28.0", 131072), ("0.30.0", 32768)])
def test_a_model_is_planned_for_the_length_that_its_scaling_gives(version: str, length: int) -> None:
    scaling = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    config = {**QWEN25_7B, "rope_scaling": scaling}
    long = with_length(shape(config), config, version)
    found = plan(long, Flags(vllm=version, usage="server"), card("rtx-4090"))
    assert (long.positions, found.max_model_len) == (length, length)


def test_a_length_that_is_not_decided_stays_what_config_json_says() -> None:
    config = {**QWEN25_7B, "rope_scaling": {"type": "yarn"}}
    assert with_length(shape(config), config, "0.12.0").positions == 32768
    assert with_length(shape(QWEN25_7B), QWEN25_7B, "9.0").positions == 32768


def test_weights_beyond_any_card_are_no_plan() -> None:
    huge = shape(QWEN25_7B, num_hidden_layers=10_000, hidden_size=1 << 22, intermediate_size=1 << 22)
    with pytest.raises(ValueError, match="weights"):
        plan(huge, Flags(vllm="0.12.0", max_model_len=1024), card("rtx-4090"))


# --- weights and overhead -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "quantization", "tensor", "logged"),
    [
        (QWEN25_32B, "awq", 1, 18.1436),
        (QWEN3_32B, "", 1, 61.03),
        (QWEN25_7B, "awq", 1, 5.29),
        (GPT_OSS_20B, "mxfp4", 1, 13.47),
        (QWEN25_7B, "", 2, 7.1217),
        (DEEPSEEK_V2_LITE, "", 1, 29.3),
    ],
)
def test_weights_counted_from_config_json_hold_what_was_loaded(
    config: Config, quantization: str, tensor: int, logged: float
) -> None:
    flags = Flags(vllm="0.12.0", quantization=quantization, tensor_parallel_size=tensor)
    found = weights_from_shape(shape(config), flags)
    assert found.low <= logged * GIB <= found.high
    assert found.high < found.low * 1.07


def test_a_vision_tower_is_counted() -> None:
    flags = Flags(vllm="0.12.0")
    unknown = weights_from_shape(read_shape({**GEMMA3_27B, "vision_config": {}}), flags)
    assert unknown.low < weights_from_shape(read_shape(GEMMA3_27B), flags).low < unknown.high


def test_an_unknown_format_is_said() -> None:
    with pytest.raises(UnknownWeights, match="wonder"):
        weights_from_shape(AWQ_32B, Flags(vllm="0.12.0", quantization="wonder"))
    with pytest.raises(UnknownWeights, match="intermediate_size"):
        weights_from_shape(shape(QWEN25_32B, intermediate_size=None), Flags(vllm="0.12.0"))


def test_large_cards_have_larger_batches_by_default_but_not_the_a100() -> None:
    flags = Flags(vllm="0.12.0", max_model_len=16384, usage="server")
    found = [batch_of(flags, card(name).total, name) for name in ("h100", "a100-80", "rtx-3090")]
    assert [(batch.tokens.high, batch.sequences) for batch in found] == [
        (8192, 1024),
        (2048, 256),
        (2048, 256),
    ]


def test_sorting_logits_is_what_1024_sequences_cost_on_an_h100() -> None:
    flags = Flags(vllm="0.12.0", max_model_len=16000, gpu_memory_utilization=0.9)
    found = plan(shape(QWEN3_32B), flags, card("h100"), Range(61.03 * GIB, 61.03 * GIB))
    activations = found.overhead[0]
    assert "logits of 1024 sequences" in activations.reason
    assert activations.bytes.low / GIB < 5.64 < activations.bytes.high / GIB, "what a log of 0.11.0 says"
    few = plan(shape(QWEN3_32B), Flags(vllm="0.12.0", max_model_len=16000, max_num_seqs=64), card("h100"))
    assert "forward pass" in few.overhead[0].reason


def test_graphs_come_off_the_cache_since_0_20_and_not_where_there_are_none() -> None:
    def parts(version: str, **flags: Any) -> list[str]:
        asked = Flags(vllm=version, max_model_len=4096, quantization="awq", **flags)
        return [part.name for part in plan(AWQ_32B, asked, card("rtx-3090")).overhead]

    assert "CUDA graphs" not in parts("0.19.0")
    assert "CUDA graphs" in parts("0.20.0")
    assert "CUDA graphs" not in parts("0.20.0", enforce_eager=True)
    assert "CUDA graphs" in parts("0.19.0", counts_graphs=True)


# --- cards --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rtx-3090", "RTX 3090", "NVIDIA GeForce RTX 3090", "rtx_3090"])
def test_a_card_is_found_by_the_names_people_use(name: str) -> None:
    found = find(name)
    assert found is not None
    assert (found.name, found.total_gib, found.capability) == ("rtx-3090", 23.58, "8.6")


def test_every_card_has_a_source_and_less_than_its_box_says() -> None:
    assert all(gpu.source and gpu.total_gib > 0 and "." in gpu.capability for gpu in GPUS)
    assert len({gpu.name for gpu in GPUS}) == len(GPUS)
    assert find("rtx-3091") is None


# --- properties ---------------------------------------------------------------------------------------------

NUMBERS = st.one_of(st.integers(-(10**30), 10**30), st.floats(), st.none(), st.just("4096"), st.just(True))
MODELS = st.sampled_from([shape(config) for config in (QWEN25_32B, QWEN3_NEXT_80B, GPT_OSS_20B, QWEN3_4B)])


@settings(max_examples=100, deadline=1000)
@given(MODELS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS)
def test_any_numbers_give_a_plan_or_say_what_is_wrong_with_them(
    model: Any, length: Any, sequences: Any, utilization: Any, total: Any, tensor: Any
) -> None:
    flags = Flags(
        vllm="0.12.0", max_model_len=length, max_num_seqs=sequences, gpu_memory_utilization=utilization,
        tensor_parallel_size=tensor,
    )  # fmt: skip
    started = time.perf_counter()
    try:
        assert plan(model, flags, Card(total)).outcome in OUTCOMES
    except ValueError as error:
        assert str(error)
    assert time.perf_counter() - started < 1


@settings(max_examples=50, deadline=1000)
@given(MODELS, st.integers(1, 400), st.integers(0, 100), st.integers(1, 200_000))
def test_a_larger_card_never_holds_fewer_tokens(model: Any, gib: int, more: int, length: int) -> None:
    flags = Flags(vllm="0.12.0", max_model_len=length, max_num_seqs=64, max_num_batched_tokens=8192)
    small, large = (plan(model, flags, Card(size * GIB)) for size in (gib, gib + more))
    assert small.at_least.tokens <= large.at_least.tokens
    assert small.at_least.tokens <= small.at_most.tokens
    assert OUTCOMES.index(large.outcome) <= OUTCOMES.index(small.outcome)


@settings(max_examples=25, deadline=2000)
@given(MODELS, st.integers(4, 200), st.integers(1, 200_000), st.floats(0.1, 1.0))
def test_every_advice_starts_by_the_same_model(model: Any, gib: int, length: int, utilization: float) -> None:
    asked = Task(
        model, Flags(vllm="0.12.0", max_model_len=length, gpu_memory_utilization=utilization), Card(gib * GIB)
    )
    for one in advise(asked, FP8).advice:
        assert planned(asked, **dict(one.changes)).may_fit


def test_layers_that_predict_ahead_are_in_the_index_and_not_loaded() -> None:
    flags, size = Flags(vllm="0.12.0", quantization="fp8"), 641.3 * GIB
    deepseek = shape(DEEPSEEK_V3)
    found = weights_from_index(size, flags, deepseek)
    assert found.low < size - 14 * GIB, "of 685e9 parameters 14e9 are that layer and its embeddings"
    assert found.low > size - 19 * GIB
    assert found.high == weights_from_index(size, flags).high
    drafted = weights_from_index(size, structs.replace(flags, draft_layers=1), deepseek)
    assert drafted.low == weights_from_index(size, flags).low, "as a drafter it is loaded"
    unknown = weights_from_index(size, structs.replace(flags, quantization="mystery"), deepseek)
    assert found.low * 0.98 < unknown.low < size
    assert weights_from_index(size, flags, shape(QWEN3_32B)) == weights_from_index(size, flags)


def test_an_index_is_divided_over_the_ranks() -> None:
    alone, two = (
        weights_from_index(60 * GIB, Flags(vllm="0.12.0", tensor_parallel_size=tp)) for tp in (1, 2)
    )
    assert alone.low <= 60 * GIB <= alone.high
    assert two.low <= 30 * GIB <= two.high
