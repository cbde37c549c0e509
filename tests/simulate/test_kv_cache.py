from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.simulate.kv_cache import (
    GIB,
    Capacity,
    Flags,
    Layout,
    Unplannable,
    blocks_per_request,
    bytes_per_token,
    capacity,
    largest_len,
    lay_out,
    needed_bytes,
    pipeline_layers,
)
from cudadoctor.simulate.model_shape import Shape, read_shape
from tests.simulate.models import (
    DEEPSEEK_V2_LITE,
    DEEPSEEK_V3,
    GEMMA3_27B,
    GPT_OSS_20B,
    GRANITE_HYBRID,
    QWEN3_32B,
    QWEN3_NEXT_80B,
    QWEN25_32B,
    shape,
)

UNIFORM = shape(QWEN25_32B)


def holds(model: Shape, gib: float, **flags: Any) -> Capacity:
    return capacity(lay_out(model, Flags(**{"vllm": "0.12.0", **flags})), int(gib * GIB))


# --- figures that were logged -------------------------------------------------------------------------------


def test_fp8_keys_of_a_32b_model_serve_2048_tokens_4_67_times() -> None:
    # 1.17 GiB are two decimals of a log: 598 blocks give 4.67, and lie within them.
    printed = holds(UNIFORM, 1.168, kv_cache_dtype="fp8", max_model_len=2048).concurrency
    assert f"{printed:.2f}" == "4.67"


def test_bf16_keys_of_a_32b_model_leave_4784_tokens_in_the_same_memory() -> None:
    held = holds(UNIFORM, 1.17, max_model_len=4096)
    assert held.tokens == 4784
    assert f"{held.concurrency:.2f}" == "1.17"


def test_271_360_tokens_of_qwen3_32b_take_66_gib() -> None:
    layout = lay_out(shape(QWEN3_32B), Flags(vllm="0.10.1.1", max_model_len=32000, quantization="fp8"))
    assert needed_bytes(layout, 271_360) / GIB == 66.25, "fp8 weights leave the KV cache in bf16"


def test_a_hybrids_tokens_are_counted_by_its_smallest_block() -> None:
    next_80b = shape(QWEN3_NEXT_80B)
    assert holds(next_80b, 11.94, vllm="0.10.2", max_model_len=512).tokens == 122_368
    assert holds(next_80b, 11.94, vllm="0.10.2", max_model_len=1024).tokens == 239 * 544


def test_pages_of_a_hybrid_hold_the_recurrent_state() -> None:
    layout = lay_out(shape(QWEN3_NEXT_80B), Flags(vllm="0.10.2"))
    assert (layout.block, layout.page, layout.number_of_groups) == (544, 1_114_112, 4)


# --- rules --------------------------------------------------------------------------------------------------


def test_since_0_21_the_tokens_are_those_of_that_concurrency() -> None:
    assert holds(UNIFORM, 1.17, vllm="0.20.2", max_model_len=4096).tokens == 4784
    held = holds(UNIFORM, 1.17, vllm="0.21.0", max_model_len=4001)
    assert held.concurrency is not None
    assert held.tokens == int(held.concurrency * 4001) != 4784


def test_heads_are_divided_over_ranks_until_each_has_one() -> None:
    tokens = [bytes_per_token(UNIFORM, Flags(vllm="0.12.0", tensor_parallel_size=tp)) for tp in (1, 2, 8, 16)]
    assert tokens == [4096, 2048, 512, 512]


def test_a_latent_vector_is_never_divided() -> None:
    lite = shape(DEEPSEEK_V2_LITE)
    assert bytes_per_token(lite, Flags(vllm="0.12.0", tensor_parallel_size=8)) == 1152
    assert bytes_per_token(lite, Flags(vllm="0.12.0", kv_cache_dtype="fp8")) == 576
    assert bytes_per_token(lite, Flags(vllm="0.12.0", kv_cache_dtype="fp8_ds_mla")) == 656


@pytest.mark.parametrize(
    ("method", "version", "width"),
    [
        ("compressed-tensors", "0.12.0", 2),
        ("compressed-tensors", "0.14.1", 2),
        ("compressed-tensors", "0.16.0", 1),
        ("compressed-tensors", "0.33.0", 1),
        ("modelopt", "0.12.0", 2),
        ("modelopt", "0.14.0", 1),
    ],
)
def test_auto_is_the_checkpoints_own_scheme_from_some_release_on(
    method: str, version: str, width: int
) -> None:
    scheme = {"num_bits": 8, "type": "float", "dynamic": False}
    stated = shape(QWEN25_32B, quantization_config={"quant_method": method, "kv_cache_scheme": scheme})
    assert bytes_per_token(stated, Flags(vllm=version)) == 2048 * width
    assert bytes_per_token(stated, Flags(vllm=version, kv_cache_dtype="bfloat16")) == 4096


