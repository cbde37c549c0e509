"""One CUDA release in one environment."""

import pytest

from cudadoctor.facts import Conda, CondaRecord, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import one, records, shown

SPLIT = {
    "cuda_nvcc": "12.8.61",
    "cuda_cudart_dev": "12.8.90",
    "cuda_libraries_dev": "12.6.2",
    "cuda_nvrtc_dev": "12.4.127",
    "libcublas_dev": "12.4.5.8",
    "libcusparse_dev": "12.3.1.170",
}


def look(conda: Conda | Unknown) -> Outcome:
    return judge("conda-cuda-split", conda=conda)


def test_reports_a_mix_of_minor_releases() -> None:
    finding = one(look(records(**SPLIT)), Severity.WARNING)
    assert finding.summary == "CUDA 12.8 is mixed with cuda-libraries-dev 12.6.2, cuda-nvrtc-dev 12.4.127"
    (remedy,) = finding.remedies
    wanted = "cuda-version=12.8 cuda-libraries-dev=12.8 cuda-nvrtc-dev=12.8"
    assert remedy.values == {"prefix": "/opt/env", "packages": wanted}
    assert (remedy.fix, remedy.summary) == (
        "conda-install",
        f"conda install -p /opt/env -c conda-forge {wanted}",
    )


def test_does_not_take_a_library_by_its_own_number() -> None:
    assert "libcublas" not in shown(one(look(records(**SPLIT))))
    healthy = records(cuda_nvcc="12.8.93", libcublas_dev="12.4.5.8", libcusparse_dev="12.3.1.170")
    assert isinstance(look(healthy), Passed)


def test_is_silent_when_only_the_builds_differ() -> None:
    healthy = records(
        cuda_version="12.8", cuda_nvcc="12.8.61", cuda_nvcc_tools="12.8.93", cuda_cudart_dev="12.8.90",
        cuda_libraries_dev="12.8.1", cuda_cccl="12.8.55", cuda_cccl_impl="2.7.0.1", cuda_crt="12.8.93",
    )  # fmt: skip
    assert isinstance(look(healthy), Passed)


def test_is_silent_about_packages_that_are_numbered_otherwise() -> None:
    healthy = records(
        cuda_version="12.8", cuda_nvcc="12.8.93", cuda_python="13.0.1", cuda_bindings="13.0.1",
        cuda_core="0.3.2", cuda_pathfinder="1.2.0", cuda_compat="13.0.2", cudatoolkit="11.8.0",
        cuda_nsight_compute="2025.3",
    )  # fmt: skip
    assert isinstance(look(healthy), Passed)


def test_is_silent_about_a_runtime_that_the_pin_has_moved_past() -> None:
    official = records(
        cuda_version="12.6", cuda_cudart="12.1.105", cuda_nvrtc="12.1.105", cuda_runtime="12.1.0",
        cuda_libraries="12.1.0", cuda_opencl="12.6.77",
    )  # fmt: skip
    assert isinstance(look(official), Passed)


def test_only_notes_a_mix_that_nothing_is_built_with() -> None:
    assert one(look(records(cuda_cudart="12.8.90", cuda_nvrtc="12.4.127")), Severity.NOTE)


def test_takes_the_release_of_cuda_version_over_the_majority() -> None:
    conda = records(cuda_version="12.6", cuda_nvcc="12.8.61", cuda_crt="12.8.61", cuda_cudart_dev="12.6.77")
    finding = one(look(conda), Severity.WARNING)
    assert finding.summary == "CUDA 12.6 is mixed with cuda-nvcc 12.8.61, cuda-crt 12.8.61"
    assert finding.remedies[0].summary.endswith("cuda-version=12.6 cuda-nvcc=12.6 cuda-crt=12.6")


def test_reports_a_cuda_version_that_no_package_follows() -> None:
    finding = one(look(records(cuda_version="12.4", cuda_nvcc="12.8.61", cuda_cudart_dev="12.8.90")))
    assert finding.summary == "cuda-version is 12.4, all CUDA packages are of 12.8"
    assert finding.remedies[0].summary == "conda install -p /opt/env -c conda-forge cuda-version=12.8"


