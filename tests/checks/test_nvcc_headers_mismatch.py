"""nvcc and the headers it compiles with are of one CUDA release."""

import msgspec
import pytest

from cudadoctor.facts import Environ, HeaderDirectory, NvccOnPath, Packages, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    CUDA,
    PREFIX,
    SITE,
    environ,
    header_folder,
    no_toolkits,
    one,
    packages,
    severities,
    shown,
    toolkit,
    toolkits,
)

OTHER = "/opt/other/include"
PIP = f"{SITE}/nvidia/cu13"


def look(found: Toolkits, around: Environ | None = None, installed: Packages | None = None) -> Outcome:
    return judge(
        "nvcc-headers-mismatch",
        toolkits=found,
        environ=around or environ(),
        packages=installed or packages(),
    )


def pip(version: str = "13.3.33", headers: str = "13.0") -> Toolkits:
    return toolkits(toolkit(PIP, version, "pip-cu13"), headers=headers)


def pip_packages(nvcc: str = "13.3.33", crt: str = "13.3.33", nvvm: str = "13.3.33") -> Packages:
    return packages(
        nvidia_cuda_nvcc=nvcc, nvidia_cuda_crt=crt, nvidia_nvvm=nvvm, nvidia_cuda_runtime="13.0.96"
    )


def cpath(*folders: str) -> Environ:
    return environ(CPATH=":".join(folders))


def test_reports_a_pip_nvcc_that_is_newer_than_the_pinned_headers() -> None:
    finding = one(look(pip(), installed=pip_packages()), Severity.ERROR)
    assert finding.summary == "nvcc is of CUDA 13.3, the headers it will use are of 13.0"
    assert f"{PIP}/include/cuda_runtime_api.h: CUDART_VERSION of CUDA 13.0" in shown(finding)
    wanted = "'nvidia-cuda-nvcc==13.0.*' 'nvidia-cuda-crt==13.0.*' 'nvidia-nvvm==13.0.*'"
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.summary) == ("pip-install", f"pip install {wanted}")
    assert remedy.values == {"packages": wanted.replace("'", "")}


def test_the_wheels_of_another_environment_are_not_changed_from_here() -> None:
    other = "/home/ada/other/lib/python3.12/site-packages/nvidia/cu13"
    found = toolkits(toolkit(other, "13.3.33", "pip-cu13"), headers="13.0")
    assert one(look(found, installed=pip_packages())).remedies == ()


def test_is_silent_when_all_are_of_one_release() -> None:
    assert isinstance(look(toolkits()), Passed)
    assert isinstance(look(pip(headers="13.3"), installed=pip_packages()), Passed)


def test_builds_of_one_release_are_no_mismatch() -> None:
    assert isinstance(look(toolkits(toolkit(version="12.8.61"), headers="12.8")), Passed)


def test_reports_another_toolkit_in_cpath() -> None:
    found = toolkits(more_headers={OTHER: header_folder("12.4")})
    finding = one(look(found, cpath("/home/ada/include", OTHER, "")), Severity.WARNING)
    assert "CPATH: CPATH=/home/ada/include:/opt/other/include:" in shown(finding)
    (remedy,) = finding.remedies
    assert (remedy.fix, remedy.values) == ("include-path", {"CPATH": "/home/ada/include"})


def test_unsets_a_cpath_that_has_nothing_else() -> None:
    found = toolkits(more_headers={OTHER: header_folder("11.8")})
    finding = one(look(found, cpath(OTHER)), Severity.ERROR)
    assert (finding.remedies[0].values, finding.remedies[0].summary) == ({"CPATH": ""}, "unset CPATH")


def test_takes_every_other_release_out_of_cpath() -> None:
    folders = {"/a": header_folder("12.4"), "/b": header_folder("12.8"), "/c": header_folder("12.6")}
    finding = one(look(toolkits(more_headers=folders), cpath("/a", "/b", "/c", "/d")))
    assert finding.remedies[0].values == {"CPATH": "/b:/d"}


def test_a_part_of_a_toolkit_in_cpath_does_not_win() -> None:
    part = header_folder("12.4", "crt/host_config.h")
    assert isinstance(look(toolkits(more_headers={OTHER: part}), cpath(OTHER)), Passed)


def test_cpath_does_not_come_before_the_include_folder_of_a_conda_nvcc() -> None:
    found = toolkits(toolkit(PREFIX, layout="conda"), more_headers={OTHER: header_folder("12.4")})
    assert isinstance(look(found, cpath(OTHER)), Passed)


def test_cpath_with_the_same_release_is_healthy() -> None:
    conda = toolkit(PREFIX, layout="conda")
    assert isinstance(look(toolkits(conda), cpath(conda.include[-1])), Passed)
    assert isinstance(look(toolkits(more_headers={OTHER: header_folder("12.8")}), cpath(OTHER)), Passed)


def test_the_toolkit_s_own_folder_in_cpath_does_not_help() -> None:
    """GCC leaves a folder that is named with -isystem at that place, wherever else it is named."""
    found = toolkits(more_headers={OTHER: header_folder("12.4")})
    assert one(look(found, cpath(f"{CUDA}/include", OTHER)))


