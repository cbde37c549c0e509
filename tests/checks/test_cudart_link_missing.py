import pytest
from msgspec import structs

from cudadoctor.facts import Compiler, Compilers, LibraryFile, LinkDirectory, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    PREFIX,
    SITE,
    compilers,
    environ,
    folder,
    libraries,
    no_toolkits,
    one,
    packages,
    shared,
    shown,
    toolkit,
    toolkits,
)

ABSENT = LinkDirectory(False)
CONDA = toolkits(toolkit(PREFIX, layout="conda"))
CONDA_LIB = {
    f"{PREFIX}/lib64": ABSENT,
    f"{PREFIX}/lib64/stubs": ABSENT,
    f"{PREFIX}/lib": folder(cudart=shared("../targets/x86_64-linux/lib/libcudart.so")),
    f"{PREFIX}/lib/stubs": folder(cuda=shared()),
}


def outcome(
    directories: dict[str, LinkDirectory],
    seen: Toolkits = CONDA,
    variables: dict[str, str] | None = None,
    folders: tuple[str, ...] = ("{LIBRARY_PATH}/../lib/", "{LIBRARY_PATH}/", "/usr/lib/"),
    **more: str,
) -> Outcome:
    return judge(
        "cudart-link-missing",
        toolkits=seen,
        compilers=compilers(folders=folders),
        libraries=libraries({"/usr/lib": folder(), f"{SITE}/torch/lib": ABSENT, **directories}),
        environ=environ(**(variables or {})),
        packages=packages(**more),
    )


def test_reports_a_conda_prefix_without_lib64() -> None:
    finding = one(outcome(CONDA_LIB), Severity.ERROR)
    assert "cannot find -lcudart" in finding.summary
    assert f"-L{PREFIX}/lib64 -L{PREFIX}/lib64/stubs -lcudart" in shown(finding)
    assert finding.remedies[0].summary == f"ln -s lib {PREFIX}/lib64"


def test_reports_pips_versioned_file_and_links_the_name_to_it() -> None:
    root = f"{PREFIX}/nvidia/cu13"
    lib = LinkDirectory(True, {"libcudart.so.13": shared()})
    seen = toolkits(toolkit(root, "13.0.88", "pip-cu13"))
    finding = one(outcome({f"{root}/lib": lib, f"{root}/lib64": ABSENT, f"{root}/lib64/stubs": ABSENT}, seen))
    assert "which -lcudart does not match" in shown(finding)
    assert finding.remedies[0].values == {
        "path": f"{root}/lib64/libcudart.so",
        "text": "../lib/libcudart.so.13",
    }


def test_a_loader_variable_is_named_as_of_no_use() -> None:
    finding = one(outcome(CONDA_LIB, variables={"LD_LIBRARY_PATH": f"{PREFIX}/lib"}))
    assert "the linker does not look there" in shown(finding)


def test_a_better_cuda_home_comes_before_a_link() -> None:
    good = toolkit("/usr/local/cuda")
    bad = toolkit(PREFIX, layout="conda", nvcc=False)
    seen = toolkits(bad, good)
    directories = {**CONDA_LIB, "/usr/local/cuda/lib64": folder(cudart=shared())}
    finding = one(
        outcome({**directories, "/usr/local/cuda/lib64/stubs": ABSENT}, seen, {"CUDA_HOME": PREFIX})
    )
    assert finding.remedies[0].values == {"CUDA_HOME": "/usr/local/cuda"}


def cures(ended: Outcome) -> list[tuple[str, ...]]:
    """Return the remedy and what would do instead, in order: each by its name and values."""
    (remedy,) = one(ended).remedies
    return [(r.fix, *r.values.values()) for r in (remedy, *remedy.instead)]


LINK = ("toolkit-links", f"{PREFIX}/lib64", "lib")
EXPORT = ("library-path", f"{PREFIX}/lib:{PREFIX}/lib/stubs")


def test_where_the_link_cannot_be_made_a_variable_does_as_well() -> None:
    assert cures(outcome(CONDA_LIB)) == [LINK, EXPORT]


def test_what_library_path_holds_stays_in_front() -> None:
    ended = outcome({**CONDA_LIB, "/x": folder(), "/x/../lib": folder()}, variables={"LIBRARY_PATH": "/x"})
    assert cures(ended)[1] == ("library-path", f"/x:{EXPORT[1]}")


