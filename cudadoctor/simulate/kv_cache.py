"""How many tokens a KV cache holds, as that version of vLLM counts and prints it.

After `v1/core/kv_cache_utils.py` (`get_kv_cache_groups`, `_report_kv_cache_config`, `check_enough_kv_cache_
memory`) and `v1/kv_cache_interface.py` of vLLM 0.12.0, and what other releases from 0.9 to 0.33 do otherwise:

    page         bytes of one block of one layer on one rank
    group_size   layers that share a block's number; groups = all layers / group_size, per kind, rounded up
    num_blocks   available memory // (page * group_size)
    concurrency  num_blocks / blocks that one request of max_model_len tokens takes, over all groups

Not modelled: chunks compressed or packed by layers of different page sizes, KV caches with scales per token,
the index of sparse attention.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from msgspec import Struct

from cudadoctor.simulate.model_shape import LARGEST, Recurrent, Shape

GIB = 1 << 30
_BLOCK = 16  #: CacheConfig.block_size on CUDA, where none is asked for
_RELEASE = re.compile(r"\d+")


class Unplannable(ValueError):
    """Flags that cannot be what vLLM was started with, or that are not modelled."""


class Flags(Struct, frozen=True):
    """vLLM's engine arguments, by their own names; None is "not given", so that version's default counts."""

    vllm: str  #: the release, like "0.12.0"
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_dtype: str = "auto"
    kv_cache_memory_bytes: int | None = None
    num_gpu_blocks_override: int | None = None
    block_size: int | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    decode_context_parallel_size: int = 1
    pp_layer_partition: tuple[int, ...] = ()
    enable_prefix_caching: bool | None = None
    enforce_eager: bool = False
    num_speculative_tokens: int = 0
    draft_layers: int = 0  #: attention layers of the drafter (EAGLE, MTP), which share the cache
    disable_hybrid_kv_cache_manager: bool = False
    mamba_ssm_cache_dtype: str = "auto"
    mamba_block_size: int | None = None
    mamba_cache_mode: str = ""  #: "align" or "all", as asked for; "" for neither
    quantization: str = ""  #: the weights' format; "awq" is its plain kernel, where "awq_marlin" is not used
    cpu_offload_gb: float = 0
    max_loras: int = 0  #: 0: --enable-lora is not given
    max_lora_rank: int = 16
    fully_sharded_loras: bool = False
    usage: str = ""  #: "server" (vllm serve), "llm" (the class LLM), or "" for unknown
    sampler: str = ""  #: "flashinfer" or "native" top-k/top-p sampling, or "" for unknown
    counts_graphs: bool | None = None  #: VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS

    @property
    def release(self) -> tuple[int, int, int]:
        """Return (0, 17, 1) for "0.17.1rc1.dev88+g0123"; raises Unplannable."""
        numbers = [int(part[:9]) for part in _RELEASE.findall(self.vllm.partition("+")[0])[:3]]
        if len(numbers) < 2:
            raise Unplannable(f"{self.vllm[:40]!r} is no version of vLLM")
        return numbers[0], numbers[1], numbers[2] if len(numbers) > 2 else 0


def checked(flags: Flags) -> Flags:
    """Return the flags; raises Unplannable where a number is none that vLLM could be given."""
    whole = (
        "max_model_len", "max_num_seqs", "max_num_batched_tokens", "block_size", "kv_cache_memory_bytes",
        "mamba_block_size",
        "tensor_parallel_size", "pipeline_parallel_size", "decode_context_parallel_size",
    )  # fmt: skip
    from_none = ("num_speculative_tokens", "draft_layers", "num_gpu_blocks_override", "max_loras")
    for name in (*whole, *from_none, "max_lora_rank"):
        value, least = getattr(flags, name), 1 if name in whole else 0
        if value is None and not name.endswith("parallel_size"):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value < LARGEST:
            raise Unplannable(f"{name} is {str(value)[:40]!r}: a whole number from {least} is wanted")
    for name, most in (("gpu_memory_utilization", 1.0), ("cpu_offload_gb", float(LARGEST))):
        value = getattr(flags, name)
        # "not (a <= b)" also holds for a NaN.
        if value is not None and (not isinstance(value, int | float) or not 0 <= value <= most):
            raise Unplannable(f"{name} is {str(value)[:40]!r}: a number from 0 to {most:g} is wanted")
    _ = flags.release
    return flags


class Group(Struct, frozen=True):
    """Layers of one kind, in as many groups as the group size makes of them."""

    kind: str
    count: int


class Layout(Struct, frozen=True):
    """The KV cache of one rank, before it is known how large it will be."""

    block: int  #: tokens of one block
    page: int  #: bytes of one block of one layer
    stages: tuple[int, ...]  #: pages that one block's number stands for, on the ranks of each pipeline stage
    groups: tuple[Group, ...]
    shape: Shape
    flags: Flags
    batched: int = 2048  #: max_num_batched_tokens, where the flags do not give it

    @property
    def number_of_groups(self) -> int:
        """Return how many groups of layers share the pool of blocks."""
        return sum(group.count for group in self.groups)

    @property
    def bytes_per_block(self) -> int:
        """Return the bytes of one block over all layers of the fullest stage."""
        return self.page * max(self.stages)


def lay_out(shape: Shape, flags: Flags, batched: int = 2048) -> Layout:
    """Return how this version of vLLM would divide the KV cache; raises Unplannable.

    `batched` is the default of max_num_batched_tokens on the card: it counts where the flags give none.
    """
    flags = checked(flags)
    if shape.indexed:
        raise Unplannable("the index that sparse attention keeps beside the KV cache is not modelled")
    per_token = bytes_per_token(shape, flags)
    if per_token < 1:
        raise Unplannable("heads of no width: a token takes no bytes of KV cache")
    counts = _counts(shape, flags)
    block = flags.block_size or _BLOCK
    if shape.recurrent and shape.state is not None:
        # Attention and state share one page: the block grows until its page holds the state.
        block = max(flags.block_size or 0, _block_of_state(shape, shape.state, flags))
    if block < 1:
        raise Unplannable("a recurrent state of no size: there is no block to hold it")
    group_size = _group_size(list(counts.values()), flags.release)
    groups = tuple(Group(kind, _ceil(count, group_size)) for kind, count in counts.items())
    stages = _stages(shape, flags, group_size)
    return Layout(block, block * per_token, stages, groups, shape, flags, max(1, batched))


def _block_of_state(shape: Shape, state: Recurrent, flags: Flags) -> int:
    """Return the fewest tokens of attention whose page holds one recurrent state."""
    size, per_token = state_bytes(state, flags), bytes_per_token(shape, flags)
    if state_mode(state, flags) != "all":
        return 16 * _ceil(size, 16 * per_token)
    # Where prefixes are kept for every block, it is one of whole chunks of the kernel.
    chunk = math.lcm(flags.mamba_block_size or state.chunk, 16)
    return chunk * _ceil(_ceil(size, per_token), chunk)


def bytes_per_token(shape: Shape, flags: Flags) -> int:
    """Return the bytes that one token takes in one attention layer of one rank; raises Unplannable."""
    width = kv_bytes(shape, flags)
    if shape.latent:
        # One latent vector for all heads: every rank keeps the whole of it.
        return 656 if flags.kv_cache_dtype == "fp8_ds_mla" else shape.latent.width * width
    # Fewer heads than ranks are replicated, not divided.
    return 2 * max(1, shape.kv_heads // flags.tensor_parallel_size) * shape.head_dim * width


def kv_bytes(shape: Shape, flags: Flags) -> int:
    """Return the bytes of one number in the KV cache; "auto" is the model's dtype, not its quantisation."""
    dtype = flags.kv_cache_dtype
    if dtype == "auto":
        return _stated_bytes(shape, flags.release)
    if dtype in ("bfloat16", "float16", "half"):
        return 2
    if dtype.startswith(("fp8", "int8")) and "per_token" not in dtype:
        return 1
    raise Unplannable(f"a KV cache of {dtype[:40]!r} is not modelled")