@pytest.mark.parametrize("arch", ["x86_64", "aarch64"])
def test_reports_a_conda_environment_whose_headers_are_older(arch: str) -> None:
    found = toolkits(toolkit(PREFIX, layout="conda", arch=arch), headers="12.4")
    finding = one(look(found), Severity.WARNING)
    wanted = "cuda-version=12.8 cuda-nvcc=12.8 cuda-cudart-dev=12.8"
    assert finding.remedies[0].fix == "conda-install"
    assert finding.remedies[0].summary == f"conda install -p {PREFIX} -c conda-forge {wanted}"


@pytest.mark.parametrize(
    ("nvcc", "headers", "installed", "severity"),
    [
        ("12.8.93", "12.4", packages(flashinfer="0.5.3"), "warning"),
        ("12.8.93", "12.4", packages(flashinfer="0.7.2.post1"), "error"),
        ("12.8.93", "11.8", packages(flashinfer="0.5.3"), "error"),
        ("13.0.88", "13.2", packages(flashinfer="0.5.3"), "error"),
        ("13.0.88", "13.2", packages(flashinfer=""), "warning"),
    ],
)
def test_is_an_error_where_flashinfer_will_stop_for_certain(
    nvcc: str, headers: str, installed: Packages, severity: str
) -> None:
    found = toolkits(toolkit(version=nvcc), headers=headers)
    assert severities(look(found, installed=installed)) == [severity]


def test_reports_a_part_of_the_pip_compiler_of_another_release() -> None:
    outcome = look(pip(headers="13.3"), installed=pip_packages(crt="13.0.88"))
    finding = one(outcome, Severity.WARNING)
    assert finding.summary == "nvcc is of CUDA 13.3, its part nvidia-cuda-crt of 13.0"
    assert "'nvidia-cuda-crt==13.3.*'" in finding.remedies[0].summary


def test_pip_wheels_do_not_matter_where_another_toolkit_is_selected() -> None:
    assert isinstance(look(toolkits(), installed=pip_packages(crt="13.0.88")), Passed)


def test_follows_a_wrapper_script_to_the_nvcc_it_starts() -> None:
    behind = toolkit("/usr/local/cuda-12.4", "12.4.131")
    script = NvccOnPath("/home/ada/bin/nvcc", "script", f"{behind.root}/bin/nvcc", "line 2")
    found = toolkits(behind, headers="12.8", root="/home/ada", nvcc_on_path=script)
    found = with_nvcc(found)
    assert one(look(found)).summary.startswith("nvcc is of CUDA 12.4, the headers")


def test_cpath_does_not_come_before_the_folder_of_a_wrapped_nvcc() -> None:
    behind = toolkit("/usr/local/cuda-12.8")
    script = NvccOnPath("/home/ada/bin/nvcc", "script", f"{behind.root}/bin/nvcc", "line 2")
    found = toolkits(
        behind, root="/home/ada", nvcc_on_path=script, more_headers={OTHER: header_folder("12.4")}
    )
    assert isinstance(look(with_nvcc(found), cpath(OTHER)), Passed)


def with_nvcc(found: Toolkits) -> Toolkits:
    selections = tuple(msgspec.structs.replace(s, has_nvcc=True) for s in found.selections)
    return msgspec.structs.replace(found, selections=selections)


def test_a_toolkit_selected_by_the_place_its_link_points_to_is_the_same() -> None:
    kit = msgspec.structs.replace(toolkit(), real="/usr/local/cuda-12.8")
    found = with_nvcc(toolkits(kit, root=kit.real, more_headers={OTHER: header_folder("12.4")}))
    assert one(look(found, cpath(OTHER)))
    assert isinstance(look(found), Passed)


def test_headers_that_do_not_tell_their_version_leave_no_verdict() -> None:
    outcome = look(toolkits(headers=""))
    assert isinstance(outcome, Inconclusive) and "cuda_runtime_api.h" in outcome.reason


def test_an_nvcc_that_did_not_answer_leaves_no_verdict() -> None:
    silent = msgspec.structs.replace(
        toolkit(version="12.8"), version_source=f"{CUDA}/include/cuda_runtime_api.h"
    )
    assert isinstance(look(toolkits(silent, headers="12.8")), Inconclusive)


def test_is_silent_without_headers_which_another_check_reports() -> None:
    bare = toolkits(more_headers={f"{CUDA}/include": HeaderDirectory(True)})
    assert isinstance(look(bare), Passed)


def test_is_silent_when_nothing_compiles() -> None:
    mixed = toolkits(headers="12.4")
    assert isinstance(look(mixed, installed=packages(torch="", flashinfer="")), Skipped)
    assert isinstance(look(mixed, installed=packages(cuda="")), Skipped)
    assert isinstance(look(no_toolkits()), Skipped)


def test_is_silent_when_there_is_no_nvcc() -> None:
    assert isinstance(look(toolkits(toolkit(nvcc=False), headers="12.4")), Skipped)


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "nvcc-headers-mismatch", toolkits=Unknown("timed out"), environ=environ(), packages=packages()
    )
    assert isinstance(outcome, Inconclusive)