def test_a_right_cuda_home_is_changed_only_where_a_link_cannot_be_made() -> None:
    whole = {"/usr/local/cuda/lib64": folder(cudart=shared()), "/usr/local/cuda/lib64/stubs": ABSENT}
    better = toolkit("/usr/local/cuda")
    ours = structs.replace(toolkit(PREFIX, layout="conda"), found_by=("the environment",))
    seen = toolkits(ours, better)
    ended = outcome({**CONDA_LIB, **whole}, seen, {"CUDA_HOME": PREFIX})
    assert cures(ended) == [LINK, EXPORT, ("cuda-home", "/usr/local/cuda")]


def test_a_wrong_cuda_home_is_put_right_first() -> None:
    whole = {"/usr/local/cuda/lib64": folder(cudart=shared()), "/usr/local/cuda/lib64/stubs": ABSENT}
    old = toolkit(PREFIX, "11.8.89", "conda")
    ended = outcome({**CONDA_LIB, **whole}, toolkits(old, toolkit("/usr/local/cuda")), {"CUDA_HOME": PREFIX})
    assert cures(ended)[0] == ("cuda-home", "/usr/local/cuda")


def test_a_file_in_the_way_leaves_the_variable() -> None:
    wrong = LinkDirectory(True, {"libcudart.so": shared(machine="aarch64")})
    directories = {**CONDA_LIB, f"{PREFIX}/lib64": wrong, f"{PREFIX}/lib64/stubs": folder(cuda=shared())}
    assert cures(outcome(directories, flashinfer="0.6.4")) == [("library-path", f"{PREFIX}/lib")]


NO_VARIABLE = ("/usr/lib/",)


def test_a_compiler_that_library_path_does_not_reach_takes_flags_of_flashinfers_own() -> None:
    flags = f"-L{PREFIX}/lib -L{PREFIX}/lib/stubs"
    assert cures(outcome(CONDA_LIB, folders=NO_VARIABLE)) == [LINK, ("link-flags", flags)]
    before = {"FLASHINFER_EXTRA_LDFLAGS": "-lm"}
    assert cures(outcome(CONDA_LIB, variables=before, folders=NO_VARIABLE))[1] == (
        "link-flags",
        f"-lm {flags}",
    )


def test_such_flags_are_for_flashinfer_alone() -> None:
    wrong = LinkDirectory(True, {"libcudart.so": shared(machine="aarch64")})
    ended = outcome({**CONDA_LIB, f"{PREFIX}/lib64": wrong}, folders=NO_VARIABLE)
    assert "torch's extension builder" in one(ended).summary
    assert all(cure[0] != "link-flags" for cure in cures(ended))


def test_a_folder_with_a_blank_cannot_be_such_a_flag() -> None:
    root = "/home/ada/my env"
    directories = {place.replace(PREFIX, root): held for place, held in CONDA_LIB.items()}
    ended = outcome(directories, toolkits(toolkit(root, layout="conda")), folders=NO_VARIABLE)
    assert [cure[0] for cure in cures(ended)] == ["toolkit-links"]


def linked(target: str) -> dict[str, LinkDirectory]:
    """Return a prefix whose lib64 is a link to `target`, with the versioned runtime in lib."""
    runtime = {"libcudart.so.12": shared()}
    return {
        f"{PREFIX}/lib": LinkDirectory(True, runtime),
        f"{PREFIX}/lib64": LinkDirectory(True, runtime if target == f"{PREFIX}/lib" else {}, target),
        f"{PREFIX}/lib64/stubs": ABSENT,
    }


def test_no_link_is_made_through_another_one() -> None:
    cure, *others = cures(outcome(linked(f"{PREFIX}/lib")))
    assert cure == ("toolkit-links", f"{PREFIX}/lib/libcudart.so", "libcudart.so.12")
    assert others == [("conda-install", PREFIX, "cuda-cudart-dev=12.8")]


def test_the_real_place_counts_where_the_toolkit_goes_by_a_link_too() -> None:
    real, runtime = "/usr/local/cuda-12.8", {"libcudart.so.12": shared()}
    kit = structs.replace(toolkit("/usr/local/cuda"), real=real, lib=("/usr/local/cuda/lib",), stubs=())
    directories = {
        "/usr/local/cuda/lib": LinkDirectory(True, runtime, f"{real}/lib"),
        "/usr/local/cuda/lib64": LinkDirectory(True, runtime, f"{real}/lib"),
        "/usr/local/cuda/lib64/stubs": ABSENT,
    }
    cure = cures(outcome(directories, toolkits(kit)))[0]
    assert cure == ("toolkit-links", f"{real}/lib/libcudart.so", "libcudart.so.12")


