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

#: Libraries whose number is CUDA's major; it may be followed by a minor, as in libnvrtc-builtins.so.12.8.
_AS_CUDA = frozenset((
    "libcudart", "libnvrtc", "libnvrtc-builtins", "libcupti", "libcublas", "libcublasLt", "libnvJitLink",
))  # fmt: skip
#: Others that are not the same in both, by the CUDA major. libcudnn.so.9, libnccl.so.2, libcusparse.so.12,
#: libcusparseLt.so.0, libcurand.so.10, libcufile.so.0 and libnvshmem_host.so.3 are.
_BY_CUDA = {
    "libcufft": {"12": "libcufft.so.11", "13": "libcufft.so.12"},
    "libcusolver": {"12": "libcusolver.so.11", "13": "libcusolver.so.12"},
    "libnvToolsExt": {"12": "libnvToolsExt.so.1", "13": "libnvtx3interop.so.1"},
}


def instead(soname: str, cuda: str) -> str:
    """Return what the wheel for a CUDA major brings in the place of this library; "" where it is this one.

    It is "" as well where that is not known.
    """
    name, _, number = soname.partition(".so.")
    if name in _AS_CUDA:
        there = f"{name}.so.{cuda}"
        return there if number and number.partition(".")[0] != cuda else ""
    there = _BY_CUDA.get(name, {}).get(cuda, soname)
    return "" if there == soname else there


def stem(soname: str) -> str:
    """Return the middle of the wheel's name, "cublas"; "torch" for torch's own libraries, "" for others."""
    if _OF_TORCH.match(soname):
        return "torch"
    return STEMS.get(soname.partition(".so")[0], "")
