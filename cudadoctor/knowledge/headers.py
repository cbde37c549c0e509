"""CUDA headers: who includes them, and which package of conda, pip and apt brings them.

Modules, not TOML: these rows are on the path of every check, and parsing TOML costs more than all probes.
"""

from __future__ import annotations

from msgspec import Struct


class Package(Struct, frozen=True):
    """What brings a header, by packager. `{mm}` is a version like 13-0."""

    conda: str
    pip12: str
    pip13: str
    apt: str


class Header(Struct, frozen=True):
    """One header, the package that brings it, and who includes it."""

    name: str
    package: Package
    flashinfer: str  #: "all" operators, the names of some, or "" where none includes it
    linked: bool = False  #: whether those operators also link the library, by its link name


def _package(stem: str, conda: str = "") -> Package:
    pip = f"nvidia-{stem.removeprefix('lib')}"
    return Package(conda or f"{stem}-dev", f"{pip}-cu12", pip, f"{stem}-dev-{{mm}}")


# conda: conda-forge's feedstocks (cuda-cudart, cuda-nvcc-impl, libcublas) and the naming convention of its
#   compile guide. pip: the file lists of NVIDIA's wheels. apt: NVIDIA's Debian repository. All on 2026-11-21.
_CUDART = "cuda-cudart-dev"
_RUNTIME = Package(_CUDART, "nvidia-cuda-runtime-cu12", "nvidia-cuda-runtime", f"{_CUDART}-{{mm}}")
_CRT = Package("cuda-crt-dev_linux-64", "nvidia-cuda-nvcc-cu12", "nvidia-cuda-crt", "cuda-crt-{mm}")
_CUBLAS, _CURAND, _NVRTC = _package("libcublas"), _package("libcurand"), _package("cuda-nvrtc")

# flashinfer: read from the sources that flashinfer-python 0.5.3 and 0.7.2.post1 ship, on 2026-11-21.
HEADERS: tuple[Header, ...] = (
    Header("cuda.h", _RUNTIME, "all"),
    Header("cuda_runtime.h", _RUNTIME, "all"),
    Header("cuda_runtime_api.h", _RUNTIME, "all"),
    Header("cuda_fp16.h", _RUNTIME, "all"),
    Header("cuda_bf16.h", _RUNTIME, "all"),
    Header("cuda_fp8.h", _RUNTIME, "all"),
    Header("crt/host_config.h", _CRT, "all"),
    Header("cublas_v2.h", _CUBLAS, "gemm, norm", True),
    Header("cublasLt.h", _CUBLAS, "gemm, norm", True),
    Header("curand.h", _CURAND, "sampling"),
    Header("curand_kernel.h", _CURAND, "sampling, fused MoE"),
    Header("nvrtc.h", _NVRTC, "DeepGEMM", True),
    Header("cusparse.h", _package("libcusparse"), ""),
    Header("cusolverDn.h", _package("libcusolver"), ""),
    Header("cufft.h", _package("libcufft"), ""),
)

NAMES: tuple[str, ...] = tuple(header.name for header in HEADERS)