def test_no_link_is_made_where_lib64_leads_out_of_the_toolkit() -> None:
    assert cures(outcome(linked("/usr/lib64"))) == [("conda-install", PREFIX, "cuda-cudart-dev=12.8")]


def test_no_lib64_of_one_link_hides_the_libraries_that_torch_finds_in_lib() -> None:
    lib = LinkDirectory(True, {"libcudart.so.12": shared(), "libcublas.so": shared()})
    assert cures(outcome({**CONDA_LIB, f"{PREFIX}/lib": lib})) == [
        ("conda-install", PREFIX, "cuda-cudart-dev=12.8")
    ]


@pytest.mark.parametrize(("version", "does"), [("12.8.61", True), ("12.6.77", False), ("13.0.88", False)])
def test_a_library_of_another_toolkit_is_taken_only_of_the_same_release(version: str, does: bool) -> None:
    other = toolkit("/opt/cuda", version, nvcc=False)
    directories = {
        **CONDA_LIB,
        f"{PREFIX}/lib": folder(),
        "/opt/cuda/lib64": folder(cudart=shared()),
        "/opt/cuda/lib64/stubs": ABSENT,
    }
    found = cures(outcome(directories, toolkits(toolkit(PREFIX, layout="conda"), other)))
    assert (found[0][0] == "library-path") is does
    assert (f"/opt/cuda/lib64:{PREFIX}/lib/stubs" in found[0]) is does


def test_reports_a_file_that_stops_the_linker() -> None:
    pointer = LinkDirectory(True, {"libcudart.so": LibraryFile("text")})
    finding = one(outcome({**CONDA_LIB, f"{PREFIX}/lib64": pointer}))
    assert "ld stops at" in finding.summary and f"{PREFIX}/lib64/libcudart.so" in finding.summary


def test_names_what_the_linker_goes_past() -> None:
    wrong = LinkDirectory(True, {"libcudart.so": shared(machine="aarch64")})
    assert "skipping incompatible" in shown(one(outcome({**CONDA_LIB, f"{PREFIX}/lib64": wrong})))


def test_is_a_warning_with_prebuilt_operators_or_only_torchs_builder() -> None:
    one(outcome(CONDA_LIB, jit_cache="0.6.4"), Severity.WARNING)
    nothing = {**CONDA_LIB, f"{PREFIX}/lib": folder()}
    one(outcome(nothing, flashinfer=""), Severity.WARNING)


def test_is_silent_when_healthy() -> None:
    healthy = {
        "/usr/local/cuda/lib64": folder(cudart=shared()),
        "/usr/local/cuda/lib64/stubs": folder(cuda=shared()),
    }
    assert isinstance(outcome(healthy, toolkits()), Passed)


def test_is_silent_when_library_path_reaches_it() -> None:
    value = f"{PREFIX}/lib:{PREFIX}/lib/stubs"
    reached = outcome(CONDA_LIB, variables={"LIBRARY_PATH": value}, folders=("{LIBRARY_PATH}/", "/usr/lib/"))
    assert isinstance(reached, Passed)


def test_does_not_apply_where_nothing_compiles() -> None:
    assert isinstance(outcome({}, no_toolkits()), Skipped)
    assert isinstance(outcome(CONDA_LIB, torch="", flashinfer=""), Skipped)


def test_cannot_tell_when_the_compiler_did_not_answer() -> None:
    silent = Compilers({"c++": Compiler("c++", "", problem="not found on PATH")}, compilers().uses)
    ended = judge(
        "cudart-link-missing",
        toolkits=CONDA,
        compilers=silent,
        libraries=libraries(CONDA_LIB),
        environ=environ(),
        packages=packages(),
    )
    assert isinstance(ended, Inconclusive) and "not found on PATH" in ended.reason


def test_unknown_is_not_absent() -> None:
    ended = judge(
        "cudart-link-missing",
        toolkits=CONDA,
        compilers=compilers(),
        libraries=Unknown("denied"),
        environ=environ(),
        packages=packages(),
    )
    assert isinstance(ended, Inconclusive)
