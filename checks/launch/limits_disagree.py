"""See the check's own page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from msgspec import structs

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Given, Launch, Variable
from cudadoctor.findings import Evidence, Finding, Remedy, Severity

#: What a variable's name ends in, and the option that it speaks of.
_NUMBERS = {
    "MAX_MODEL_LEN": "--max-model-len",
    "MAX_NUM_SEQS": "--max-num-seqs",
    "MAX_NUM_BATCHED_TOKENS": "--max-num-batched-tokens",
    "GPU_MEMORY_UTILIZATION": "--gpu-memory-utilization",
    "TENSOR_PARALLEL_SIZE": "--tensor-parallel-size",
    "PIPELINE_PARALLEL_SIZE": "--pipeline-parallel-size",
}
_NAMES = {"KV_CACHE_DTYPE": "--kv-cache-dtype", "SERVED_MODEL_NAME": "--served-model-name"}
#: Names that many programs use for things of their own: they count with such a word in front.
_OF_THE_SERVER = re.compile(r"(?:.*_)?(?:LLM|VLLM)_(PORT|MODEL|MODEL_NAME)")
#: In front of these a limit is another model's, or the variable is a switch.
_ANOTHER = re.compile(
    r"(?:^|_)(?:EMBED\w*?|RERANK\w*?|DRAFT|SPECULATIVE|SPEC|WHISPER|ASR|STT|TTS|OCR|VISION|JUDGE|GUARD"
    r"|ALLOW_LONG)\d*_"
)
_NO_PORT_OF_THE_SERVER = "VLLM_PORT"  #: vLLM's own: the first of the ports between its processes


@check
def limits_disagree(launch: Launch) -> Iterator[Finding]:
    """A variable beside the launch sets a limit otherwise than the command does.

    ## What it means
    vLLM reads its limits from its options alone. A `.env` or compose file that has `LLM_MAX_MODEL_LEN=32768`
    beside `--max-model-len 12288` is mostly what the client goes by: its requests are then longer than the
    server takes (`This model's maximum context length is 12288 tokens`), go to another port, or ask for a
    model that the server has under another name.

    ## How to tell
    `grep -n MAX_MODEL_LEN .env compose.yaml`

    ## What helps
    One value in both places; in a compose file `--max-model-len ${LLM_MAX_MODEL_LEN}` keeps it so.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    held = {**launch.nearby, **launch.variables}
    for ending, option in _NUMBERS.items():
        named = {name: held[name] for name in _speaking_of(ending, held)}
        yield from _of_number(launch, option, named)
    for ending, option in _NAMES.items():
        given = launch.options.get(option)
        if given is not None and given.values:
            yield from _of_names(given.values, option, given.origin, _all(_speaking_of(ending, held), held))
    yield from _of_model(launch, held)
    yield from _of_port(launch, held)


def _speaking_of(ending: str, held: dict[str, Variable]) -> list[str]:
    """Return the variables whose name ends in an option's, but for those that are of another model."""
    ends = re.compile(rf"(?:.*_)?{ending}")
    return [name for name in held if ends.fullmatch(name) and not _ANOTHER.search(name)]


def _all(names: Iterable[str], held: dict[str, Variable]) -> dict[str, Variable]:
    return {name: held[name] for name in names}


def _number(launch: Launch, option: str, text: str) -> float | None:
    """Return a text as the option's number, as vLLM would read it."""
    read = structs.replace(launch, options={option: Given((text.strip(),), "", option)})
    whole = read.integer(option)
    return whole if whole is not None else read.number(option)


def _of_number(launch: Launch, option: str, named: dict[str, Variable]) -> Iterator[Finding]:
    value = launch.text(option)
    if value is None:
        return
    ours = _number(launch, option, value)
    theirs = {name: _number(launch, option, variable.value) for name, variable in named.items()}
    if ours is None or ours in theirs.values():  # one of several agrees: the others are somebody else's
        return
    for name, number in theirs.items():
        if number is not None:
            yield _finding(launch, option, value, name, named[name], _means(option, number > ours))


def _means(option: str, more: bool) -> str:
    if option == "--max-model-len":
        refused = "a client that goes by it is refused what is longer"
        return refused if more else "a client that goes by it leaves part of the length unused"
    return "the server goes by the option alone"


def _of_names(
    values: tuple[str, ...], option: str, origin: str, named: dict[str, Variable]
) -> Iterator[Finding]:
    for name, variable in named.items():
        theirs = variable.value.strip()
        if theirs and theirs not in values:
            evidence = (Evidence(origin, f"{option} {' '.join(values)}"), _of(name, variable))
            means = "the server answers to its own" if option != "--kv-cache-dtype" else "the option counts"
            says = f"{name} is {theirs}, and {option} {' '.join(values)}: {means}"
            yield Finding(says, Severity.WARNING, evidence, _remedies(option, values[0], name, theirs))


def _of_model(launch: Launch, held: dict[str, Variable]) -> Iterator[Finding]:
    """Yield a client's name for the model that the server does not answer to."""
    served = launch.options.get("--served-model-name")
    names = served.values if served is not None else (launch.model,) if launch.model else ()
    if not names or (served is not None and served.reason):
        return
    origin = served.origin if served is not None else launch.model_origin
    for name, variable in held.items():
        match, theirs = _OF_THE_SERVER.fullmatch(name), variable.value.strip()
        if match is None or match[1] == "PORT" or not theirs:
            continue
        # Some clients have the kind of server in front: "openai/Qwen/Qwen3-8B".
        if any(theirs == each or theirs.endswith(f"/{each}") for each in (*names, launch.model) if each):
            continue
        evidence = (Evidence(origin, f"the server answers to {', '.join(names)}"), _of(name, variable))
        says = f"{name} is {theirs}, and the server answers to {names[0]}: a request for it gets a 404"
        remedies = _remedies("--served-model-name", f"{names[0]} {theirs}", name, names[0], plain=True)
        yield Finding(says, Severity.WARNING, evidence, remedies)


def _of_port(launch: Launch, held: dict[str, Variable]) -> Iterator[Finding]:
    """Yield a client's port that is neither the server's nor one that the container publishes."""
    given = launch.options.get("--port")
    port = launch.text("--port")
    if given is None or port is None:
        return
    published = {each.host for each in launch.container.ports} if launch.container is not None else set()
    for name, variable in held.items():
        theirs = variable.value.strip()
        match = _OF_THE_SERVER.fullmatch(name)
        if match is None or match[1] != "PORT" or name == _NO_PORT_OF_THE_SERVER or not theirs.isdecimal():
            continue
        if theirs not in {port, *published}:
            yield _finding(launch, "--port", port, name, variable, "nobody listens at the variable's port")


def _finding(launch: Launch, option: str, value: str, name: str, variable: Variable, means: str) -> Finding:
    theirs = variable.value.strip()
    evidence = (Evidence(launch.options[option].origin, f"{option} {value}"), _of(name, variable))
    return Finding(
        f"{name} is {theirs}, and {option} {value}: {means}",
        Severity.WARNING,
        evidence,
        _remedies(option, value, name, theirs),
    )


def _of(name: str, variable: Variable) -> Evidence:
    return Evidence(variable.origin, f"{name}={variable.value.strip()}")


def _remedies(option: str, value: str, name: str, theirs: str, plain: bool = False) -> tuple[Remedy, ...]:
    """Return both ways to agree: the variable like the option, or (`plain`: as given) the other way round."""
    variable = Remedy("show", {}, f"{name}={theirs if plain else value}")
    other = Remedy("show", {}, f"{option} {value if plain else theirs}")
    return (Remedy("show", {}, variable.summary, (other,)),)
