from msgspec.structs import replace

from cudadoctor.facts import Builds, Environ, NvccOnPath, Packages, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, environ, no_toolkits, one, packages, shown, toolkit, toolkits

BUILDS = Builds(f"{SITE}/torch/version.py:6")
NEWER = toolkit("/usr/local/cuda-13.0", "13.0.88")


def look(found: Toolkits, installed: Packages | None = None, variables: Environ | None = None) -> Outcome:
    installed, variables = installed or packages(), variables or environ(CUDA_HOME="/usr/local/cuda-13.0")
    return judge("torch-cuda-mismatch", packages=installed, toolkits=found, environ=variables, builds=BUILDS)


def test_reports_an_nvcc_of_another_major() -> None:
    finding = one(look(toolkits(NEWER, headers="13.0")), Severity.WARNING)
    assert finding.summary.endswith("nvcc is of CUDA 13.0, torch is built for 12.8")
    assert f"{SITE}/torch/version.py:6: cuda is '12.8'" in shown(finding)
    assert "CUDA_HOME: selects /usr/local/cuda-13.0" in shown(finding)
    assert finding.remedies[0].fix == "show" and "CUDA 12.8 toolkit" in finding.remedies[0].summary


def test_a_toolkit_that_nobody_chose_is_a_note() -> None:
    found = toolkits(NEWER, rule="the default, as no nvcc is on PATH")
    alone = packages(flashinfer="")
    assert one(look(found, alone, environ()), Severity.NOTE)
    assert one(look(found, packages(), environ()), Severity.WARNING)


def test_names_a_toolkit_of_torch_s_major_that_is_there() -> None:
    finding = one(look(toolkits(NEWER, toolkit("/opt/cuda-12.9", "12.9.86"))))
    assert finding.remedies[0].values == {"CUDA_HOME": "/opt/cuda-12.9"}


def test_another_minor_builds() -> None:
    assert isinstance(look(toolkits(toolkit(version="12.4.131"), headers="12.4")), Passed)


def test_is_silent_when_healthy() -> None:
    assert isinstance(look(toolkits()), Passed)


def test_is_silent_where_nothing_compiles() -> None:
    assert isinstance(look(toolkits(NEWER), packages(cuda="")), Skipped)
    assert isinstance(look(toolkits(NEWER), packages(torch="", flashinfer="")), Skipped)
    assert isinstance(look(no_toolkits()), Skipped)


def test_a_root_that_is_no_toolkit_is_another_check_s_to_tell() -> None:
    script = NvccOnPath("/usr/local/bin/nvcc", "script", f"{NEWER.root}/bin/nvcc", "line 2")
    assert isinstance(look(toolkits(NEWER, root="/usr/local", nvcc_on_path=script)), Passed)


def test_a_version_that_only_headers_state_is_not_nvcc_s() -> None:
    silent = replace(NEWER, version_source=f"{NEWER.root}/include/cuda_runtime_api.h")
    assert isinstance(look(toolkits(silent)), Passed)
