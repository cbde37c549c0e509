"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cudadoctor.attention import variable_of
from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Environ, Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.tasks import version_of, without_config
from cudadoctor.versions import numbers

if TYPE_CHECKING:
    from cudadoctor.simulate.model_length import Limit

_OPTION = "--max-model-len"
_ALLOW = "VLLM_ALLOW_LONG_MAX_MODEL_LEN"
#: Options that give the model another config than its config.json.
_CHANGE = ("--hf-overrides", "--rope-scaling", "--rope-theta", "--hf-config-path")
_GENERATES = ("ForCausalLM", "ForConditionalGeneration", "LMHeadModel")
_AUTO_FROM = (0, 14)


@check
def max_model_len_beyond_model(
    launch: Launch, model: Model, packages: Packages, environ: Environ
) -> Iterator[Finding]:
    """More tokens are asked for than the model is made for.

    ## What it means
    vLLM takes the longest length from config.json: max_position_embeddings, or what other families call it,
    times the factor of a rope scaling that is stated there. A longer `--max-model-len` stops it:
    `User-specified max_model_len (...) is greater than the derived max_model_len`. With
    `VLLM_ALLOW_LONG_MAX_MODEL_LEN=1` that is a warning, and what lies beyond gives nonsense, or an error of
    CUDA's where positions are looked up in a table.

    ## How to tell
    `grep -E "max_position_embeddings|rope_scaling" config.json`

    ## What helps
    A `--max-model-len` of what the model has, or none. A longer context than that needs a rope scaling that
    the model was made for: its card says which.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    asked = launch.integer(_OPTION)
    if asked is None:
        return
    limit = _limit(launch, model, version_of(launch, packages))
    if asked > limit.tokens:
        yield _beyond(asked, limit, launch, model, environ, version_of(launch, packages))


def _limit(launch: Launch, model: Model, version: str) -> Limit:
    from cudadoctor.simulate.model_length import Undecided, limit_of

    if model.config is None:
        raise CannotTell(without_config(model))
    if changing := [name for name in launch.options if name.startswith(_CHANGE)]:
        raise CannotTell(f"{changing[0]} may change what config.json says")
    if model.params and launch.text("--config-format") != "hf":
        raise CannotTell("vLLM may read params.json instead of config.json")
    if _pools(launch, model):
        raise CannotTell("models that do not generate have further files that say how long a text may be")
    try:
        return limit_of(model.config, version)
    except Undecided as error:
        raise CannotTell(f"{model.config_path}: {error}") from None


def _pools(launch: Launch, model: Model) -> bool:
    task = launch.text("--runner") or launch.text("--task") or "auto"
    if task not in ("auto", "generate", "draft", "transcription") or launch.text("--convert"):
        return True
    return bool(model.architectures) and not any(each.endswith(_GENERATES) for each in model.architectures)


def _beyond(
    asked: int, limit: Limit, launch: Launch, model: Model, environ: Environ, version: str
) -> Finding:
    given = launch.options[_OPTION]
    evidence = [
        Evidence(given.origin, f"{given.spelled} {launch.text(_OPTION)}"),
        Evidence(
            model.config_path, f"{limit.key}: {limit.value}" + (f"; {limit.scaling}" if limit.scaling else "")
        ),
    ]
    allowed = variable_of(launch, environ, _ALLOW)
    if allowed.strip().lower() in ("1", "true"):
        evidence.append(Evidence(_origin(launch, environ), f"{_ALLOW}={allowed}"))
        says, severity = (
            "vLLM starts all the same, and what lies beyond gives nonsense or an error of CUDA's",
            Severity.WARNING,
        )
    else:
        says, severity = 'vLLM will stop with "... is greater than the derived max_model_len"', Severity.ERROR
    more = (Remedy("show", {}, f"{_OPTION} auto   # as long as fits, and as the model goes"),)
    remedy = Remedy(
        "show", {}, f"{_OPTION} {limit.tokens}", instead=more if numbers(version) >= _AUTO_FROM else ()
    )
    return Finding(
        f"{_OPTION} {asked} is beyond the {limit.tokens} tokens that the model is made for; {says}",
        severity,
        tuple(evidence),
        (remedy,),
    )


def _origin(launch: Launch, environ: Environ) -> str:
    return launch.variables[_ALLOW].origin if _ALLOW in launch.variables else environ.where(_ALLOW)
