"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Environ, Packages, Toolkits
from cudadoctor.findings import Evidence, Finding, Severity, export
from cudadoctor.simulate.choice import toolkit_to_use
from cudadoctor.verdicts import another_toolkit


@check
def nvcc_missing(toolkits: Toolkits, environ: Environ, packages: Packages) -> Iterator[Finding]:
    """No nvcc where FlashInfer will look for it.

    ## What it means
    FlashInfer starts `$CUDA_HOME/bin/nvcc` for every operator that is not prebuilt. vLLM looks for nvcc
    first and takes another attention backend where there is none: then nothing fails, FlashInfer is merely
    not used. With `CUDA_HOME` set to a folder without nvcc, or without vLLM, the first call fails.

    ## How to tell
    `"$CUDA_HOME/bin/nvcc" --version`

    ## What helps
    `CUDA_HOME` set to a toolkit that has nvcc; else a toolkit: `cuda-nvcc` of conda-forge in a conda
    environment, NVIDIA's packages on the system. `flashinfer-jit-cache` avoids most compilation.
    """
    if packages.flashinfer is None or (packages.torch is not None and not packages.torch.cuda):
        raise Skip("FlashInfer for CUDA is not installed")
    if environ.get("FLASHINFER_DISABLE_JIT"):
        raise Skip("FLASHINFER_DISABLE_JIT is set: FlashInfer compiles nothing")
    nvcc = environ.get("FLASHINFER_NVCC")
    selection = toolkits.selected("flashinfer")
    if nvcc or (selection is not None and selection.has_nvcc):
        return
    better = toolkit_to_use(toolkits, packages)
    remedies = (export("cuda-home", CUDA_HOME=better.root),) if better else ()
    chosen = selection is not None and selection.rule in ("CUDA_HOME", "CUDA_PATH")
    evidence = _evidence(toolkits, environ)
    if chosen and selection is not None:
        summary = f"FlashInfer will start {selection.root}/bin/nvcc, which does not exist"
        yield Finding(summary, _unused(packages), evidence, remedies)
    elif better is not None:
        summary = f"FlashInfer finds no nvcc on PATH, though {better.nvcc} is there"
        yield Finding(summary, _unused(packages), evidence, remedies)
    else:
        get = another_toolkit(packages)
        summary = "FlashInfer cannot compile here: no nvcc within reach"
        yield Finding(summary, _unused(packages), evidence, (get,) if get else ())


def _unused(packages: Packages) -> Severity:
    """Return how bad it is that FlashInfer cannot compile: nothing, where another backend takes over."""
    prebuilt = packages.flashinfer is not None and packages.flashinfer.jit_cache
    return Severity.NOTE if prebuilt or packages.find("vllm") else Severity.ERROR


def _evidence(toolkits: Toolkits, environ: Environ) -> tuple[Evidence, ...]:
    found = []
    if environ.get("CUDA_HOME") or environ.get("CUDA_PATH"):
        name = "CUDA_HOME" if environ.get("CUDA_HOME") else "CUDA_PATH"
        found.append(Evidence(environ.where(name), f"{name}={environ.get(name)}"))
    if toolkits.nvcc_on_path is None:
        found.append(Evidence("PATH", "no nvcc in any of its folders"))
    found += [Evidence(t.root, "a toolkit without nvcc") for t in toolkits.toolkits if not t.nvcc][:2]
    return tuple(found)
