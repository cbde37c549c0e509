import pytest
from msgspec import structs

from cudadoctor.facts import Distribution, HeaderDirectory, Packages, Toolkits
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import (
    PREFIX,
    SITE,
    environ,
    header_folder,
    no_toolkits,
    one,
    packages,
    records,
    severities,
    shown,
    toolkit,
    toolkits,
)

TARGETS = f"{PREFIX}/targets/x86_64-linux/include"
CONDA = toolkits(toolkit(PREFIX, layout="conda"), headers="12.8")


def outcome(seen: Toolkits, held: Packages | None = None, **variables: str) -> Outcome:
    return judge(
        "cuda-headers-missing",
        toolkits=seen,
        environ=environ(**variables),
        packages=held or packages(),
        conda=records(cuda_version="12.8"),
    )


def lacking(*names: str, root: str = "/usr/local/cuda", layout: str = "cuda") -> Toolkits:
    kit = toolkit(root, layout=layout)
    return toolkits(kit, more_headers={kit.include[-1]: header_folder("12.8", *names)})


def test_reports_headers_that_every_build_needs() -> None:
    finding = one(outcome(lacking("cuda_fp8.h")), Severity.ERROR)
    assert "cuda_fp8.h" in finding.summary and "cuda-cudart-dev-12-8" in finding.remedies[0].summary


def test_warns_of_headers_that_single_operators_need() -> None:
    finding = one(outcome(lacking("curand.h", "curand_kernel.h")), Severity.WARNING)
    assert "sampling" in finding.summary and "libcurand-dev-12-8" in finding.remedies[0].summary


def test_names_condas_packages_in_a_conda_environment() -> None:
    seen = lacking("cublasLt.h", "cublas_v2.h", root=PREFIX, layout="conda")
    finding = next(f for f in outcome(seen).findings if "cublasLt.h" in f.summary)
    assert finding.remedies[0].summary == (
        f"conda install -p {PREFIX} -c conda-forge cuda-version=12.8 libcublas-dev"
    )


def test_offers_a_folder_of_the_same_cuda_that_has_them() -> None:
    seen = lacking("curand.h", "curand_kernel.h")
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.8")})
    finding = one(outcome(seen, CPATH="/mine"))
    assert finding.remedies[0].values == {"CPATH": "/mine:/pip/include"}


def test_a_header_whose_library_is_linked_too_needs_its_package() -> None:
    seen = lacking("cublasLt.h", "cublas_v2.h")
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.8")})
    remedy = one(outcome(seen)).remedies[0]
    assert remedy.fix == "show" and "libcublas-dev-12-8" in remedy.summary


def test_findings_with_one_variable_give_it_one_value() -> None:
    kit = toolkit(PREFIX, layout="conda")
    seen = toolkits(kit, more_headers={kit.include[-1]: header_folder("12.8", "curand.h", "curand_kernel.h")})
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.8")})
    values = {finding.remedies[0].values["CPATH"] for finding in outcome(seen).findings}
    assert values == {f"{TARGETS}:/pip/include"}


def test_does_not_offer_headers_of_another_cuda() -> None:
    seen = lacking("curand.h", "curand_kernel.h")
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.4")})
    assert one(outcome(seen)).remedies[0].fix == "show"


def test_reports_condas_headers_that_nvcc_finds_and_gxx_does_not() -> None:
    old = packages(torch="2.9.0", apache_tvm_ffi="0.1.2")
    finding = one(outcome(CONDA, old), Severity.ERROR)
    assert "BufferError" in finding.summary
    assert finding.remedies[0].values == {"CPATH": TARGETS}


def test_the_hidden_headers_are_a_warning_where_no_add_on_is_compiled() -> None:
    new = packages(torch="2.10.0", apache_tvm_ffi="0.1.2")
    prebuilt = packages(torch="2.9.0", apache_tvm_ffi="0.1.2", torch_c_dlpack_ext="0.1.5")
    for held in (new, prebuilt):
        assert "BufferError" not in one(outcome(CONDA, held), Severity.WARNING).summary


def test_is_silent_when_cpath_shows_the_headers() -> None:
    assert isinstance(outcome(CONDA, CPATH=TARGETS), Passed)


def test_is_silent_when_healthy() -> None:
    assert isinstance(outcome(toolkits()), Passed)
    assert severities(outcome(toolkits())) == []


def test_headers_no_operator_includes_are_not_missed() -> None:
    assert isinstance(outcome(lacking("cusparse.h", "cufft.h", "cusolverDn.h")), Passed)


