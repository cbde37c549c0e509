"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Environ, Packages, Selection, Toolkits
from cudadoctor.findings import Evidence, Finding, Remedy, Severity
from cudadoctor.simulate.choice import consumers, lacks, toolkit_to_use


@check
def cuda_home_wrong(toolkits: Toolkits, environ: Environ, packages: Packages) -> Iterator[Finding]:
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
    who = consumers(packages, toolkits)
    if not who:
        raise Skip("nothing installed here compiles CUDA code")
    selection = next((s for s in toolkits.selections if s.consumer in who), None)
    if selection is None or not (missing := lacks(selection, toolkits)):
        return
    better = toolkit_to_use(toolkits, packages)
    severity = Severity.ERROR if "flashinfer" in who else Severity.WARNING
    names = " and ".join(
        label for name, label in (("torch", "torch"), ("flashinfer", "FlashInfer")) if name in who
    )
    yield Finding(
        f"{names} will take CUDA_HOME={selection.root}: {missing}",
        severity,
        tuple(_evidence(selection, toolkits, environ, better.root if better else "")),
        (_remedy(better.root),) if better else (),
    )


def _evidence(selection: Selection, toolkits: Toolkits, environ: Environ, better: str) -> Iterator[Evidence]:
    if selection.rule in ("CUDA_HOME", "CUDA_PATH"):
        yield Evidence(environ.where(selection.rule), f"{selection.rule}={selection.root}")
    nvcc = toolkits.nvcc_on_path
    if nvcc is not None and selection.rule not in ("CUDA_HOME", "CUDA_PATH"):
        what = f"is a {nvcc.kind}" + (f", {nvcc.evidence}" if nvcc.evidence else "")
        yield Evidence(nvcc.path, what)
    yield Evidence(
        selection.root, "no such folder" if not selection.exists else "no include/cuda_runtime.h in it"
    )
    if better:
        yield Evidence(better, "has nvcc, cuda_runtime.h and libcudart")


def _remedy(root: str) -> Remedy:
    return Remedy("cuda-home", {"CUDA_HOME": root}, f"export CUDA_HOME={root}")
