import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.simulate.model_shape import UnreadableShape, read_shape
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

KEYS = sorted(
    {*QWEN3_NEXT_80B, *DEEPSEEK_V2_LITE, *GPT_OSS_20B, "text_config", "vision_config", "quantization_config"}
)
WORDS = st.sampled_from(["", "mamba", "full_attention", "M*-", "x", "9"])
ANYTHING = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**30), 10**30), st.floats(), WORDS, st.lists(WORDS, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), st.integers(0, 9), max_size=3),
)  # fmt: skip


def test_heads_are_as_wide_as_config_json_says_or_as_the_hidden_size_leaves() -> None:
    assert shape(QWEN3_32B).head_dim == 128, "given; 5120 / 64 is 80"
    assert shape(QWEN25_32B).head_dim == 128
    assert shape(QWEN25_32B, head_dim=None).head_dim == 128


def test_a_sliding_window_that_is_not_used_is_none() -> None:
    assert (shape(QWEN25_32B).full, shape(QWEN25_32B).sliding) == (64, 0)
    assert shape(QWEN25_32B, use_sliding_window=True).sliding == 64


def test_layers_are_told_apart_by_name_by_interval_and_by_family() -> None:
    assert (shape(GPT_OSS_20B).full, shape(GPT_OSS_20B).sliding) == (12, 12)
    assert (shape(QWEN3_NEXT_80B).full, shape(QWEN3_NEXT_80B).recurrent) == (12, 36)
    gemma = read_shape(GEMMA3_27B)
    assert (gemma.full, gemma.sliding, gemma.window) == (10, 52, 1024)


def test_letters_tell_layers_apart() -> None:
    nemotron = {
        "model_type": "nemotron_h", "hybrid_override_pattern": "M-M*-M", "mamba_num_heads": 128,
        "mamba_head_dim": 64, "ssm_state_size": 128, "n_groups": 8, "conv_kernel": 4, "sliding_window": None,
    }  # fmt: skip
    found = shape(QWEN3_32B, **nemotron, num_hidden_layers=6)
    assert (found.recurrent, found.full, found.without_cache, found.layers) == (3, 1, 2, 6)
    exaone = shape(QWEN25_32B, use_sliding_window=True, sliding_window_pattern="LLLG")
    assert (exaone.sliding, exaone.full) == (48, 16)


def test_the_language_models_part_of_a_nested_config_counts() -> None:
    found = read_shape(GEMMA3_27B)
    assert found.multimodal
    assert 0.3e9 < found.vision_parameters < 0.8e9
    assert found.tied


def test_latent_attention_has_one_head_of_its_own_width() -> None:
    found = shape(DEEPSEEK_V2_LITE)
    assert (found.head_dim, found.kv_heads, found.attention) == (576, 1, 27)


def test_a_checkpoints_own_scheme_of_the_cache_is_read() -> None:
    scheme = {"kv_cache_scheme": {"num_bits": 8, "type": "float"}}
    assert shape(QWEN3_32B, quantization_config=scheme).kv_scheme_bits == 8
    assert shape(QWEN3_32B, quantization_config={"kv_cache_scheme": None}).kv_scheme_bits == 0


@pytest.mark.parametrize(
    ("stated", "bits"),
    [
        ({"kv_cache_quant_algo": "FP8"}, 8),
        ({"quantization": {"kv_cache_quant_algo": "FP8"}}, 8),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False}}, 8),
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, 0),
        ({"kv_cache_quant_algo": "NVFP4"}, 4),
        ({"kv_cache_quant_algo": None}, 0),
        ({"kv_cache_quant_algo": ["FP8"]}, 0),
    ],
)
def test_modelopt_states_its_scheme_in_several_ways(stated: dict[str, object], bits: int) -> None:
    found = shape(QWEN3_32B, quantization_config={"quant_method": "modelopt", **stated})
    assert (found.kv_scheme_bits, found.kv_scheme_modelopt) == (bits, True)


def test_layers_that_predict_ahead_are_counted() -> None:
    assert shape(DEEPSEEK_V3).ahead == 1
    assert shape(QWEN3_NEXT_80B, mtp_num_hidden_layers=2).ahead == 2
    assert shape(QWEN3_NEXT_80B).ahead == 1, "its checkpoint has one that config.json does not count"
    assert shape(QWEN3_32B).ahead == 0
    assert shape(DEEPSEEK_V3).ahead_alone
    assert not shape(QWEN3_NEXT_80B).ahead_alone, "it has the embeddings and the head of the model"


def test_hybrids_tell_their_chunk_and_whether_prefixes_are_kept() -> None:
    granite, next_80b = shape(GRANITE_HYBRID).state, shape(QWEN3_NEXT_80B).state
    assert granite is not None
    assert next_80b is not None
    assert (granite.chunk, granite.keeps_prefixes) == (256, True)
    assert (next_80b.chunk, next_80b.keeps_prefixes) == (2048, False)


@pytest.mark.parametrize("value", [-1, 10**30, "64", 1.5, True, float("nan")])
def test_what_is_no_size_is_refused_by_its_name(value: object) -> None:
    with pytest.raises(UnreadableShape, match="num_key_value_heads"):
        shape(QWEN3_32B, num_key_value_heads=value)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"layer_types": ["retention"] * 64}, "retention"),
        ({"block_configs": [{}]}, "block_configs"),
        ({"head_dim": 256, "global_head_dim": 512}, "different sizes"),
        ({"num_hidden_layers": None}, "num_hidden_layers is not given"),
        ({"num_hidden_layers": 10**9}, "at most 10000 can be"),
        ({"hidden_size": None, "head_dim": None}, "head_dim"),
        ({"hidden_size": 7, "head_dim": 0}, "nothing for each of 64 heads"),
        ({"layer_types": ["full_attention"] * 4}, "4 of 64 layers"),
        ({"hybrid_override_pattern": "M*-" * 4000}, "12000 layers"),
        (
            {"num_experts": 8, "first_k_dense_replace": 1000},
            "first_k_dense_replace is 1000, where at most 64 can be",
        ),
        ({"num_experts": 8, "num_experts_per_tok": 9}, "num_experts_per_tok is 9"),
        ({"num_experts": 2**40 - 1, "moe_intermediate_size": 2048}, "num_experts"),
        ({"vision_config": {"hidden_size": 2**39, "depth": 2}}, "hidden_size"),
        ({"vision_config": {"hidden_size": 1152, "depth": 2**39}}, "depth"),
        ({"vocab_size": 2**39}, "vocab_size"),
        ({"num_nextn_predict_layers": 2**39}, "num_nextn_predict_layers"),
    ],
)
def test_what_is_not_modelled_is_said(changes: dict[str, object], says: str) -> None:
    with pytest.raises(UnreadableShape, match=says):
        shape(QWEN3_32B, **changes)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(UnreadableShape, match="object"):
        read_shape([QWEN3_32B])


@settings(max_examples=150, deadline=500)
@given(st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=8))
def test_any_config_gives_a_shape_or_says_what_is_wrong_with_it(changes: dict[str, object]) -> None:
    try:
        found = read_shape({**QWEN3_NEXT_80B, **changes})
    except UnreadableShape as error:
        assert str(error)
    else:
        assert found.kv_heads >= 1
