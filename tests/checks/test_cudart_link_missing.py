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
    **more: str,
) -> Outcome:
    return judge(
        "cudart-link-missing",
        toolkits=seen,
        compilers=compilers(folders=("{LIBRARY_PATH}/", "/usr/lib/")),
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
    reached = outcome(CONDA_LIB, variables={"LIBRARY_PATH": f"{PREFIX}/lib:{PREFIX}/lib/stubs"})
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