@pytest.mark.parametrize(
    ("stated", "version"),
    [
        ({"quant_method": "compressed-tensors", "kv_cache_scheme": {"num_bits": 8}}, "0.15.1"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "FP8"}, "0.13.0"),
        ({"quant_method": "modelopt", "kv_cache_quant_algo": "NVFP4"}, "0.25.0"),
    ],
)
def test_a_scheme_in_a_release_that_was_not_looked_at_is_not_planned(
    stated: dict[str, object], version: str
) -> None:
    with pytest.raises(Unplannable, match="own KV cache"):
        lay_out(shape(QWEN25_32B, quantization_config=stated), Flags(vllm=version))


def test_latent_attention_takes_up_no_scheme_but_modelopts() -> None:
    scheme = {"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}
    widths = [
        bytes_per_token(
            shape(DEEPSEEK_V2_LITE, quantization_config={**scheme, "quant_method": method}), flags
        )
        for flags in [Flags(vllm="0.20.0")]
        for method in ("compressed-tensors", "modelopt")
    ]
    assert widths == [1152, 576]


@pytest.mark.parametrize(
    ("config", "version", "states"),
    [
        # Switched off for what cannot keep a state for each block, one for each block for what can.
        (QWEN3_NEXT_80B, "0.10.2", 1),
        (QWEN3_NEXT_80B, "0.12.0", 1),
        (QWEN3_NEXT_80B, "0.14.0", 1),
        (QWEN3_NEXT_80B, "0.16.0", 2),
        (QWEN3_NEXT_80B, "0.33.0", 2),
        (GRANITE_HYBRID, "0.10.2", 1),
        (GRANITE_HYBRID, "0.12.0", 64),
        (GRANITE_HYBRID, "0.20.0", 64),
        (GRANITE_HYBRID, "0.29.0", 2),
    ],
)
def test_what_prefix_caching_keeps_of_a_state_depends_on_the_release(
    config: dict[str, Any], version: str, states: int
) -> None:
    kept, without = (
        lay_out(shape(config), Flags(vllm=version, enable_prefix_caching=asked)) for asked in (True, False)
    )
    assert state_blocks(without, 32768) == 1
    assert state_blocks(kept, 32768) == states


def state_blocks(layout: Layout, length: int) -> int:
    """Return how many blocks one request takes in each group of layers with a state."""
    groups = {group.kind: group.count for group in layout.groups}
    attention = groups["full"] * -(-length // layout.block)
    return (blocks_per_request(layout, length) - attention) // groups["recurrent"]


def test_blocks_that_keep_a_state_each_are_whole_chunks_of_the_kernel() -> None:
    granite = shape(GRANITE_HYBRID)
    flags: dict[str, Any] = {"vllm": "0.12.0", "enable_prefix_caching": True}
    # A state of 794,112 bytes is what 388 tokens of 2,048 bytes take.
    assert lay_out(granite, Flags(vllm="0.12.0")).block == 400
    assert lay_out(granite, Flags(**flags)).block == 512, "two chunks of 256"
    assert lay_out(granite, Flags(**flags, mamba_block_size=64)).block == 448
    wide = lay_out(granite, Flags(**flags, block_size=1024))
    assert (wide.block, state_blocks(wide, 32768)) == (1024, 64), "states go by the smaller block"


@pytest.mark.parametrize(("config", "version"), [(QWEN3_NEXT_80B, "0.15.0"), (GRANITE_HYBRID, "0.11.0")])
def test_prefixes_of_hybrids_in_a_release_that_was_not_looked_at_are_not_planned(
    config: dict[str, Any], version: str
) -> None:
    with pytest.raises(Unplannable, match="prefix-caching"):
        lay_out(shape(config), Flags(vllm=version, enable_prefix_caching=True))
    assert lay_out(shape(config), Flags(vllm=version))


def test_a_window_counts_the_tokens_of_a_batch() -> None:
    gemma, flags = read_shape(GEMMA3_27B), Flags(vllm="0.12.0", max_model_len=32768)
    few, many = (needed_bytes(lay_out(gemma, flags, batched), 32768) for batched in (2048, 8192))
    asked = Flags(vllm="0.12.0", max_model_len=32768, max_num_batched_tokens=8192)
    assert few < many == needed_bytes(lay_out(gemma, asked), 32768)


def test_heads_of_no_width_are_refused() -> None:
    with pytest.raises(Unplannable, match="no width"):
        lay_out(structs.replace(UNIFORM, head_dim=0), Flags(vllm="0.12.0"))


def test_the_index_of_sparse_attention_is_not_modelled() -> None:
    with pytest.raises(Unplannable, match="index"):
        lay_out(shape(DEEPSEEK_V3, index_topk=2048), Flags(vllm="0.12.0"))


def test_the_poorest_stage_of_a_pipeline_decides() -> None:
    lite = shape(DEEPSEEK_V2_LITE)
    layout = lay_out(lite, Flags(vllm="0.9.2", max_model_len=1024, pipeline_parallel_size=2))
    assert layout.stages == (14, 13)
    assert capacity(layout, [int(12.13 * GIB), int(11.33 * GIB)]).tokens == pytest.approx(807_792, rel=0.001)


def test_left_over_layers_go_to_later_stages_but_not_the_last() -> None:
    assert pipeline_layers(27, 2) == (14, 13)
    assert pipeline_layers(30, 4) == (7, 8, 8, 7)


def test_sliding_layers_share_the_pool_in_groups() -> None:
    gemma = read_shape(GEMMA3_27B)
    layout = lay_out(gemma, Flags(vllm="0.13.0", max_model_len=131072))
    assert layout.number_of_groups == 7, "52 sliding layers are six groups of ten, the last with padding"
    assert holds(gemma, 35.31, vllm="0.13.0", max_model_len=131072).tokens == pytest.approx(66_112, rel=0.001)


def test_nearly_equal_numbers_of_layers_are_padded_instead() -> None:
    drafted = Flags(vllm="0.12.0", max_model_len=4096, draft_layers=1)
    assert lay_out(shape(GPT_OSS_20B), drafted).number_of_groups == 2, "12 sliding and 13 full"
    old = Flags(vllm="0.11.0", max_model_len=4096, draft_layers=1)
    assert lay_out(shape(GPT_OSS_20B), old).number_of_groups == 3


def test_without_the_hybrid_manager_sliding_layers_are_billed_as_full() -> None:
    alone = lay_out(shape(GPT_OSS_20B), Flags(vllm="0.12.0", disable_hybrid_kv_cache_manager=True))
    assert (
        needed_bytes(alone, 100_000)
        / needed_bytes(lay_out(shape(GPT_OSS_20B), Flags(vllm="0.12.0")), 100_000)
        > 1.9
    )


def test_cross_attention_reserves_the_whole_encoder() -> None:
    whisper = shape(
        {"model_type": "whisper", "decoder_layers": 32, "decoder_attention_heads": 20, "d_model": 1280}
    )
    flags = Flags(vllm="0.21.0", max_model_len=448, max_num_batched_tokens=2048)
    assert capacity(lay_out(whisper, flags), int(16.9 * GIB)).tokens == pytest.approx(19_881, rel=0.001)


def test_a_null_block_is_held_back_since_0_30() -> None:
    exact = lay_out(UNIFORM, Flags(vllm="0.29.0"))
    room = needed_bytes(exact, 4096)
    assert largest_len(exact, room, 10_000) == 4096
    assert largest_len(lay_out(UNIFORM, Flags(vllm="0.30.0")), room, 10_000) == 4080


@pytest.mark.parametrize(
    "flags",
    [
        {"vllm": "latest"},
        {"max_model_len": 0},
        {"max_model_len": 10**30},
        {"max_model_len": "4096"},
        {"tensor_parallel_size": -2},
        {"gpu_memory_utilization": float("nan")},
        {"gpu_memory_utilization": 90},
        {"kv_cache_dtype": "nvfp4"},
        {"pipeline_parallel_size": 65},
        {"pp_layer_partition": (60, 5, 1), "pipeline_parallel_size": 2},
        {"block_size": True},
    ],
)
def test_impossible_flags_are_refused(flags: dict[str, Any]) -> None:
    with pytest.raises(Unplannable):
        lay_out(UNIFORM, Flags(**{"vllm": "0.12.0", **flags}))


# --- properties ---------------------------------------------------------------------------------------------

MODELS = st.sampled_from(
    [shape(config) for config in (QWEN25_32B, QWEN3_NEXT_80B, GPT_OSS_20B, DEEPSEEK_V2_LITE)]
)
VERSIONS = st.sampled_from(["0.9.2", "0.12.0", "0.18.1", "0.21.0", "0.28.0", "0.33.0"])
LENGTHS = st.integers(1, 1 << 20)


@settings(max_examples=60, deadline=500)
@given(MODELS, VERSIONS, LENGTHS, st.integers(0, 1 << 38), st.integers(0, 1 << 38))
def test_more_memory_never_holds_fewer_tokens(
    model: Shape, version: str, length: int, one: int, more: int
) -> None:
    layout = lay_out(model, Flags(vllm=version, max_model_len=length))
    small, large = capacity(layout, one), capacity(layout, one + more)
    assert small.tokens <= large.tokens
    assert largest_len(layout, one, 1 << 20) <= largest_len(layout, one + more, 1 << 20)


@settings(max_examples=60, deadline=500)
@given(MODELS, VERSIONS, st.integers(0, 5))
def test_more_ranks_never_take_more_cache_on_each(model: Shape, version: str, power: int) -> None:
    few, many = (Flags(vllm=version, tensor_parallel_size=1 << number) for number in (power, power + 1))
    assert bytes_per_token(model, many) <= bytes_per_token(model, few)


@settings(max_examples=60, deadline=500)
@given(MODELS, VERSIONS, st.integers(1 << 20, 1 << 38))
def test_the_longest_length_is_what_is_needed_for_it(model: Shape, version: str, available: int) -> None:
    layout = lay_out(model, Flags(vllm=version))
    longest = largest_len(layout, available, 1 << 20)
    assert not longest or needed_bytes(layout, longest) <= available
    assert longest == 1 << 20 or needed_bytes(layout, longest + 1) > available - layout.bytes_per_block
