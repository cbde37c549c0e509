"""CMake defines the CUDA targets that a prepared build will ask for."""

import msgspec
import pytest

from cudadoctor.facts import (
    BuildTools,
    Conda,
    CondaRecord,
    Environ,
    HeaderDirectory,
    LibraryFile,
    LinkDirectory,
    Toolkits,
    Unknown,
)
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    CUDA,
    PREFIX,
    SITE,
    dangling,
    environ,
    header_folder,
    libraries,
    no_toolkits,
    one,
    records,
    shared,
    shown,
    toolkit,
    toolkits,
    tools,
)

CMAKE = "/usr/bin/cmake"
TARGET = f"{PREFIX}/targets/x86_64-linux"
MATHS = ("cublas", "cublasLt", "cusparse", "curand", "cusolver", "cufft", "nvrtc")
CONDA_TOOLKITS = toolkits(toolkit(PREFIX, layout="conda"))
MEANT = environ(CUDAToolkit_ROOT=CUDA)


def lib(*names: str, end: str = ".so") -> LinkDirectory:
    return LinkDirectory(True, {f"lib{name}{end}": shared() for name in names})


def look(
    directories: dict[str, LinkDirectory],
    around: Environ = MEANT,
    found: Toolkits | None = None,
    conda: Conda | None = None,
    programs: BuildTools | None = None,
) -> Outcome:
    return judge(
        "cmake-cuda-target-missing",
        tools=programs or tools(cmake=CMAKE),
        toolkits=found or toolkits(),
        libraries=libraries(directories),
        environ=around,
        conda=conda or Conda(""),
    )


def look_at_conda(names: tuple[str, ...], conda: Conda, around: Environ | None = None) -> Outcome:
    return look({f"{TARGET}/lib": lib(*names)}, around or environ(), CONDA_TOOLKITS, conda)


def test_reports_a_recorded_package_whose_link_name_is_missing() -> None:
    conda = records(libcublas_dev="12.4.5.8", libcusparse_dev="12.3.1.170")
    finding = one(look_at_conda(("cudart", "cusparse"), conda), Severity.WARNING)
    assert finding.summary == "CMake will not define CUDA::cublas, CUDA::cublasLt"
    assert f"{TARGET}: no link name libcublas.so" in shown(finding)
    assert "needed by: libcublas-dev 12.4.5.8" in shown(finding)
    wanted = f"conda install -p {PREFIX} -c conda-forge --force-reinstall cuda-version=12.8 libcublas-dev"
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.summary) == ("show", wanted), "conda thinks that it is installed"


def test_is_silent_when_every_target_is_there() -> None:
    conda = records(libcublas_dev="12.4.5.8", libcusparse_dev="12.3.1.170", cuda_nvrtc_dev="12.8.93")
    assert isinstance(look_at_conda(("cudart", *MATHS), conda), Passed)
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart", *MATHS)}), Passed)


def test_reports_what_a_prepared_build_will_miss() -> None:
    finding = one(look({f"{CUDA}/lib64": lib("cudart")}), Severity.WARNING)
    assert finding.summary == "CMake will not define CUDA::cublas, CUDA::cublasLt, CUDA::cusparse"
    assert f"needed by: a build prepared with CUDAToolkit_ROOT: {CUDA}" in shown(finding)
    wanted = "the packages libcublas-dev-12-8, libcusparse-dev-12-8 of NVIDIA's repository bring them"
    assert finding.remedies[0].summary == wanted


@pytest.mark.parametrize(
    "around",
    [environ(CUDACXX=f"{CUDA}/bin/nvcc"), environ(CMAKE_ARGS="-DGGML_CUDA=on"),
     environ(CMAKE_ARGS="-DCOMPUTE_BACKEND=cuda")],
)  # fmt: skip
def test_takes_other_signs_of_a_build_too(around: Environ) -> None:
    assert one(look({f"{CUDA}/lib64": lib("cudart")}, around))


@pytest.mark.parametrize(
    "around", [environ(), environ(CUDA_HOME=CUDA), environ(CMAKE_ARGS="-DCMAKE_LINKER=/opt/env/bin/ld"),
               environ(CUDACXX="")],
)  # fmt: skip
def test_is_silent_where_a_minimal_toolkit_merely_stands_beside_cmake(around: Environ) -> None:
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart")}, around), Skipped)
    assert isinstance(look_at_conda(("cudart",), records(cuda_cudart_dev="12.8.90"), around), Skipped)


def test_is_silent_about_packages_that_nobody_recorded() -> None:
    conda = records(cuda_cudart_dev="12.8.90", libcublas="12.8.4.1", libcublas_dev="12.8.4.1")
    assert isinstance(look_at_conda(("cudart", "cublas", "cublasLt"), conda), Passed)


def test_is_silent_about_a_record_of_another_environment() -> None:
    conda = records(libcublas_dev="12.4.5.8")
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart")}, environ(), toolkits(), conda), Skipped)


def test_a_damaged_record_promises_nothing() -> None:
    conda = records(CondaRecord("libcublas-dev", "12.4.5.8", problem="damaged"))
    assert isinstance(look_at_conda(("cudart",), conda), Skipped)


