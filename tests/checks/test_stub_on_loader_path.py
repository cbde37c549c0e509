"""The loader must not find a stub where the driver should be."""

import pytest

from cudadoctor.facts import LibraryFile, LinkDirectory, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import dangling, environ, folder, libraries, machine, one, severities, shared, shown

STUBS = "/usr/local/cuda/lib64/stubs"
SYSTEM = "/usr/lib/x86_64-linux-gnu"


def with_soname(file: LibraryFile, real: str = "") -> LinkDirectory:
    return LinkDirectory(True, {"libcuda.so.1": file}, real)


def look(value: str, arch: str = "x86_64", /, **directories: LinkDirectory) -> Outcome:
    """Judge LD_LIBRARY_PATH=`value`; `stubs` and `system` are short for their folders."""
    known = {"stubs": STUBS, "system": SYSTEM}
    held = {known.get(name, name): directory for name, directory in directories.items()}
    return judge(
        "stub-on-loader-path",
        environ=environ(LD_LIBRARY_PATH=value),
        libraries=libraries(held, driver=(f"{SYSTEM}/libcuda.so.1",)),
        machine=machine(arch=arch),
    )


def test_reports_a_stub_that_the_runtime_will_load() -> None:
    finding = one(look(f"/opt/lib:{STUBS}", stubs=with_soname(shared("libcuda.so"))), Severity.ERROR)
    assert "stub library" in finding.summary
    (remedy,) = finding.remedies
    assert remedy.fix == "library-path"
    assert (remedy.values, remedy.summary) == (
        {"LD_LIBRARY_PATH": "/opt/lib"},
        "export LD_LIBRARY_PATH=/opt/lib",
    )


def test_reports_a_link_that_leads_into_a_stubs_folder() -> None:
    link = shared(f"{STUBS}/libcuda.so", f"{STUBS}/libcuda.so")
    finding = one(look("/opt/lib", **{"/opt/lib": with_soname(link)}), Severity.ERROR)
    assert f"/opt/lib/libcuda.so.1: leads to {STUBS}/libcuda.so" in shown(finding)
    assert not finding.remedies, "the folder may hold libraries that are needed"


def test_a_stubs_folder_with_the_link_name_alone_is_a_warning() -> None:
    finding = one(look(STUBS, stubs=folder(cuda=shared())), Severity.WARNING)
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": ""}
    assert finding.remedies[0].summary == "unset LD_LIBRARY_PATH"


def test_one_folder_with_both_names_is_one_finding() -> None:
    both = LinkDirectory(True, {"libcuda.so": shared(), "libcuda.so.1": shared("libcuda.so")})
    assert one(look(STUBS, stubs=both), Severity.ERROR)


def test_two_folders_are_two_findings_with_one_remedy() -> None:
    other = "/opt/env/lib/stubs"
    outcome = look(f"{STUBS}:{other}", stubs=folder(cuda=shared()), **{other: with_soname(shared())})
    assert severities(outcome) == ["error", "warning"]
    assert {finding.remedies[0].values["LD_LIBRARY_PATH"] for finding in outcome.findings} == {""}


def test_sees_through_a_folder_that_is_a_link_to_a_stubs_folder() -> None:
    finding = one(look("/opt/driver", **{"/opt/driver": with_soname(shared(), "/opt/cuda/lib64/stubs")}))
    assert finding.remedies[0].summary == "unset LD_LIBRARY_PATH"


def test_a_trailing_slash_changes_nothing() -> None:
    finding = one(look(f"{STUBS}/:/opt/lib", **{f"{STUBS}/": folder(cuda=shared())}))
    assert f"the stub {STUBS}/libcuda.so:" in finding.summary
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": "/opt/lib"}


def test_is_silent_when_the_driver_comes_first() -> None:
    real = shared("libcuda.so.550", f"{SYSTEM}/libcuda.so.550")
    driver = LinkDirectory(True, {"libcuda.so": real, "libcuda.so.1": real})
    both = LinkDirectory(True, {"libcuda.so": shared(), "libcuda.so.1": shared("libcuda.so")})
    assert isinstance(look(f"{SYSTEM}:{STUBS}", system=driver, stubs=both), Passed)
    assert severities(look(f"{STUBS}:{SYSTEM}", system=driver, stubs=both)) == ["error"]


def test_is_silent_when_no_entry_has_a_stub() -> None:
    assert isinstance(look("/opt/lib", **{"/opt/lib": folder(cudart=shared())}), Passed)
    assert isinstance(look(STUBS, stubs=LinkDirectory(False)), Passed)


@pytest.mark.parametrize(
    "file",
    [
        dangling("../stubs/libcuda.so", f"{STUBS}/libcuda.so"),
        LibraryFile("empty", resolved=f"{STUBS}/libcuda.so"),
        LibraryFile("directory"),
        shared(resolved=f"{STUBS}/libcuda.so", machine="aarch64"),
    ],
)
def test_what_the_loader_goes_past_is_no_finding(file: LibraryFile) -> None:
    assert isinstance(look(STUBS, stubs=with_soname(file)), Passed)


def test_a_stub_for_aarch64_counts_on_aarch64() -> None:
    assert one(look(STUBS, "aarch64", stubs=with_soname(shared(machine="aarch64"))), Severity.ERROR)


def test_a_stubs_folder_for_the_linker_is_right() -> None:
    outcome = judge(
        "stub-on-loader-path",
        environ=environ(LIBRARY_PATH=STUBS),
        libraries=libraries({STUBS: folder(cuda=shared())}),
        machine=machine(),
    )
    assert isinstance(outcome, Skipped)


def test_a_folder_that_only_sounds_like_stubs_is_none() -> None:
    assert isinstance(look("/opt/mystubs", **{"/opt/mystubs": with_soname(shared())}), Passed)


def test_keeps_the_other_entries_as_they_are() -> None:
    finding = one(look(f":/a:{STUBS}:/a:", stubs=folder(cuda=shared()), **{".": folder(), "/a": folder()}))
    assert finding.remedies[0].values == {"LD_LIBRARY_PATH": ":/a:/a:"}


@pytest.mark.parametrize("variables", [{}, {"LD_LIBRARY_PATH": ""}])
def test_is_silent_when_the_variable_is_not_set(variables: dict[str, str]) -> None:
    outcome = judge(
        "stub-on-loader-path", environ=environ(**variables), libraries=libraries(), machine=machine()
    )
    assert isinstance(outcome, Skipped)


def test_a_folder_that_was_not_looked_at_leaves_no_verdict() -> None:
    outcome = look("/opt/lib:/never/seen", **{"/opt/lib": folder()})
    assert isinstance(outcome, Inconclusive) and "/never/seen" in outcome.reason


def test_unknown_is_not_absent() -> None:
    outcome = judge(
        "stub-on-loader-path",
        environ=environ(LD_LIBRARY_PATH=STUBS),
        libraries=Unknown("timed out"),
        machine=machine(),
    )
    assert isinstance(outcome, Inconclusive)
