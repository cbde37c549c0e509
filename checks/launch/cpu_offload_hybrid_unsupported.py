"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cudadoctor.attention import variable_of
from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.tasks import shape_of, version_of
from cudadoctor.versions import numbers

if TYPE_CHECKING:
    from cudadoctor.simulate.model_shape import Shape

_OPTION = "--cpu-offload-gb"
#: `may_reinitialize_input_batch` in v1/worker/gpu_model_runner.py of vLLM 0.10.2, 0.11.0 to 0.14.0 and 0.16.0
#: to 0.19.0 refuses, that of 0.20.0 to 0.33.0 does not (read 2026-11-21).
_FIRST, _FREE = (0, 10, 2), (0, 20)
#: Before it an older engine is there still, which some options bring back.
_ONE_ENGINE = (0, 11)
_SAYS = "Cannot re-initialize the input batch when CPU weight offloading is enabled"
_ONE_GROUP = "--disable-hybrid-kv-cache-manager"
#: Options that make vLLM do so itself (config/vllm.py).
_MAY_BE_ONE = ("--kv-transfer-config", "--kv-events-config", "--speculative-config")


@check
def cpu_offload_hybrid_unsupported(
    launch: Launch, model: Model, packages: Packages, environ: Environ
) -> Iterator[Finding]:
    """Weights are to be kept in the system's memory, which this vLLM cannot do for a hybrid model.

    ## What it means
    A model whose layers are of two kinds has a KV cache of more than one group: attention and Mamba or a
    Gated DeltaNet (Qwen3-Next, Jamba, Nemotron-H), or windows and full attention in turn (gpt-oss, Gemma 3).
    Up to 0.19 vLLM then makes its input batch anew, and with `--cpu-offload-gb` it stops there, after the
    weights are loaded: `Cannot re-initialize the input batch when CPU weight offloading is enabled`.

    ## How to tell
    `layer_types`, `full_attention_interval` or `hybrid_override_pattern` in config.json.

    ## What helps
    vLLM 0.20 or later. For windows `--disable-hybrid-kv-cache-manager`, which takes more memory. Or no
    `--cpu-offload-gb`, on more or larger cards.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    version = version_of(launch, packages)
    release = numbers(version)
    if (launch.number(_OPTION) or 0) <= 0 or release >= _FREE:
        return
    shape = shape_of(model)
    if not _groups(launch, shape):
        return
    older = release < _ONE_ENGINE and (
        variable_of(launch, environ, "VLLM_USE_V1") == "0"
        or launch.text("--kv-cache-dtype") not in (None, "auto")
    )
    if release < _FIRST or older:
        raise CannotTell(f"whether vLLM {version} takes the engine that refuses it is not known")
    yield _refused(launch, model, shape, version)


def _groups(launch: Launch, shape: Shape) -> bool:
    """Return whether the KV cache has more than one group; raise CannotTell where that depends on more."""
    if shape.recurrent and shape.attention:
        return True
    if not (shape.sliding and shape.full) or launch.flag(_ONE_GROUP):
        return False
    if changing := [name for name in _MAY_BE_ONE if name in launch.options]:
        raise CannotTell(f"with {changing[0]} the KV cache may have one group after all")
    return True


def _refused(launch: Launch, model: Model, shape: Shape, version: str) -> Finding:
    given = launch.options[_OPTION]
    kinds = ((shape.recurrent, "with a state of their own"), (shape.sliding, "with a window"),
             (shape.full, "with full attention"))  # fmt: skip
    layers = ", ".join(f"{count} layers {what}" for count, what in kinds if count)
    instead = (
        [] if shape.recurrent else [Remedy("show", {}, f"{_ONE_GROUP}   # windows then take more memory")]
    )
    instead.append(Remedy("show", {}, f"leave {_OPTION} out, with a model or cards that fit without it"))
    return Finding(
        f'vLLM {version} will stop with "{_SAYS}": the model is a hybrid',
        Severity.ERROR,
        (
            Evidence(given.origin, f"{given.spelled} {launch.text(_OPTION)}"),
            Evidence(model.config_path, layers),
        ),
        (Remedy("show", {}, "vLLM 0.20 or later, which can", instead=tuple(instead)),),
    )
