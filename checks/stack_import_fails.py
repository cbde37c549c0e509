"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import CannotTell, Skip, check
from cudadoctor.facts import Driver, Live, Stage, Target
from cudadoctor.findings import Evidence, Finding, Severity

_SAYS = {
    "driver": "the driver does not start",
    "torch": "import torch fails",
    "gpu": "torch cannot run a kernel on the GPU",
    "dlpack": "tensors do not get across dlpack",
    "flashinfer": "import flashinfer fails",
    "vllm": "vLLM cannot be imported",
}
_DID = {
    "driver": "cuInit(0)",
    "torch": "import torch",
    "gpu": "torch.arange(1024, device='cuda') * 2",
    "dlpack": "tvm_ffi.convert(f)(tensor)",
    "flashinfer": "import flashinfer",
    "vllm": "from vllm import LLM",
}


@check
def stack_import_fails(live: Live, driver: Driver, target: Target) -> Iterator[Finding]:
    """The environment's own Python cannot take the stack into use.

    ## What it means
    `--deep` has the environment's interpreter start the driver, import torch, run a kernel where there is a
    GPU, hand tensors over through dlpack, and import FlashInfer and vLLM, in a process of its own. What
    failed, crashed or hung there does so in every launch. `import vllm` alone loads little and proves little:
    what vLLM requires is imported with its class LLM.

    ## How to tell
    The finding names the stage, how it ended, and the last lines that it printed. `python -X faulthandler -c
    "import torch"` does the same by hand.

    ## What helps
    What the check of that cause says: a library that is missing or shadowed, a package built for another
    torch, requirements that conflict, the driver. For `float8 types are not supported by dlpack` it is
    `fp8-dlpack-unsupported`. Where none of them has a finding, the last lines are the best hint there is.
    """
    if not live.stages:
        raise CannotTell("no stage of the stack was tried")
    failed = [stage for stage in live.stages if stage.ended == "failed" and _counts(stage, driver)]
    for stage in failed:
        yield _finding(stage, live, target)
    if flooded := next((stage for stage in live.stages if stage.message.startswith("printed more")), None):
        raise CannotTell(f"{flooded.name}: {flooded.message}")
    if not failed and all(stage.ended == "not-reached" for stage in live.stages):
        first = next((stage for stage in live.stages if stage.name == "torch"), live.stages[0])
        if "not installed" in first.message or "no Python" in first.message:
            raise Skip(first.message)
        raise CannotTell(first.message)


def _counts(stage: Stage, driver: Driver) -> bool:
    """Return whether a failure matters: a driver's library without any GPU, as images have it, does not."""
    return stage.name != "driver" or bool(driver.signs())


def _finding(stage: Stage, live: Live, target: Target) -> Finding:
    did = _DID.get(stage.name, stage.name)
    first = Evidence(f"{target.python}: {did}", stage.message)
    printed = tuple(Evidence("stderr", line) for line in stage.stderr)
    return Finding(
        f"{_SAYS.get(stage.name, f'{stage.name} fails')}: {stage.message}",
        Severity.WARNING if _is_of_the_moment(stage) else Severity.ERROR,
        (first, *printed, *_strangers(live)),
    )


def _is_of_the_moment(stage: Stage) -> bool:
    """Return whether other launches may well go through: FP8 few ask for, and memory gets free again."""
    fp8 = stage.name == "dlpack" and "float8" in stage.message
    return fp8 or (stage.name == "gpu" and "out of memory" in stage.message.lower())


def _strangers(live: Live) -> Iterator[Evidence]:
    """Yield the CUDA libraries that the process had loaded instead of those that the environment brings."""
    for library in live.libraries:
        if not library.distribution and library.elsewhere:
            yield Evidence(library.path, f"was loaded, and not {library.elsewhere[0]}")