def test_of_equals_the_compiler_decides() -> None:
    finding = one(look(records(cuda_nvcc="12.4.131", cuda_cudart_dev="12.8.90")))
    assert finding.summary == "CUDA 12.4 is mixed with cuda-cudart-dev 12.8.90"


def test_another_major_of_the_headers_is_an_error() -> None:
    assert one(look(records(cuda_nvcc="13.0.88", cuda_cudart_dev="12.8.90")), Severity.ERROR)
    assert one(look(records(cuda_nvcc_tools="13.0.88", cuda_crt_dev__linux="12.9.86")), Severity.ERROR)
    assert one(look(records(cuda_nvcc="13.0.88", cuda_nvrtc_dev="12.8.93")), Severity.WARNING)


def test_names_a_package_once_without_its_platform_half() -> None:
    conda = records(
        cuda_nvcc="12.8.61", cuda_crt="12.8.61", cuda_cudart_dev="12.4.127", cuda_cudart_dev__linux="12.4.127"
    )
    finding = one(look(conda))
    assert finding.summary == "CUDA 12.8 is mixed with cuda-cudart-dev 12.4.127"
    assert "linux-64=" not in finding.remedies[0].summary


def test_names_a_platform_half_that_stands_alone() -> None:
    finding = one(look(records(cuda_nvcc="12.8.61", cuda_crt="12.8.61", cuda_cudart_dev__linux="12.4.127")))
    assert finding.summary.endswith("cuda-cudart-dev_linux-64 12.4.127")


def test_reads_the_aarch64_halves_too() -> None:
    half = CondaRecord("cuda-nvcc_linux-aarch64", "12.4.131")
    assert one(look(records(half, cuda_cudart_dev="12.8.90", cuda_crt="12.8.93")))


def test_a_prefix_with_a_blank_is_quoted() -> None:
    finding = one(look(records(prefix="/home/ada/my env", **SPLIT)))
    assert "conda install -p '/home/ada/my env' -c" in finding.remedies[0].summary


def test_a_pixi_environment_is_changed_by_pixi() -> None:
    finding = one(look(records(prefix="/src/app/.pixi/envs/default", **SPLIT)))
    assert finding.remedies[0].summary.startswith("pixi add --manifest-path /src/app cuda-version=12.8 ")


def test_a_damaged_record_is_not_counted_but_named() -> None:
    damaged = CondaRecord("cuda-nvvm-tools", "11.8.89", "h1_0", problem="damaged: truncated")
    finding = one(look(records(damaged, **SPLIT)))
    assert "11.8" not in finding.summary
    assert "cuda-nvvm-tools-11.8.89-h1_0.json: not counted: damaged: truncated" in shown(finding)


@pytest.mark.parametrize(
    ("version", "ends"), [("12.8.90", Passed), ("12.4.127", Inconclusive), ("", Inconclusive)]
)
def test_a_damaged_record_matters_only_where_it_could_change_the_verdict(version: str, ends: type) -> None:
    damaged = CondaRecord("cuda-cudart-dev", version, problem="damaged: truncated")
    assert isinstance(look(records(damaged, cuda_nvcc="12.8.61")), ends)


def test_a_damaged_record_of_another_kind_is_of_no_concern() -> None:
    damaged = CondaRecord("libcublas-dev", "12.4.5.8", problem="damaged: truncated")
    assert isinstance(look(records(damaged, cuda_nvcc="12.8.61")), Passed)


def test_a_version_that_cannot_be_read_is_not_counted() -> None:
    assert isinstance(look(records(cuda_nvcc="12.8.61", cuda_cudart_dev="unknown")), Passed)


@pytest.mark.parametrize(
    "conda", [Conda(""), records(), records(cuda_version="12.8"), records(cudnn="9.1.0.70")]
)
def test_is_silent_when_conda_brought_no_cuda(conda: Conda) -> None:
    assert isinstance(look(conda), Skipped)


def test_unknown_is_not_absent() -> None:
    outcome = look(Unknown("conda-meta: Permission denied"))
    assert isinstance(outcome, Inconclusive) and "Permission denied" in outcome.reason
