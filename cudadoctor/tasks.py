"""The task for the memory planner, made of a launch, its model and its card: flags, ranks, widths, sizes.

Whatever changes the plan and is not modelled raises CannotTell, with what it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import structs

from cudadoctor.declare import CannotTell, Skip
from cudadoctor.facts import Card, Environ, Launch, Machine, Model, Packages
from cudadoctor.latest import latest

if TYPE_CHECKING:  # the planner is imported by what plans: every run loads the checks that ask it
    from cudadoctor.simulate.advice import Task
    from cudadoctor.simulate.gpu_memory import Plan
    from cudadoctor.simulate.kv_cache import Flags
    from cudadoctor.simulate.model_shape import Shape
    from cudadoctor.simulate.parallel import Sizes

GIB = 1 << 30
#: What is planned for where no vLLM is installed here and no image names one: the newest that was read.
NEWEST = "0.33.0"
#: Ways of speculation that load no model of their own.
_WITHOUT_DRAFTER = ("ngram", "suffix")


@latest
def task_of(
    launch: Launch, model: Model, card: Card, packages: Packages, environ: Environ | None = None
) -> Task:
    """Return the task; raise Skip for what is no launch of vLLM, CannotTell where it is not known enough."""
    from cudadoctor.simulate.advice import Task
    from cudadoctor.simulate.gpu_memory import Card as PlannedCard
    from cudadoctor.simulate.model_length import with_length

    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    if launch.partial:
        raise CannotTell(f"more options may be given than are known: {launch.partial}")
    shape = shape_of(model)
    if card.total_bytes is None:
        raise CannotTell(f"how much memory {card.name or 'the card'} has is not known (see --gpu-memory)")
    _modelled(launch, shape, environ)
    _generates(launch, model)
    shape = with_length(shape, model.config or {}, version_of(launch, packages))
    sizes = _divided(launch, shape, card, packages)
    flags = _flags(launch, model, card, packages, environ)
    cast = structs.replace(shape, dtype_bytes=_width(launch, model, card))
    seen = PlannedCard(float(card.total_bytes), card.name, _float(card.free_bytes), card.unified, card.count)
    task = Task(cast, flags, seen, None, sizes.data, _group(flags, model))
    task = structs.replace(task, checkpoint=_checkpoint(task, model, shape.dtype_bytes))
    return _automatic(task) if _asks_for_automatic(launch) else task


@latest
def plan_of(task: Task) -> Plan:
    """Return the plan; raise CannotTell where the numbers are impossible or not enough."""
    from cudadoctor.simulate.advice import planned
    from cudadoctor.simulate.kv_cache import Unplannable
    from cudadoctor.simulate.weights import UnknownWeights

    try:
        plan = planned(task)
    except (Unplannable, UnknownWeights) as error:
        raise CannotTell(str(error)) from None
    if task.shape.dtype_bytes > 2 and plan.may_fit:
        raise CannotTell("the activations of a model that is run in float32 are not modelled")
    return plan


def in_gib(count_bytes: float) -> str:
    """Return "18.1 GiB", or "36 MiB" of what would be none."""
    small = 0 < count_bytes < GIB / 20
    return f"{count_bytes / (1 << 20):.0f} MiB" if small else f"{count_bytes / GIB:.1f} GiB"


def shape_of(model: Model) -> Shape:
    """Return what the planner takes of config.json; raise CannotTell where there is none it can read."""
    from cudadoctor.simulate.model_shape import UnreadableShape, read_shape

    if model.config is None:
        raise CannotTell(without_config(model))
    try:
        return read_shape(model.config)
    except UnreadableShape as error:
        raise CannotTell(f"{model.config_path}: {error}") from None


def without_config(model: Model) -> str:
    """Return why there is no config.json to plan with, and what would bring one."""
    reason = model.reason or "the model's config.json is not here"
    if model.online is not None:
        return f"{reason}; the hub: {model.online.message or model.online.ended}"
    # The same that `--online` asks for: a name that the hub could have, in no cache that is seen.
    absent = model.state == "absent" and bool(model.cache)
    hidden = model.state == "elsewhere" and reason.startswith("the cache is in the container")
    return f"{reason}; --online asks the hub for it" if (absent or hidden) and not model.offline else reason


def _float(value: int | None) -> float | None:
    return None if value is None else float(value)


# --- flags --------------------------------------------------------------------------------------------------


def rules_of(launch: Launch, packages: Packages) -> tuple[str, str]:
    """Return the vLLM that is planned for, and why that one where it is neither installed nor the image's."""
    from cudadoctor.knowledge import images

    installed = packages.find("vllm")
    if launch.contained:
        image = launch.image or (launch.container.image if launch.container else "")
        if version := images.vllm_version(image):
            return version, ""
        return NEWEST, f"which vLLM is in {image or 'the container'} is not known, and this is the newest"
    if installed is not None and installed.version:
        return installed.version, ""
    return NEWEST, "no vLLM is installed here, and this is the newest"


