from cudadoctor.facts import LinkDirectory, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    CUDA,
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
LIB64 = {f"{CUDA}/lib64": folder(cudart=shared())}


def outcome(
    directories: dict[str, LinkDirectory], seen: Toolkits | None = None, driver: tuple[str, ...] = (),
    variables: dict[str, str] | None = None, **more: str,
) -> Outcome:  # fmt: skip
    return judge(
        "libcuda-link-missing",
        toolkits=seen or toolkits(),
        compilers=compilers("flashinfer", "torch", folders=("{LIBRARY_PATH}/", "/usr/lib/")),
        libraries=libraries(
            {"/usr/lib": folder(), f"{SITE}/torch/lib": ABSENT, **directories}, driver=driver
        ),
        environ=environ(**(variables or {})),
        packages=packages(**more),
    )


def test_reports_a_toolkit_without_the_stub() -> None:
    finding = one(outcome({**LIB64, f"{CUDA}/lib64/stubs": ABSENT}), Severity.ERROR)
    assert "cannot find -lcuda" in finding.summary
    assert "cuda-driver-dev-12-8" in finding.remedies[0].summary
    assert not finding.remedies[0].instead


def test_reports_the_folklore_library_path_that_leaves_the_stubs_out() -> None:
    directories = {
        f"{PREFIX}/lib64": ABSENT,
        f"{PREFIX}/lib64/stubs": ABSENT,
        f"{PREFIX}/lib": folder(cudart=shared()),
        f"{PREFIX}/lib/stubs": folder(cuda=shared()),
    }
    seen = toolkits(toolkit(PREFIX, layout="conda"))
    value = f"{PREFIX}/lib:{PREFIX}/lib64"
    finding = one(outcome(directories, seen, variables={"LIBRARY_PATH": value}))
    assert f"{value}: no usable libcuda.so in any of it" in shown(finding)
    assert finding.remedies[0].summary == f"ln -s lib {PREFIX}/lib64"


def test_the_stub_of_another_toolkit_will_do() -> None:
    other = toolkit("/opt/cuda-13.0", "13.0.88", nvcc=False)
    directories = {
        **LIB64,
        f"{CUDA}/lib64/stubs": ABSENT,
        f"{other.root}/lib64": folder(),
        f"{other.root}/lib64/stubs": folder(cuda=shared()),
    }
    (remedy,) = one(outcome(directories, toolkits(toolkit(), other))).remedies
    assert (remedy.fix, remedy.values) == ("library-path", {"LIBRARY_PATH": f"{other.root}/lib64/stubs"})
    assert ["cuda-driver-dev-12-8" in instead.summary for instead in remedy.instead] == [True]


def test_is_silent_with_the_stub_or_the_drivers_own_link() -> None:
    assert isinstance(outcome({**LIB64, f"{CUDA}/lib64/stubs": folder(cuda=shared())}), Passed)
    driver = {"/usr/lib": folder(cuda=shared("libcuda.so.1"))}
    assert isinstance(outcome({**LIB64, f"{CUDA}/lib64/stubs": ABSENT, **driver}), Passed)


def test_torchs_builder_does_not_link_the_driver() -> None:
    assert isinstance(outcome({**LIB64, f"{CUDA}/lib64/stubs": ABSENT}, flashinfer=""), Passed)


def test_does_not_apply_where_nothing_compiles() -> None:
    assert isinstance(outcome({}, no_toolkits()), Skipped)


def triton_line(libraries_of_triton: tuple[str, ...], files: LinkDirectory) -> Outcome:
    from msgspec import structs

    held = packages(flashinfer="", triton="3.5.0")
    assert held.triton is not None
    held = structs.replace(held, triton=structs.replace(held.triton, libraries=libraries_of_triton))
    directories = {"/usr/lib": folder(), "/drv": files, f"{SITE}/triton/backends/nvidia/lib": folder()}
    used = compilers("triton")
    stub = tuple(structs.replace(use, job="stub") for use in used.uses)
    return judge(
        "libcuda-link-missing",
        toolkits=no_toolkits(),
        compilers=structs.replace(used, uses=stub),
        libraries=structs.replace(
            libraries(directories, driver=("/drv/libcuda.so.1",)),
            names=(*libraries().names, "libcuda.so.1"),
        ),
        environ=environ(),
        packages=held,
    )


def test_reports_an_older_triton_beside_a_driver_without_its_link_name() -> None:
    only_soname = LinkDirectory(True, {"libcuda.so.1": shared()})
    finding = one(triton_line(("cuda",), only_soname), Severity.ERROR)
    assert finding.summary.startswith("Triton")


def test_a_newer_triton_needs_only_the_soname() -> None:
    only_soname = LinkDirectory(True, {"libcuda.so.1": shared()})
    assert isinstance(triton_line(("libcuda.so.1",), only_soname), Passed)