def test_reports_a_toolkit_that_cmake_will_not_find_at_all() -> None:
    finding = one(look({f"{CUDA}/lib64": lib("cublas", "cublasLt", "cusparse")}), Severity.WARNING)
    assert finding.summary == f"CMake will find no usable CUDA toolkit in {CUDA}: no libcudart.so"
    bare = toolkits(more_headers={f"{CUDA}/include": HeaderDirectory(True)})
    finding = one(look({f"{CUDA}/lib64": lib("cudart", *MATHS)}, found=bare))
    assert finding.summary == f"CMake will find no usable CUDA toolkit in {CUDA}: no include/cuda_runtime.h"
    assert "cuda-cudart-dev-12-8" in finding.remedies[0].summary


def test_names_a_header_that_is_missing_too() -> None:
    found = toolkits(more_headers={f"{CUDA}/include": header_folder("12.8", "cublas_v2.h")})
    assert "no link name libcublas.so, no include/cublas_v2.h" in shown(
        one(look({f"{CUDA}/lib64": lib("cudart")}, found=found))
    )


@pytest.mark.parametrize("end", [".so", ".a"])
@pytest.mark.parametrize(
    "place",
    ["/opt/cuda/lib", f"{CUDA}/lib64/stubs", "/usr/lib/x86_64-linux-gnu", "/usr/local/lib", "/opt/maths/lib"],
)
def test_looks_where_cmake_looks(place: str, end: str) -> None:
    around = environ(CUDAToolkit_ROOT=CUDA, CUDA_PATH="/opt/cuda", CMAKE_PREFIX_PATH="/opt/other:/opt/maths")
    elsewhere = {place: lib("cublas", "cublasLt", "cusparse", end=end)}
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart"), **elsewhere}, around), Passed)


def test_knows_a_folder_by_where_it_really_is() -> None:
    winding = "/usr/lib/gcc/x86_64-linux-gnu/12/../../../x86_64-linux-gnu"
    there = msgspec.structs.replace(lib("cublas", "cublasLt", "cusparse"), real="/usr/lib/x86_64-linux-gnu")
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart"), winding: there}), Passed)


@pytest.mark.parametrize("place", ["/opt/maths/lib", f"{CUDA}/lib"])
def test_a_folder_that_cmake_never_looks_into_does_not_help(place: str) -> None:
    assert one(look({f"{CUDA}/lib64": lib("cudart"), place: lib(*MATHS)}))


@pytest.mark.parametrize("file", [dangling("libcublas.so.12"), LibraryFile("loop"), LibraryFile("directory")])
def test_a_link_to_nowhere_is_no_link_name(file: LibraryFile) -> None:
    folder = LinkDirectory(True, {**lib("cudart", "cublasLt", "cusparse").files, "libcublas.so": file})
    assert one(look({f"{CUDA}/lib64": folder})).summary == "CMake will not define CUDA::cublas"


def test_a_versioned_file_alone_is_no_link_name() -> None:
    folder = LinkDirectory(True, {**lib("cudart", "cublasLt", "cusparse").files, "libcublas.so.13": shared()})
    pip = toolkits(toolkit(f"{SITE}/nvidia/cu13", "13.0.88", "pip-cu13"))
    finding = one(look({f"{SITE}/nvidia/cu13/lib": folder}, environ(CMAKE_ARGS="-DGGML_CUDA=1"), pip))
    assert not finding.remedies, "no package of pip brings link names"


def test_a_compiler_that_is_named_decides_over_the_one_that_is_found() -> None:
    both = toolkits(toolkit(), toolkit("/opt/cuda"))
    directories = {f"{CUDA}/lib64": lib("cudart", *MATHS), "/opt/cuda/lib64": lib("cudart")}
    assert isinstance(look(directories, environ(CUDACXX=f"{CUDA}/bin/nvcc"), both), Passed)
    for named in (
        environ(CUDACXX="/opt/cuda/bin/nvcc"),
        environ(CMAKE_ARGS="-G Ninja -DCMAKE_CUDA_COMPILER:PATH=/opt/cuda/bin/nvcc"),
        environ(CMAKE_ARGS="-DCUDAToolkit_ROOT=/opt/cuda/"),
    ):
        assert one(look(directories, named, both))


def test_finds_its_way_in_the_layout_of_sbsa_linux() -> None:
    found = toolkits(toolkit(PREFIX, layout="conda", arch="aarch64"))
    directories = {f"{PREFIX}/targets/sbsa-linux/lib": lib("cudart")}
    assert one(look(directories, environ(), found, records(libcublas_dev="12.4.5.8")))


@pytest.mark.parametrize("layout", ["debian", "hpc-sdk"])
def test_is_silent_about_layouts_of_their_own(layout: str) -> None:
    assert isinstance(look({}, found=toolkits(toolkit("/usr", "11.8.89", layout))), Skipped)


def test_is_silent_when_cmake_or_the_toolkit_is_absent() -> None:
    assert isinstance(look({f"{CUDA}/lib64": lib("cudart")}, programs=tools()), Skipped)
    assert isinstance(look({}, environ(CMAKE_ARGS="-DGGML_CUDA=1"), found=no_toolkits()), Skipped)
    assert isinstance(look({}, environ(CUDACXX="/elsewhere/bin/nvcc")), Skipped)


def test_a_toolkit_whose_libraries_were_not_looked_at_leaves_no_verdict() -> None:
    assert isinstance(look({}), Inconclusive)


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "cmake-cuda-target-missing",
        tools=tools(cmake=CMAKE),
        toolkits=toolkits(),
        libraries=Unknown("timed out"),
        environ=MEANT,
        conda=Conda(""),
    )
    assert isinstance(outcome, Inconclusive)