#: The last release whose source leaves a checkpoint's scheme of the KV cache alone, and the first that takes
#: it up: in `Attention` (0.14.0, 0.16.0); ModelOpt's before the engine is made (0.12.0, 0.14.0), in 4 bits
#: from 0.20.0 on (0.18.0).
_SCHEME, _MODELOPT, _MODELOPT_FOUR_BITS = ((0, 14), (0, 16)), ((0, 12), (0, 14)), ((0, 18), (0, 20))


def _stated_bytes(shape: Shape, release: tuple[int, int, int]) -> int:
    """Return the bytes of "auto": of the model's dtype, or of the scheme where this release reads one."""
    bits = shape.kv_scheme_bits
    # The layer of latent attention reads no scheme; ModelOpt's is resolved before there are layers.
    if bits not in (4, 8) or (not shape.kv_scheme_modelopt and (shape.latent or bits == 4)):
        return shape.dtype_bytes
    last, first = _SCHEME
    if shape.kv_scheme_modelopt:
        last, first = _MODELOPT if bits == 8 else _MODELOPT_FOUR_BITS
    if release[:2] <= last:
        return shape.dtype_bytes
    if release[:2] < first or bits == 4:
        raise Unplannable(f"the checkpoint's own KV cache of {bits} bits is not modelled in this release")
    return 1