def test_does_not_apply_where_nothing_compiles() -> None:
    assert isinstance(outcome(no_toolkits()), Skipped)


def test_cannot_tell_without_a_toolkit() -> None:
    seen = toolkits(root="/nowhere")
    bare = Toolkits((), seen.selections, {})
    ended = outcome(bare)
    assert isinstance(ended, Inconclusive) and "cuda-home-wrong" in ended.reason


def test_says_each_thing_once() -> None:
    assert "\n" not in shown(one(outcome(lacking("cuda_fp8.h")))).splitlines()[0]


def test_a_folder_of_the_same_cuda_comes_before_the_package() -> None:
    seen = lacking("curand.h", "curand_kernel.h")
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.8")})
    (remedy,) = one(outcome(seen)).remedies
    assert remedy.fix == "include-path"
    assert ["libcurand-dev-12-8" in other.summary for other in remedy.instead] == [True]


def bare(*without: str) -> Toolkits:
    """Return a conda toolkit whose prefix has no include folder at all, as one without a Python."""
    kit = structs.replace(toolkit(PREFIX, layout="conda"), include=(TARGETS,))
    seen = {f"{PREFIX}/include": HeaderDirectory(False), TARGETS: header_folder("12.8", *without)}
    return toolkits(kit, more_headers=seen)


def test_one_link_shows_the_headers_where_the_prefix_has_no_include() -> None:
    (remedy,) = one(outcome(bare())).remedies
    assert remedy.fix == "toolkit-headers"
    assert remedy.values == {"path": f"{PREFIX}/include", "text": "targets/x86_64-linux/include"}
    assert remedy.summary == f"ln -s targets/x86_64-linux/include {PREFIX}/include"
    assert [other.values for other in remedy.instead] == [{"CPATH": TARGETS}]


def test_an_include_of_pythons_own_is_not_replaced() -> None:
    assert one(outcome(CONDA)).remedies[0].fix == "include-path"


def test_where_cpath_is_needed_anyway_there_is_no_link_beside_it() -> None:
    seen = bare("curand.h", "curand_kernel.h")
    seen = Toolkits(seen.toolkits, seen.selections, {**seen.headers, "/pip/include": header_folder("12.8")})
    assert {finding.remedies[0].fix for finding in outcome(seen).findings} == {"include-path"}


PIP = f"{SITE}/nvidia/cu13"


def pip(*requires: str, root: str = PIP, **more: str) -> tuple[str, str]:
    """Return name and words of the remedy for a pip toolkit without curand's headers."""
    kit = toolkit(root, "13.0.88", "pip-cu13")
    seen = toolkits(
        kit, more_headers={f"{root}/include": header_folder("13.0", "curand.h", "curand_kernel.h")}
    )
    held = packages(cuda="13.0", **more)
    listed = [structs.replace(d, requires=requires) if d.name == "torch" else d for d in held.distributions]
    listed.append(Distribution("cuda-toolkit", "13.0.3.0", SITE, requires=("nvidia-npp==13.0.1.2.*; x",)))
    (remedy,) = one(outcome(seen, structs.replace(held, distributions=tuple(listed)))).remedies
    return remedy.fix, remedy.summary


def test_a_wheel_comes_in_the_version_that_torch_pins() -> None:
    pin = 'nvidia-curand==10.4.0.35.*; platform_system == "Linux"'
    assert pip("jinja2", pin) == ("pip-install", "pip install 'nvidia-curand==10.4.0.35.*'")
    assert pip("nvidia-curand (==10.4.0.35)") == ("pip-install", "pip install nvidia-curand==10.4.0.35")


@pytest.mark.parametrize(
    "requires",
    [
        (),
        ("nvidia-curand>=10",),
        ("nvidia-curand-cu12==10.3.9",),
        ("nvidia-curand==1", "nvidia-curand==2; x"),
    ],
)
def test_without_one_pin_the_command_is_shown(requires: tuple[str, ...]) -> None:
    assert pip(*requires) == ("show", "pip install nvidia-curand  # the versions that torch pins")


def test_a_wheel_that_lost_its_headers_is_installed_again_by_the_user() -> None:
    wanted = "pip install --force-reinstall --no-deps nvidia-curand==10.4.0.35"
    assert pip(nvidia_curand="10.4.0.35") == ("show", wanted)


def test_the_wheels_of_another_environment_are_left_to_the_user() -> None:
    other = "/home/ada/other/lib/python3.12/site-packages/nvidia/cu13"
    assert pip("nvidia-curand==10.4.0.35", root=other) == ("show", "pip install nvidia-curand==10.4.0.35")
