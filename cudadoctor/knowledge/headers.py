"""CUDA headers: who includes them, and which package of conda, pip and apt brings them.

Modules, not TOML: these rows are on the path of every check, and parsing TOML costs more than all probes.
"""

from __future__ import annotations

from typing import NamedTuple


class Header(NamedTuple):
    """One header and the packages that bring it. `{mm}` is a version like 13-0."""

    name: str
    conda: str
    pip12: str
    pip13: str
    apt: str
    flashinfer: str  #: "all" operators, the names of some, or "" where none includes it


# flashinfer: read from the sources that flashinfer-python 0.5.3 and 0.7.2.post1 ship in flashinfer/data.
# conda: conda-forge's feedstocks (cuda-cudart, cuda-nvcc-impl, libcublas) and the naming convention of its
#   compile guide. pip: the file lists of NVIDIA's wheels. apt: NVIDIA's Debian repository. All on 2026-11-21.
HEADERS: tuple[Header, ...] = (
    Header("cuda.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("cuda_runtime.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("cuda_runtime_api.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("cuda_fp16.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("cuda_bf16.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("cuda_fp8.h", "cuda-cudart-dev", "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", "cuda-cudart-dev-{mm}", "all"),
    Header("crt/host_config.h", "cuda-crt-dev_linux-64", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-crt", "cuda-crt-{mm}", "all"),
    Header("cublas_v2.h", "libcublas-dev", "nvidia-cublas-cu12", "nvidia-cublas", "libcublas-dev-{mm}", "gemm, norm"),
    Header("cublasLt.h", "libcublas-dev", "nvidia-cublas-cu12", "nvidia-cublas", "libcublas-dev-{mm}", "gemm, norm"),
    Header("curand.h", "libcurand-dev", "nvidia-curand-cu12", "nvidia-curand", "libcurand-dev-{mm}", "sampling"),
    Header("curand_kernel.h", "libcurand-dev", "nvidia-curand-cu12", "nvidia-curand", "libcurand-dev-{mm}", "sampling, fused MoE"),
    Header("nvrtc.h", "cuda-nvrtc-dev", "nvidia-cuda-nvrtc-cu12", "nvidia-cuda-nvrtc", "cuda-nvrtc-dev-{mm}", "DeepGEMM"),
    Header("cusparse.h", "libcusparse-dev", "nvidia-cusparse-cu12", "nvidia-cusparse", "libcusparse-dev-{mm}", ""),
    Header("cusolverDn.h", "libcusolver-dev", "nvidia-cusolver-cu12", "nvidia-cusolver", "libcusolver-dev-{mm}", ""),
    Header("cufft.h", "libcufft-dev", "nvidia-cufft-cu12", "nvidia-cufft", "libcufft-dev-{mm}", ""),
)  # fmt: skip

NAMES: tuple[str, ...] = tuple(header.name for header in HEADERS)
