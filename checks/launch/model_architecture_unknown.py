"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.tasks import without_config


@check
def model_architecture_unknown(launch: Launch, model: Model, packages: Packages) -> Iterator[Finding]:
    """The installed vLLM does not know the architecture that the model's config.json names.

    ## What it means
    vLLM has a class of its own for each architecture, and stops at one that it does not know: `Model
    architectures [...] are not supported for now`. A new model needs a newer vLLM; a very old one may have
    been dropped. Some run all the same through transformers.

    ## How to tell
    `architectures` in config.json, against the names in `vllm/model_executor/models/registry.py`.

    ## What helps
    A vLLM that has it. Where the name is misspelt, the right one in config.json.
    """
    if launch.kind == "other":
        raise Skip("the command is no launch of vLLM")
    asked = model.architecture
    if asked is None or asked.verdict == "cannot-tell":
        raise CannotTell(asked.reason if asked else _why_not(launch, model, packages))
    if asked.verdict != "unknown":
        return
    if doubt := _in_doubt(launch, model):
        raise CannotTell(doubt)
    vllm = packages.find("vllm")
    version = vllm.version if vllm is not None else ""
    names = ", ".join(asked.asked)
    last = f"; vLLM {asked.former} was the last that did" if asked.former else ""
    near = (Remedy("show", {}, f"known and alike: {', '.join(asked.nearest)}"),) if asked.nearest else ()
    yield Finding(
        f"vLLM {version} does not know {names}{last}",
        Severity.ERROR,
        (
            Evidence(model.config_path, f"architectures: {names}"),
            Evidence(asked.source, "names no such model"),
        ),
        near,
    )


def _in_doubt(launch: Launch, model: Model) -> str:
    """Return why vLLM may take another architecture than that of config.json, "" where it may not."""
    for name, does in (("--hf-overrides", "may name another one"), ("--model-impl", "says what runs it")):
        if why := launch.unknown(name):
            return f"{name} {does}: {why}"
        if launch.text(name) not in (None, "", "auto", "{}"):
            return f"{name} {does}"
    if model.params:
        return "params.json is there too, which vLLM may read instead of config.json"
    return (
        "it is a draft model, which leads to another" if "speculators_config" in (model.config or {}) else ""
    )


def _why_not(launch: Launch, model: Model, packages: Packages) -> str:
    if model.reason:
        return without_config(model)
    if launch.contained:
        return "which vLLM is in the image is not known here"
    if packages.find("vllm") is None:
        return "no vLLM is installed here to ask"
    return without_config(model) if model.config is None else "it was not looked up"
