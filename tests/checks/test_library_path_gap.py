from cudadoctor.facts import LinkDirectory, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed
from cudadoctor.testing import judge

from .build import (
    PREFIX,
    compilers,
    environ,
    folder,
    libraries,
    one,
    packages,
    shared,
    shown,
    toolkit,
    toolkits,
)

ABSENT = LinkDirectory(False)
CONDA = toolkits(toolkit(PREFIX, layout="conda"))


def outcome(
    directories: dict[str, LinkDirectory], seen: Toolkits = CONDA, variables: dict[str, str] | None = None
) -> Outcome:
    held = {f"{PREFIX}/lib64": ABSENT, f"{PREFIX}/lib64/stubs": ABSENT, "/usr/lib": folder(), **directories}
    return judge(
        "library-path-gap",
        toolkits=seen,
        compilers=compilers(folders=("{LIBRARY_PATH}/", "/usr/lib/")),
        libraries=libraries(held),
        environ=environ(**(variables or {})),
        packages=packages(),
    )


def test_reports_installed_libraries_that_no_line_reaches() -> None:
    finding = one(outcome({f"{PREFIX}/lib": folder(cublas=shared(), curand=shared())}), Severity.WARNING)
    assert "-lcublas -lcurand" in finding.summary
    (remedy,) = finding.remedies
    assert remedy.summary == f"ln -s lib {PREFIX}/lib64"
    assert [other.values for other in remedy.instead] == [{"LIBRARY_PATH": f"{PREFIX}/lib"}]


def test_asks_for_the_very_link_that_a_missing_cudart_asks_for() -> None:
    targets = f"{PREFIX}/targets/x86_64-linux/lib"
    held = {
        f"{PREFIX}/lib": folder(cublas=shared()),
        targets: folder(cublas=shared(), cudart=shared(), nvrtc=shared()),
    }
    values = [finding.remedies[0].values for finding in outcome(held).findings]
    assert values == [{"path": f"{PREFIX}/lib64", "text": "targets/x86_64-linux/lib"}] * 2


def test_keeps_what_library_path_had() -> None:
    held = {f"{PREFIX}/lib64": folder(), f"{PREFIX}/lib": folder(cublas=shared()), "/x": folder()}
    (remedy,) = one(outcome(held, variables={"LIBRARY_PATH": "/x"})).remedies
    assert remedy.values == {"LIBRARY_PATH": f"/x:{PREFIX}/lib"} and not remedy.instead


def test_libraries_in_several_folders_take_one_variable() -> None:
    targets = f"{PREFIX}/targets/x86_64-linux/lib"
    held = {f"{PREFIX}/lib": folder(cublas=shared()), targets: folder(nvrtc=shared())}
    values = [finding.remedies[0].values for finding in outcome(held).findings]
    assert values == [{"LIBRARY_PATH": f"{PREFIX}/lib:{targets}"}] * 2


def test_is_silent_when_library_path_reaches_them() -> None:
    held = {f"{PREFIX}/lib": folder(cublas=shared())}
    assert isinstance(outcome(held, variables={"LIBRARY_PATH": f"{PREFIX}/lib"}), Passed)


def test_is_silent_when_healthy_and_when_nothing_is_installed() -> None:
    assert isinstance(outcome({}), Passed)
    assert isinstance(outcome({"/usr/local/cuda/lib64": folder(cublas=shared())}, toolkits()), Passed)


def test_notes_empty_entries_at_either_end_and_in_the_middle() -> None:
    for value in ("/x:", ":/x", "/x::/y"):
        for variable in ("LIBRARY_PATH", "LD_LIBRARY_PATH"):
            held = {"/x": folder(), "/y": folder(), ".": folder()}
            finding = one(outcome(held, variables={variable: value}), Severity.NOTE)
            assert "current folder" in finding.summary and f"{variable}={value}" in shown(finding)
            assert finding.remedies[0].values[variable] == ":".join(filter(None, value.split(":")))


def test_a_library_path_that_is_set_but_empty_means_the_current_folder() -> None:
    assert "unset LIBRARY_PATH" in shown(
        one(outcome({".": folder()}, variables={"LIBRARY_PATH": ""}), Severity.NOTE)
    )


def test_an_empty_ld_library_path_means_nothing() -> None:
    assert isinstance(outcome({}, variables={"LD_LIBRARY_PATH": ""}), Passed)


def test_a_folder_that_does_not_exist_is_nothing_to_speak_of() -> None:
    held = {"/usr/local/nvidia/lib": ABSENT, "/x": folder()}
    assert isinstance(outcome(held, variables={"LD_LIBRARY_PATH": "/x:/usr/local/nvidia/lib"}), Passed)
