"""Links of CUDA libraries lead somewhere."""

import pytest

from cudadoctor.facts import LibraryFile, LinkDirectory, Packages, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    CUDA,
    PREFIX,
    compilers,
    dangling,
    environ,
    libraries,
    no_toolkits,
    one,
    packages,
    shared,
    shown,
    toolkit,
    toolkits,
)

LIB64 = f"{CUDA}/lib64"


def look(
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory],
    found: Toolkits | None = None,
    installed: Packages | None = None,
    folders: tuple[str, ...] = (),
) -> Outcome:
    held = {
        folder: files if isinstance(files, LinkDirectory) else LinkDirectory(True, files)
        for folder, files in directories.items()
    }
    known = found or toolkits()
    for kit in known.toolkits:
        for place in ("lib64", "lib64/stubs", "lib", "lib/stubs"):
            held.setdefault(f"{kit.root}/{place}", LinkDirectory(False))
    return judge(
        "dangling-cuda-links",
        toolkits=known,
        libraries=libraries(held),
        compilers=compilers(folders=folders),
        environ=environ(),
        packages=installed or packages(),
    )


GONE = dangling("libcudart.so.12.6.77", f"{LIB64}/libcudart.so.12.6.77")


def test_reports_a_link_that_makes_the_build_fail() -> None:
    finding = one(look({LIB64: {"libcudart.so": GONE}}), Severity.ERROR)
    assert finding.summary == f"{LIB64} has a link that leads nowhere: libcudart.so"
    assert f"{LIB64}/libcudart.so.12.6.77 does not exist" in shown(finding)
    assert "-lcudart -lcuda: goes past libcudart.so" in shown(finding)


def test_is_only_a_warning_where_the_library_is_found_elsewhere() -> None:
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory] = {
        LIB64: {"libcudart.so": GONE},
        "/usr/lib": {"libcudart.so": shared()},
    }
    assert one(look(directories, folders=("/usr/lib",)), Severity.WARNING)


def test_is_only_a_warning_where_nothing_links_it() -> None:
    unused = {"libcufft.so": dangling("libcufft.so.11"), "libcudart.so": shared()}
    assert one(look({LIB64: unused}), Severity.WARNING)
    only_torch = look({LIB64: {"libcudart.so": GONE}}, installed=packages(flashinfer=""))
    assert one(only_torch, Severity.WARNING)
    nobody = look({LIB64: {"libcudart.so": GONE}}, installed=packages(torch="", flashinfer=""))
    assert one(nobody, Severity.WARNING)


def test_leads_the_link_to_the_library_of_the_upgraded_package() -> None:
    files = {"libcudart.so": GONE, "libcudart.so.12": shared(), "libcudart.so.9": shared()}
    (remedy,) = one(look({LIB64: files})).remedies
    assert remedy.fix == "cuda-links"
    assert remedy.values == {f"{LIB64}/libcudart.so": f"{LIB64}/libcudart.so.12"}
    assert remedy.summary == f"ln -sfn libcudart.so.12 {LIB64}/libcudart.so"


def test_leads_the_link_of_a_moved_prefix_to_the_library_in_it() -> None:
    conda = toolkits(toolkit(PREFIX, layout="conda"))
    target = f"{PREFIX}/targets/x86_64-linux/lib"
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory] = {
        f"{PREFIX}/lib64": {"libcudart.so": dangling("/old/env/lib/libcudart.so")},
        target: {"libcudart.so": shared()},
    }
    (remedy,) = one(look(directories, conda), Severity.ERROR).remedies
    assert remedy.values == {f"{PREFIX}/lib64/libcudart.so": f"{target}/libcudart.so"}


def test_removes_a_link_to_a_library_that_is_nowhere() -> None:
    (remedy,) = one(look({LIB64: {"libcudart.so.11.0": dangling("/old/libcudart.so.11.0")}})).remedies
    assert remedy.values == {f"{LIB64}/libcudart.so.11.0": ""}
    assert remedy.summary == f"rm {LIB64}/libcudart.so.11.0"


def test_does_not_lead_a_soname_to_another_one() -> None:
    files = {"libcudart.so.12": dangling("libcudart.so.12.6.77"), "libcudart.so.13": shared()}
    (remedy,) = one(look({LIB64: files})).remedies
    assert remedy.fix == "show" and "the package that brings libcudart.so.12.6.77" in remedy.summary


def test_does_not_lead_a_library_to_its_stub() -> None:
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory] = {
        LIB64: {"libcublas.so": dangling("libcublas.so.12")},
        f"{LIB64}/stubs": {"libcublas.so": shared()},
    }
    (remedy,) = one(look(directories)).remedies
    assert remedy.fix == "show" and "the package that brings libcublas.so.12" in remedy.summary