def state_bytes(state: Recurrent, flags: Flags) -> int:
    """Return the bytes of one request's recurrent state in one layer on one rank."""
    tensor, steps = flags.tensor_parallel_size, state.conv_kernel - 1 + flags.num_speculative_tokens
    wide = "32" in flags.mamba_ssm_cache_dtype or (flags.mamba_ssm_cache_dtype == "auto" and state.float32)
    # Groups of Mamba2 that cannot be divided over the ranks are replicated until each has one.
    key_heads = tensor if state.kind == "mamba2" and state.key_heads % tensor else state.key_heads
    convolution = (2 * key_heads * state.key_dim + state.inner) // tensor * steps * 2
    return convolution + state.value_heads // tensor * state.value_dim * state.key_dim * (4 if wide else 2)


def _counts(shape: Shape, flags: Flags) -> dict[str, int]:
    """Return the layers of each kind that has any, the drafter's among the full ones."""
    full, sliding, chunked = shape.full + flags.draft_layers, shape.sliding, shape.chunked
    if flags.disable_hybrid_kv_cache_manager and shape.full:
        full, sliding, chunked = full + sliding + chunked, 0, 0
    counts = {
        "full": full,
        "sliding": sliding,
        "chunked": chunked,
        "recurrent": shape.recurrent,
        "cross": shape.cross,
    }
    found = {kind: count for kind, count in counts.items() if count}
    if not found:
        raise Unplannable("no layer of this model keeps a KV cache")
    return found


def _group_size(counts: Sequence[int], release: tuple[int, int, int]) -> int:
    least, most = min(counts), max(counts)
    if release >= (0, 18, 0):
        return most if most < least * 1.5 else least
    return most if release >= (0, 12, 0) and most < least * 1.25 else least


def _stages(shape: Shape, flags: Flags, group_size: int) -> tuple[int, ...]:
    """Return the pages behind one block's number for each pipeline stage."""
    stages = flags.pipeline_parallel_size
    if stages == 1:
        return (group_size,)
    divided = flags.pp_layer_partition or pipeline_layers(shape.layers, stages)
    if len(divided) != stages or min(divided) < 1:
        raise Unplannable(f"{shape.layers} layers cannot be divided over {stages} pipeline stages")
    return tuple(_ceil(group_size * layers, sum(divided)) for layers in divided)


def pipeline_layers(layers: int, stages: int) -> tuple[int, ...]:
    """Return the layers of each pipeline stage: what is left over goes to later ones, but not to the last."""
    if stages > layers:
        raise Unplannable(f"{layers} layers cannot be divided over {stages} pipeline stages")
    each, left = divmod(layers, stages)
    return tuple(each + (stages - 1 - left <= stage < stages - 1) for stage in range(stages))


# --- what one request takes ---------------------------------------------------------------------------------


def blocks_per_request(layout: Layout, max_model_len: int) -> int:
    """Return the blocks that one request of `max_model_len` tokens takes at most, over all groups."""
    return sum(group.count * _blocks_of(group.kind, layout, max_model_len) for group in layout.groups)


def _blocks_of(kind: str, layout: Layout, max_model_len: int) -> int:
    flags, shape, block = layout.flags, layout.shape, layout.block
    batched = flags.max_num_batched_tokens or layout.batched
    # Since 0.26 two batches are in flight (async scheduling), each with a chunk of its own.
    in_flight = batched * (2 if flags.release >= (0, 26, 0) else 1)
    if kind == "full":
        return _ceil(_ceil(max_model_len, flags.decode_context_parallel_size), block)
    if kind == "sliding":
        # The window may begin in the middle of a block: one more.
        return _ceil(min(max(0, shape.window - 1) + in_flight, max_model_len), block) + 1
    if kind == "chunked":
        return _ceil(min(shape.window + in_flight, max_model_len), block)
    if kind == "cross":
        return _ceil(batched if flags.release >= (0, 20, 0) else shape.encoder_positions, block)
    return _states_of(layout, max_model_len)


