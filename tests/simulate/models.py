"""config.json of public models, cut down to what memory depends on."""

from typing import Any

from cudadoctor.simulate.model_shape import Shape, read_shape

Config = dict[str, Any]

QWEN25_32B: Config = {
    "model_type": "qwen2", "num_hidden_layers": 64, "num_attention_heads": 40, "num_key_value_heads": 8,
    "hidden_size": 5120, "intermediate_size": 27648, "vocab_size": 152064, "max_position_embeddings": 32768,
    "sliding_window": 131072, "use_sliding_window": False, "tie_word_embeddings": False,
}  # fmt: skip
QWEN25_7B: Config = {
    **QWEN25_32B, "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4,
    "hidden_size": 3584, "intermediate_size": 18944,
}  # fmt: skip
QWEN3_32B: Config = {
    "model_type": "qwen3", "num_hidden_layers": 64, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 128, "hidden_size": 5120, "intermediate_size": 25600, "vocab_size": 151936,
    "max_position_embeddings": 40960,
}  # fmt: skip
QWEN3_4B: Config = {
    **QWEN3_32B, "num_hidden_layers": 36, "num_attention_heads": 32, "hidden_size": 2560,
    "intermediate_size": 9728, "tie_word_embeddings": True, "max_position_embeddings": 262144,
}  # fmt: skip
QWEN3_NEXT_80B: Config = {
    "model_type": "qwen3_next", "num_hidden_layers": 48, "num_attention_heads": 16, "num_key_value_heads": 2,
    "head_dim": 256, "hidden_size": 2048, "intermediate_size": 5120, "vocab_size": 151936,
    "full_attention_interval": 4, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
    "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4, "num_experts": 512,
    "num_experts_per_tok": 10, "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
    "max_position_embeddings": 262144,
}  # fmt: skip
GEMMA3_27B: Config = {
    "model_type": "gemma3",
    "text_config": {
        "model_type": "gemma3_text", "num_hidden_layers": 62, "num_attention_heads": 32,
        "num_key_value_heads": 16, "head_dim": 128, "hidden_size": 5376, "intermediate_size": 21504,
        "vocab_size": 262208, "sliding_window": 1024, "tie_word_embeddings": True,
    },
    "vision_config": {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27},
}  # fmt: skip
GPT_OSS_20B: Config = {
    "model_type": "gpt_oss", "num_hidden_layers": 24, "num_attention_heads": 64, "num_key_value_heads": 8,
    "head_dim": 64, "hidden_size": 2880, "intermediate_size": 2880, "vocab_size": 201088,
    "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 12,
    "num_local_experts": 32, "num_experts_per_tok": 4, "max_position_embeddings": 131072,
}  # fmt: skip
DEEPSEEK_V2_LITE: Config = {
    "model_type": "deepseek_v2", "num_hidden_layers": 27, "num_attention_heads": 16, "hidden_size": 2048,
    "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
    "num_experts_per_tok": 6, "first_k_dense_replace": 1, "vocab_size": 102400, "kv_lora_rank": 512,
    "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "v_head_dim": 128, "max_position_embeddings": 163840,
}  # fmt: skip
DEEPSEEK_V3: Config = {
    **DEEPSEEK_V2_LITE, "model_type": "deepseek_v3", "num_hidden_layers": 61, "num_attention_heads": 128,
    "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256,
    "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3, "vocab_size": 129280,
    "q_lora_rank": 1536, "num_nextn_predict_layers": 1,
}  # fmt: skip
GRANITE_HYBRID: Config = {
    "model_type": "granitemoehybrid", "num_hidden_layers": 40, "num_attention_heads": 12,
    "num_key_value_heads": 4, "hidden_size": 1536, "intermediate_size": 512, "vocab_size": 100352,
    "layer_types": [*["mamba"] * 36, *["attention"] * 4], "mamba_n_heads": 48, "mamba_d_head": 64,
    "mamba_n_groups": 1, "mamba_d_state": 128, "mamba_d_conv": 4, "mamba_chunk_size": 256,
    "max_position_embeddings": 131072,
}  # fmt: skip


def shape(config: Config, **changes: Any) -> Shape:
    return read_shape({**config, **changes})
