"""Which wheel of NVIDIA's brings a library, by its soname: for a library that is nowhere.

Read off the file lists of the wheels that torch 2.9.0+cu128 and 2.14.1+cu130 pin, on 2026-11-21. Those for
CUDA 12 end in -cu12; of those for CUDA 13 the toolkit's own have no ending, the others -cu13.
"""

from __future__ import annotations

import re

STEMS = {
    "libcudart": "cuda-runtime",
    "libnvrtc": "cuda-nvrtc",
    "libnvrtc-builtins": "cuda-nvrtc",
    "libcupti": "cuda-cupti",
    "libcublas": "cublas",
    "libcublasLt": "cublas",
    "libcufft": "cufft",
    "libcufile": "cufile",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse",
    "libcusparseLt": "cusparselt",
    "libcudnn": "cudnn",
    "libnccl": "nccl",
    "libnvJitLink": "nvjitlink",
    "libnvshmem_host": "nvshmem",
    "libnvToolsExt": "nvtx",
}
_OF_TORCH = re.compile(r"lib(torch|torch_\w+|c10|c10_\w+|shm|caffe2_nvrtc)\.so$")


def stem(soname: str) -> str:
    """Return the middle of the wheel's name, "cublas"; "torch" for torch's own libraries, "" for others."""
    if _OF_TORCH.match(soname):
        return "torch"
    return STEMS.get(soname.partition(".so")[0], "")
