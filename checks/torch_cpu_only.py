"""See the check's own page."""

from __future__ import annotations

from collections.abc import Iterator

from cudadoctor.declare import Skip, check
from cudadoctor.facts import Builds, BuiltFor, Distribution, Packages
from cudadoctor.findings import Evidence, Finding, Severity
from cudadoctor.knowledge.torch import index_for
from cudadoctor.verdicts import pip_install, pip_of


@check
def torch_cpu_only(packages: Packages, builds: Builds) -> Iterator[Finding]:
    """torch is a CPU-only build, and packages that need its CUDA part are installed beside it.

    ## What it means
    vLLM, FlashInfer, flash-attn and the CUDA builds of xformers and torchvision link `libtorch_cuda.so` and
    `libc10_cuda.so`, which a CPU-only torch has not: importing them fails, or they see no GPU. It happens
    when a later `pip install torch` took the wheel of another index, or of an architecture whose wheel on
    the package index is CPU-only.

    ## How to tell
    `python -c "import torch; print(torch.version.cuda)"` prints `None`.

    ## What helps
    The same torch built for CUDA: from the package index, or from the index of one CUDA release.
    """
    torch = packages.torch
    if torch is None:
        raise Skip("torch is not installed")
    if torch.cuda or torch.hip or torch.version.partition("+")[2] not in ("", "cpu"):
        raise Skip("torch is built for a GPU")
    stack = [each for each in packages.distributions if _needs_cuda(each)]
    labelled = [each for each in builds.built_for if each.cuda not in ("", "cpu")]
    if not stack and not labelled:
        return
    names = list(dict.fromkeys([each.name for each in stack] + [each.distribution for each in labelled]))
    public = torch.version.partition("+")[0]
    index = index_for(public, _cuda(labelled))
    remedy = pip_install(pip_of(packages), f"torch=={public}", again=True, alone=False, index=index)
    yield Finding(
        f"torch {torch.version} is a CPU-only build, beside {' and '.join(names[:3])} for CUDA",
        Severity.ERROR,
        (
            Evidence(builds.torch_source, "cuda is None"),
            *(
                Evidence(each.path, f"{each.name} {each.version} needs torch's CUDA libraries")
                for each in stack
            ),
            *(Evidence(each.source, f"{each.distribution} is built for {each.stated}") for each in labelled),
        ),
        (remedy,),
    )


#: Of these every build for Linux that is not labelled as another device's needs CUDA.
_CUDA_ONLY = frozenset(("vllm", "sglang", "flashinfer-python", "flash-attn", "flash-attn-3"))
_OTHER_DEVICES = ("cpu", "rocm", "xpu", "tpu", "neuron", "gaudi", "hpu", "ascend", "npu", "empty", "metal")


def _needs_cuda(each: Distribution) -> bool:
    label = each.version.partition("+")[2]
    return each.name in _CUDA_ONLY and not any(device in label for device in _OTHER_DEVICES)


def _cuda(labelled: list[BuiltFor]) -> str:
    """Return the CUDA release that the others are built for, where one says it in full."""
    return next((each.cuda for each in labelled if "." in each.cuda), "")