def version_of(launch: Launch, packages: Packages) -> str:
    """Return the vLLM that is planned for: the image's own, the installed one, or the newest known."""
    return rules_of(launch, packages)[0]


def _flags(launch: Launch, model: Model, card: Card, packages: Packages, environ: Environ | None) -> Flags:
    from cudadoctor.simulate.kv_cache import Flags

    tensor, pipeline = (_whole(launch, f"--{kind}-parallel-size") for kind in ("tensor", "pipeline"))
    return Flags(
        version_of(launch, packages),
        max_model_len=None if _asks_for_automatic(launch) else _whole(launch, "--max-model-len"),
        max_num_seqs=_whole(launch, "--max-num-seqs"),
        max_num_batched_tokens=_whole(launch, "--max-num-batched-tokens"),
        gpu_memory_utilization=_number(launch, "--gpu-memory-utilization"),
        kv_cache_dtype=_known(launch, "--kv-cache-dtype") or "auto",
        kv_cache_memory_bytes=_whole(launch, "--kv-cache-memory-bytes"),
        num_gpu_blocks_override=_whole(launch, "--num-gpu-blocks-override"),
        block_size=_whole(launch, "--block-size"),
        tensor_parallel_size=1 if tensor is None else tensor,
        pipeline_parallel_size=1 if pipeline is None else pipeline,
        decode_context_parallel_size=_whole(launch, "--decode-context-parallel-size") or 1,
        enable_prefix_caching=launch.flag("--enable-prefix-caching"),
        num_speculative_tokens=_speculates(launch),
        enforce_eager=launch.flag("--enforce-eager") or False,
        disable_hybrid_kv_cache_manager=launch.flag("--disable-hybrid-kv-cache-manager") or False,
        mamba_ssm_cache_dtype=_known(launch, "--mamba-ssm-cache-dtype") or "auto",
        mamba_block_size=_whole(launch, "--mamba-block-size"),
        mamba_cache_mode=_known(launch, "--mamba-cache-mode") or "",
        quantization=_quantization(launch, model, card),
        cpu_offload_gb=_number(launch, "--cpu-offload-gb") or 0,
        max_loras=(_whole(launch, "--max-loras") or 1) if launch.flag("--enable-lora") else 0,
        max_lora_rank=_whole(launch, "--max-lora-rank") or 16,
        fully_sharded_loras=launch.flag("--fully-sharded-loras") or False,
        usage="llm" if launch.kind == "vllm-llm" else "server",
        counts_graphs=_counts_graphs(launch, environ),
    )


def _quantization(launch: Launch, model: Model, card: Card) -> str:
    """Return the weights' format as vLLM will call it, with the kernel that it takes."""
    from cudadoctor.simulate.quantization import loading

    stated, asked = model.quantization, _known(launch, "--quantization") or ""
    if model.methods is None:
        return stated.method if stated else asked
    capability = card.capability.replace(".", "")
    number = int(capability) if re.fullmatch(r"[0-9]{1,4}", capability) else None
    return loading(stated, asked, model.methods, model.quantization_files, number).method


def _speculates(launch: Launch) -> int:
    """Return how many tokens are guessed; raise CannotTell where a model is loaded beside this, to do so."""
    given = launch.options.get("--speculative-config")
    told = " ".join(given.values) if given is not None else ""
    if given is None or told == "None":
        return 0
    if not any(f'"{each}"' in told for each in _WITHOUT_DRAFTER):
        raise CannotTell("the memory of a drafter (--speculative-config) is not modelled")
    guessed = re.search(r'"num_speculative_tokens"\s*:\s*(\d{1,4})\b', told)
    return int(guessed[1]) if guessed else 0