def test_a_packages_own_link_is_never_removed() -> None:
    files = {"libcudart.so": dangling("libcudart.so.13")}
    assert "rm " not in shown(one(look({LIB64: files})))


@pytest.mark.parametrize("file", [dangling("/env/lib/libcudart.so*"), shared("/env/lib/libcudart.so.12")])
def test_reports_a_link_that_is_called_like_a_pattern(file: LibraryFile) -> None:
    finding = one(look({LIB64: {"libcudart.so*": file, "libcudart.so": shared()}}), Severity.WARNING)
    assert finding.remedies[0].summary == f"rm '{LIB64}/libcudart.so*'"


def test_a_link_to_itself_leads_nowhere_too() -> None:
    loop = LibraryFile("loop", link="libcudart.so", resolved=f"{LIB64}/libcudart.so")
    assert "leads back to itself" in shown(one(look({LIB64: {"libcudart.so": loop}})))


def test_one_folder_is_one_finding() -> None:
    files = {"libcudart.so": GONE, "libcublas.so": dangling("libcublas.so.12"), "libcufft.so": shared()}
    finding = one(look({LIB64: files}))
    assert finding.summary == f"{LIB64} has links that lead nowhere: libcudart.so, libcublas.so"


def test_one_folder_by_two_paths_is_one_finding() -> None:
    conda = toolkits(toolkit(PREFIX, layout="conda"))
    broken = {"libcublas.so": dangling("../targets/x86_64-linux/lib/libcublas.so")}
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory] = {
        f"{PREFIX}/lib": broken,
        f"{PREFIX}/lib64": LinkDirectory(True, broken, f"{PREFIX}/lib"),
    }
    assert one(look(directories, conda))


def test_a_link_that_the_build_meets_by_another_path_is_as_bad() -> None:
    conda = toolkits(toolkit(PREFIX, layout="conda"))
    broken = {"libcudart.so": dangling("../targets/x86_64-linux/lib/libcudart.so")}
    directories: dict[str, dict[str, LibraryFile] | LinkDirectory] = {
        f"{PREFIX}/lib": broken,
        f"{PREFIX}/lib64": LinkDirectory(True, broken, f"{PREFIX}/lib"),
    }
    assert one(look(directories, conda), Severity.ERROR)


def test_finds_them_below_sbsa_linux_too() -> None:
    conda = toolkits(toolkit(PREFIX, layout="conda", arch="aarch64"))
    assert one(look({f"{PREFIX}/targets/sbsa-linux/lib": {"libnvrtc.so": dangling("libnvrtc.so.12")}}, conda))


def test_looks_into_a_selected_root_that_is_no_toolkit() -> None:
    found = toolkits(toolkit("/opt/cuda"), root="/home/ada/cuda")
    assert one(look({"/home/ada/cuda/lib64": {"libcudart.so": GONE}}, found))


def test_is_silent_when_every_link_leads_somewhere() -> None:
    files = {
        "libcudart.so": shared("libcudart.so.12", f"{LIB64}/libcudart.so.12.8.90"),
        "libcudart.so.12": shared("libcudart.so.12.8.90", f"{LIB64}/libcudart.so.12.8.90"),
        "libcudart.so.12.8.90": shared(),
    }
    assert isinstance(look({LIB64: files}), Passed)


def test_is_silent_about_other_libraries() -> None:
    conda = toolkits(toolkit(PREFIX, layout="conda"))
    files = {
        "libcurl.so": dangling("libcurl.so.4"),
        "libcups.so": dangling("x"),
        "libtorch.so": dangling("x"),
    }
    assert isinstance(look({f"{PREFIX}/lib": files}, conda), Passed)


def test_is_silent_about_the_driver_of_a_machine_without_one() -> None:
    debian = toolkits(toolkit("/usr", "11.8.89", "debian"))
    files = {"libcuda.so": dangling("libcuda.so.1"), "libnvidia-ml.so": dangling("libnvidia-ml.so.1")}
    assert isinstance(look({"/usr/lib": files}, debian), Passed)


def test_a_stub_of_a_toolkit_that_is_gone_is_reported() -> None:
    assert one(look({f"{LIB64}/stubs": {"libcuda.so": dangling("../../old/libcuda.so")}}), Severity.ERROR)


def test_is_silent_when_there_is_no_toolkit() -> None:
    assert isinstance(look({}, no_toolkits()), Skipped)


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "dangling-cuda-links",
        toolkits=toolkits(),
        libraries=Unknown("timed out"),
        compilers=compilers(),
        environ=environ(),
        packages=packages(),
    )
    assert isinstance(outcome, Inconclusive)
