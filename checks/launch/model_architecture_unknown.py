"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Launch, Model, Packages
from cudadoctor.findings import Evidence, Finding, Remedy, Severity


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
        raise CannotTell(asked.reason if asked else model.reason or "no vLLM is installed here to ask")
    if asked.verdict != "unknown":
        return
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