def _counts_graphs(launch: Launch, environ: Environ | None) -> bool | None:
    value = _variable(launch, environ, "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS")
    return None if value not in ("0", "1") else value == "1"


def _variable(launch: Launch, environ: Environ | None, name: str) -> str:
    """Return a variable as the program will see it; "" where it is not set."""
    from cudadoctor.attention import variable_of

    return launch.variables[name].value if name in launch.variables else variable_of(launch, environ, name)


#: Options that change what is planned with, in ways that are not modelled.
_NOT_MODELLED = ("--hf-overrides", "--prefill-context-parallel-size")
_NOTHING = ("", "{}", "None", "1")


def _modelled(launch: Launch, shape: Shape, environ: Environ | None) -> None:
    """Raise CannotTell where an option or a variable changes the plan in a way that is not modelled."""
    for name in _NOT_MODELLED:
        given = launch.options.get(name)
        if given is not None and (not given.values or " ".join(given.values).strip() not in _NOTHING):
            raise CannotTell(f"what {given.spelled} changes of the model's memory is not modelled")
    if "--rope-scaling" in launch.options and "--max-model-len" not in launch.options:
        raise CannotTell("the length that --rope-scaling comes to is not modelled (see --max-model-len)")
    staged = (launch.integer("--pipeline-parallel-size") or 1) > 1
    if staged and _variable(launch, environ, "VLLM_PP_LAYER_PARTITION"):
        raise CannotTell("stages of the sizes that VLLM_PP_LAYER_PARTITION names are not modelled")
    if shape.latent is not None and _variable(launch, environ, "VLLM_MLA_DISABLE") not in ("", "0"):
        raise CannotTell("the KV cache of a model with MLA under VLLM_MLA_DISABLE is not modelled")


#: Architectures that give vectors or scores: most of them keep no KV cache, and none samples.
_POOLING = re.compile(r".*(?:For(?:Sequence|Token)Classification|ForMaskedLM|RewardModel|EmbeddingModel)")
_GENERATING = re.compile(r".*(?:LMHeadModel|ChatModel|ChatGLMModel)")
_POOLING_TASKS = frozenset(
    ("embed", "embedding", "classify", "score", "reward", "encode", "token_embed", "token_classify")
)


def _generates(launch: Launch, model: Model) -> None:
    """Raise CannotTell for a model that is started to give vectors or scores: its plan is another."""
    asked = _known(launch, "--runner") == "pooling" or _known(launch, "--task") in _POOLING_TASKS
    bare = [
        name
        for name in model.architectures
        if _POOLING.fullmatch(name) or (name.endswith("Model") and not _GENERATING.fullmatch(name))
    ]
    if asked or (bare and _known(launch, "--runner") != "generate"):
        raise CannotTell("the memory of a model that gives vectors or scores (pooling) is not modelled")


# --- parallel -----------------------------------------------------------------------------------------------


def refusal(launch: Launch, shape: Shape | None, card: Card | None, version: str) -> str:
    """Return why the sizes of the launch cannot be, "" where they can; raise CannotTell where that is open.

    Without a shape or a card what they would tell is left out.
    """
    from cudadoctor.simulate.parallel import DATA, PIPELINE, TENSOR, indivisible, on_one_machine, sizes_of
    from cudadoctor.versions import numbers

    sizes = sizes_of(launch)
    if sizes is None:
        raise CannotTell("how many ranks the launch has is not known before it")
    for name, size in ((TENSOR, sizes.tensor), (PIPELINE, sizes.pipeline), (DATA, sizes.data)):
        if size < 1:
            return f"{name} {size} is no number of ranks"
    if shape is not None and (why := indivisible(shape, sizes.tensor)):
        return f'vLLM {version} will stop with "{why}"'
    # Replicas of the class LLM are started one by one, by its user.
    needed = sizes.cards if launch.kind != "vllm-llm" else sizes.tensor * sizes.pipeline
    if card is None or needed <= card.count or not on_one_machine(launch):
        return ""
    if numbers(version) < _WITHOUT_RAY:
        raise CannotTell(f"with fewer GPUs than ranks vLLM {version} may take those of a Ray cluster")
    have = "1 is" if card.count == 1 else f"{card.count} are"
    seen = "named (see --count)" if card.source.startswith("--gpu") else "visible"
    return f"{needed} GPUs are asked for, and {have} {seen}"


#: Since 0.12.0 more ranks than GPUs are refused; 0.10.2 turns to Ray by itself (`config/parallel.py`).
_WITHOUT_RAY = (0, 12)


