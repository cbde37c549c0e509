"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Environ, Packages, Paths, Selection, Toolkit, Toolkits
from cudadoctor.findings import Evidence, Finding, export
from cudadoctor.simulate.choice import complete, consumers, lacks, nothing_compiles, toolkit_to_use
from cudadoctor.verdicts import another_toolkit, of_launch, severity_for


@check
def cuda_home_wrong(
    toolkits: Toolkits, environ: Environ, packages: Packages, paths: Paths | None = None
) -> Iterator[Finding]:
    """torch and FlashInfer will take a CUDA_HOME that is no CUDA toolkit.

    ## What it means
    Both take `CUDA_HOME` or `CUDA_PATH` as it stands, else the folder two levels above the first `nvcc` on
    PATH, else `/usr/local/cuda`. A value that does not exist, starts with a colon, or belongs to a wrapper
    script has no headers and no libraries under it: every just-in-time build stops at `cuda_runtime.h` or
    at `-lcudart`.

    ## How to tell
    `python -c "from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME)"` prints a folder without
    `include/cuda_runtime.h`.

    ## What helps
    `CUDA_HOME` set to the toolkit that the `nvcc` in use belongs to.
    """
    who = consumers(packages, toolkits, environ)
    if not who:
        raise Skip(nothing_compiles(packages))
    selection = next((s for s in toolkits.selections if s.consumer in who), None)
    if selection is None or not (missing := lacks(selection, toolkits)):
        return
    better = toolkit_to_use(toolkits, packages)
    severity = severity_for(who, packages, paths)
    names = " and ".join(
        label for name, label in (("torch", "torch"), ("flashinfer", "FlashInfer")) if name in who
    )
    yield Finding(
        f"{names} will take CUDA_HOME={selection.root}: {missing}",
        severity,
        (
            *_evidence(selection, toolkits, environ),
            *_others(toolkits, packages, better),
            *of_launch(who, paths),
        ),
        (export("cuda-home", CUDA_HOME=better.root),)
        if better
        else tuple(filter(None, [another_toolkit(packages)])),
    )


def _evidence(selection: Selection, toolkits: Toolkits, environ: Environ) -> Iterator[Evidence]:
    if selection.rule in ("CUDA_HOME", "CUDA_PATH"):
        yield Evidence(environ.where(selection.rule), f"{selection.rule}={selection.root}")
    nvcc = toolkits.nvcc_on_path
    if nvcc is not None and selection.rule not in ("CUDA_HOME", "CUDA_PATH"):
        what = f"is a {nvcc.kind}" + (f", {nvcc.evidence}" if nvcc.evidence else "")
        yield Evidence(nvcc.path, what)
    yield Evidence(
        selection.root, "no such folder" if not selection.exists else "no include/cuda_runtime.h in it"
    )


def _others(toolkits: Toolkits, packages: Packages, better: Toolkit | None) -> Iterator[Evidence]:
    """Show the toolkit to take, or why none of those within reach is one to take."""
    if better is not None:
        yield Evidence(better.root, f"has nvcc {better.version} and cuda_runtime.h")
        return
    for toolkit in toolkits.toolkits:
        if complete(toolkit, toolkits) and packages.torch is not None:
            yield Evidence(
                toolkit.root, f"is CUDA {toolkit.version}, torch is built for {packages.torch.cuda}"
            )