def _states_of(layout: Layout, max_model_len: int) -> int:
    """Return the states that one request keeps in one layer: one, two, or one for each block."""
    flags, state = layout.flags, layout.shape.state
    mode = "none" if state is None else state_mode(state, flags)
    if state is not None and mode == "all":
        kept = _ceil(max_model_len, _block_of_state(layout.shape, state, flags))
        return kept + (flags.num_speculative_tokens if flags.release >= (0, 25, 0) else 0)
    return (2 if mode == "align" else 1) + flags.num_speculative_tokens


def state_mode(state: Recurrent, flags: Flags) -> str:
    """Return what prefix caching keeps of a recurrent state; raises Unplannable.

    "none": one state a request. "align": two. "all": one for each block. After `MambaModelConfig` of vLLM
    0.10.2 to 0.33.0: until 0.14.0 it is switched off for what cannot have "all"; since 0.16.0 that is
    "align"; in 0.29.0 and 0.33.0 it is so for all. It is the default for models with a state since 0.26.
    """
    release = flags.release[:2]
    cached = release >= (0, 26) if flags.enable_prefix_caching is None else flags.enable_prefix_caching
    if not cached or release <= (0, 10):
        return "none"
    if not state.keeps_prefixes:
        if release == (0, 15):
            raise Unplannable("what --enable-prefix-caching does to a hybrid model in 0.15 was not looked at")
        return "none" if release < (0, 15) else "align"
    if release in ((0, 11), (0, 15)):
        raise Unplannable("what --enable-prefix-caching does to a hybrid model here was not looked at")
    if release < (0, 15):
        return "all"
    if flags.mamba_cache_mode in ("align", "all") and release < (0, 30):
        return flags.mamba_cache_mode
    # With speculation it is "align" since 0.20.0.
    return "all" if release < ((0, 20) if flags.num_speculative_tokens else (0, 26)) else "align"


def needed_bytes(layout: Layout, max_model_len: int) -> int:
    """Return the bytes on the fullest rank that one request of `max_model_len` tokens needs."""
    return blocks_per_request(layout, max_model_len) * layout.bytes_per_block


def largest_len(layout: Layout, available: int, most: int) -> int:
    """Return the longest --max-model-len up to `most` that vLLM would start with; 0 where none would."""
    blocks = available // layout.bytes_per_block - (1 if layout.flags.release >= (0, 30, 0) else 0)
    low, high = 0, min(most, LARGEST)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if blocks_per_request(layout, middle) <= blocks else (low, middle - 1)
    return low


# --- what is printed ----------------------------------------------------------------------------------------


class Capacity(Struct, frozen=True):
    """What vLLM prints of a KV cache."""

    num_blocks: int
    tokens: int  #: "GPU KV cache size: N tokens"
    concurrency: float | None  #: "Maximum concurrency for N tokens per request"; None without a length


def capacity(layout: Layout, available: int | Sequence[int]) -> Capacity:
    """Return what is printed for so many bytes of KV cache: on every rank, or on each pipeline stage."""
    each = [available] * len(layout.stages) if isinstance(available, int) else list(available)
    flags = layout.flags
    blocks = flags.num_gpu_blocks_override
    if blocks is None:
        held = zip(each, layout.stages, strict=True)
        blocks = max(0, min(have // (layout.page * pages) for have, pages in held))
    length = flags.max_model_len
    concurrency = blocks / blocks_per_request(layout, length) if length else None
    if length and concurrency is not None and flags.release >= (0, 21, 0):
        return Capacity(blocks, int(concurrency * length), concurrency)
    tokens = blocks // layout.number_of_groups * _smallest_block(layout) * flags.decode_context_parallel_size
    return Capacity(blocks, tokens, concurrency)


def _smallest_block(layout: Layout) -> int:
    """Return the smallest block of any group: that of a state is max_model_len, without prefix caching."""
    length = layout.flags.max_model_len
    state = layout.shape.state
    if state is not None and length and state_mode(state, layout.flags) == "none":
        return min(layout.block, length)
    return layout.block


def _ceil(amount: int, step: int) -> int:
    return -(-amount // step)