def sizes_that_divide(launch: Launch, shape: Shape, card: Card) -> tuple[int, ...]:
    """Return the tensor parallel sizes up to 16 that the heads and the GPUs allow, beside the other sizes."""
    from cudadoctor.simulate.parallel import divides, sizes_of

    sizes = sizes_of(launch)
    others = 1 if sizes is None else max(1, sizes.pipeline) * max(1, sizes.data)
    return tuple(size for size in range(1, min(card.count // others, 16) + 1) if divides(shape, size, 0))


def _divided(launch: Launch, shape: Shape, card: Card, packages: Packages) -> Sizes:
    """Return the sizes; raise CannotTell where they cannot be, or what each rank gets is not modelled."""
    from cudadoctor.simulate.parallel import sizes_of

    for name in ("--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size"):
        _whole(launch, name)
    if impossible := refusal(launch, shape, card, version_of(launch, packages)):
        raise CannotTell(impossible)
    sizes = sizes_of(launch)
    if sizes is None:
        raise CannotTell("how many ranks the launch has is not known before it")
    if shape.experts is not None and sizes.data > 1:
        raise CannotTell("how data parallelism divides the experts over the GPUs is not modelled")
    if shape.experts is not None and sizes.cards > 1 and launch.flag("--enable-expert-parallel"):
        raise CannotTell("what each GPU holds with --enable-expert-parallel is not modelled")
    return sizes


def _group(flags: Flags, model: Model) -> int:
    """Return how many weights share a scale, of which a rank gets whole groups; 0 where that is no matter."""
    stated = model.quantization
    if stated is None:
        return 0
    group, block = stated.config.get("group_size"), stated.config.get("weight_block_size")
    if isinstance(block, (list, tuple)) and block:
        return max(each if isinstance(each, int) else 0 for each in block)
    if isinstance(group, int) and not isinstance(group, bool):
        return max(0, group)
    # Most formats of 4 bits have groups of 128; those of 8 bits, where none are named, a scale for a row.
    return 0 if "fp8" in flags.quantization or "8" in stated.method else 128


# --- weights ------------------------------------------------------------------------------------------------

#: vLLM's `_STR_DTYPE_TO_TORCH_DTYPE` (config/model.py of 0.10.2 to 0.33).
_WIDTHS = {"auto": 2, "half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
#: Models that take no float16 (`_FLOAT16_NOT_SUPPORTED_MODELS` of the same): GPUs before 8.0 have no other.
_NOT_FLOAT16 = ("gemma2", "gemma3", "gemma3_text", "plamo2", "glm4")
#: From here on FP8 is made of each layer as it is loaded (the device "meta" in `quantization/fp8.py` of 0.16,
#: 0.18 and 0.20); 0.12.0 makes it when all of them are on the card in 16 bits.
_LAYER_BY_LAYER = (0, 16)
#: Formats of files, and bitsandbytes, which makes its own of each tensor that it reads.
_STORED = (
    "awq",
    "awq_marlin",
    "gptq",
    "gptq_marlin",
    "compressed-tensors",
    "modelopt",
    "gguf",
    "bitsandbytes",
)
#: Twice the weights that 16 bits would come to: no margin of a count from config.json is as large.
_WIDER = 1.6


def _width(launch: Launch, model: Model, card: Card) -> int:
    """Return the bytes of a number in the dtype that vLLM runs the model in: of float32 it makes 16 bits."""
    asked = (_known(launch, "--dtype") or "auto").lower()
    width = _WIDTHS.get(asked)
    if width is None:
        raise CannotTell(f"--dtype {asked[:40]} is none that vLLM knows")
    kind = str((model.config or {}).get("model_type") or "")
    if asked == "auto" and kind in _NOT_FLOAT16 and re.match(r"[1-7]\.", card.capability):
        raise CannotTell(f"{kind} is not run in float16, and the GPU has no bfloat16: its dtype is not known")
    if width == 4 and (model.quantization is not None or "--quantization" in launch.options):
        raise CannotTell("quantised weights with --dtype float32 are not modelled")
    return width


def _checkpoint(task: Task, model: Model, stored: int) -> float | None:
    """Return the bytes of all tensors as they are loaded; None where they are to be counted from the shape.

    `stored` is the width in the files as config.json has it. Raises CannotTell where loading may take more
    than what stays.
    """
    size = model.weights.tensor_bytes if model.weights is not None else None
    if task.flags.quantization and model.quantization is None:
        return _unquantised(task, size)
    if size is None or model.quantization is not None:
        return _float(size)
    if task.shape.dtype_bytes != stored or _is_wider(task, float(size)):
        return None
    return float(size)


def _is_wider(task: Task, size: float) -> bool:
    """Return whether files are so large that their numbers must be wider than those that they are run in."""
    from cudadoctor.simulate.weights import UnknownWeights, weights_from_shape

    alone = structs.replace(task.flags, tensor_parallel_size=1, pipeline_parallel_size=1)
    try:
        return size > _WIDER * weights_from_shape(task.shape, alone).high
    except UnknownWeights:
        return False


def _unquantised(task: Task, size: int | None) -> float | None:
    """Return the size of what is quantised while it is loaded: None for what is left, to be counted.

    Where all of it is on the card in 16 bits first, and the card cannot hold that, it is this size.
    """
    from cudadoctor.simulate.kv_cache import Unplannable
    from cudadoctor.simulate.weights import UnknownWeights, weights_from_index, weights_from_shape

    method, total = task.flags.quantization, task.card.total
    flags = structs.replace(task.flags, quantization="", cpu_offload_gb=0)
    try:
        if method in _STORED or (method == "fp8" and flags.release >= _LAYER_BY_LAYER):
            return None
        first = weights_from_index(size, flags, task.shape) if size else weights_from_shape(task.shape, flags)
        if first.high <= total or weights_from_shape(task.shape, task.flags).low >= total:
            return None
        if size and first.low >= total and method == "fp8" and flags.release[:2] == (0, 12):
            return float(size)
    except (UnknownWeights, Unplannable) as error:
        raise CannotTell(str(error)) from None
    raise CannotTell(
        f"with --quantization {method} vLLM {flags.vllm} may have all weights on the card in "
        f"16 bits first ({in_gib(first.low)}), and whether it does was not looked at"
    )


def loaded_whole(task: Task, model: Model) -> bool:
    """Return whether the weights are planned as they are loaded, before they are quantised."""
    return task.checkpoint is not None and bool(task.flags.quantization) and model.quantization is None


def host_memory(task: Task, launch: Launch, card: Card, machine: Machine) -> tuple[float, float]:
    """Return the bytes of weights that --cpu-offload-gb puts into the host's memory, and what is free there.

    Both 0 where nothing is put there, or the host is another one.
    """
    from cudadoctor.simulate.advice import planned
    from cudadoctor.simulate.parallel import on_one_machine

    asked = task.flags.cpu_offload_gb * GIB
    if not asked or card.source.startswith("--gpu") or card.unified or not on_one_machine(launch):
        return 0.0, 0.0
    each = min(asked, planned(task, cpu_offload_gb=0).weights.low)
    return each * task.ranks, float(machine.memory_available_bytes)


# --- values -------------------------------------------------------------------------------------------------


def _known(launch: Launch, name: str) -> str | None:
    """Return an option's value, None where it is not given; raise CannotTell where only the run tells it."""
    given = launch.options.get(name)
    if given is None:
        return None
    if not given.values:
        raise CannotTell(
            f"{given.spelled} is not known before the launch{given.reason and ': ' + given.reason}"
        )
    return None if given.values[-1] == "None" else given.values[-1]


def _whole(launch: Launch, name: str) -> int | None:
    text = _known(launch, name)
    value = launch.integer(name)
    if text is not None and value is None:
        raise CannotTell(f"{name} {text[:40]!r} is no whole number that can be meant")
    return value


def _number(launch: Launch, name: str) -> float | None:
    text = _known(launch, name)
    value = launch.number(name)
    if text is not None and value is None:
        raise CannotTell(f"{name} {text[:40]!r} is no number that can be meant")
    return value


def _asks_for_automatic(launch: Launch) -> bool:
    """Return whether vLLM is to find the longest length by itself."""
    return (launch.text("--max-model-len") or "").lower() in ("auto", "-1")


def _automatic(task: Task) -> Task:
    """Return the task with the length that vLLM will find: what surely fits, else what may."""
    sure, hoped = plan_of(task).longest
    length = sure or hoped
    return structs.replace(task, flags=structs.replace(task.flags, max_model_len=length)) if length else task
