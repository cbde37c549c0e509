from msgspec import structs

from cudadoctor.facts import HeaderDirectory, NvccOnPath, Selection, Toolkits, Unknown
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Inconclusive, Passed, Skipped
from cudadoctor.testing import judge

from .build import environ, no_toolkits, one, packages, shown, toolkit, toolkits

WRAPPER = NvccOnPath(
    "/usr/local/bin/nvcc", "script", "/usr/local/cuda/bin/nvcc", 'line 2: exec /usr/local/cuda/bin/nvcc "$@"'
)


def selecting(root: str, rule: str, *, exists: bool = True, has_nvcc: bool = False) -> Toolkits:
    """Return a machine with a healthy toolkit in /usr/local/cuda, where every consumer takes `root`."""
    healthy = toolkits(nvcc_on_path=WRAPPER)
    selections = tuple(Selection(name, root, rule, has_nvcc, exists) for name in ("flashinfer", "torch"))
    headers = {**healthy.headers, f"{root}/include": HeaderDirectory(exists)}
    return Toolkits(healthy.toolkits, selections, headers, WRAPPER)


def test_reports_the_root_that_a_wrapper_script_leads_to() -> None:
    seen = selecting("/usr/local", "two folders up from /usr/local/bin/nvcc", has_nvcc=True)
    finding = one(
        judge("cuda-home-wrong", toolkits=seen, environ=environ(), packages=packages()), Severity.ERROR
    )
    assert "CUDA_HOME=/usr/local" in finding.summary and "exec /usr/local/cuda/bin/nvcc" in shown(finding)
    assert finding.remedies[0].values == {"CUDA_HOME": "/usr/local/cuda"}


def test_reports_a_value_that_does_not_exist() -> None:
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    outcome = judge(
        "cuda-home-wrong", toolkits=seen, environ=environ(CUDA_HOME="/opt/gone"), packages=packages()
    )
    assert "no such folder" in one(outcome, Severity.ERROR).summary


def test_reports_a_leading_colon() -> None:
    value = ":/usr/local/cuda"
    seen = selecting(value, "CUDA_HOME", exists=False)
    outcome = judge("cuda-home-wrong", toolkits=seen, environ=environ(CUDA_HOME=value), packages=packages())
    finding = one(outcome)
    assert "colon" in finding.summary
    assert finding.remedies[0].values == {"CUDA_HOME": "/usr/local/cuda"}


def test_names_the_activation_file_that_sets_it() -> None:
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    set_there = environ("/opt/env/etc/conda/activate.d/cuda.sh:3", CUDA_HOME="/opt/gone")
    finding = one(judge("cuda-home-wrong", toolkits=seen, environ=set_there, packages=packages()))
    assert "activate.d/cuda.sh:3" in shown(finding)


def test_is_a_warning_where_only_a_build_of_ones_own_would_fail() -> None:
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    outcome = judge("cuda-home-wrong", toolkits=seen, environ=environ(), packages=packages(flashinfer=""))
    one(outcome, Severity.WARNING)


def test_is_silent_when_healthy() -> None:
    assert isinstance(
        judge("cuda-home-wrong", toolkits=toolkits(), environ=environ(), packages=packages()), Passed
    )


def test_is_silent_on_a_conda_prefix_with_its_headers_under_targets() -> None:
    conda = toolkits(toolkit("/opt/env", layout="conda"))
    assert isinstance(
        judge("cuda-home-wrong", toolkits=conda, environ=environ(), packages=packages()), Passed
    )


def test_does_not_apply_without_anything_that_compiles() -> None:
    for installed in (packages(torch="", flashinfer=""), packages(cuda="")):
        outcome = judge("cuda-home-wrong", toolkits=toolkits(), environ=environ(), packages=installed)
        assert isinstance(outcome, Skipped)


def test_does_not_apply_where_no_toolkit_is_within_reach() -> None:
    outcome = judge("cuda-home-wrong", toolkits=no_toolkits(), environ=environ(), packages=packages())
    assert isinstance(outcome, Skipped)


def test_unknown_is_not_absent() -> None:
    outcome = judge("cuda-home-wrong", toolkits=Unknown("denied"), environ=environ(), packages=packages())
    assert isinstance(outcome, Inconclusive) and "denied" in outcome.reason


def test_says_why_it_does_not_apply_to_rocm_and_cpu_only_builds() -> None:
    held = packages(cuda="")
    assert held.torch is not None
    rocm = structs.replace(held, torch=structs.replace(held.torch, hip="6.4"))
    for installed, reason in ((rocm, "ROCm 6.4"), (held, "CPU-only")):
        outcome = judge("cuda-home-wrong", toolkits=toolkits(), environ=environ(), packages=installed)
        assert isinstance(outcome, Skipped) and reason in outcome.reason


def test_every_spelling_of_a_toolkit_is_that_toolkit() -> None:
    kit = structs.replace(toolkit("/usr/local/cuda-12.8"), spellings=("/usr/local/cuda",))
    for spelling in ("/usr/local/cuda", "/usr/local/cuda-12.8/", "/usr/local/cuda/"):
        seen = toolkits(kit, root=spelling)
        assert isinstance(
            judge("cuda-home-wrong", toolkits=seen, environ=environ(), packages=packages()), Passed
        )


def test_vllm_without_nvcc_on_path_leaves_flashinfer_alone() -> None:
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    unseen = structs.replace(seen, nvcc_on_path=None)
    held = packages(vllm="0.12.0")
    one(judge("cuda-home-wrong", toolkits=seen, environ=environ(), packages=held), Severity.ERROR)
    one(judge("cuda-home-wrong", toolkits=unseen, environ=environ(), packages=held), Severity.WARNING)
    with_cubin = packages(vllm="0.12.0", flashinfer_cubin="0.6.4")
    one(judge("cuda-home-wrong", toolkits=unseen, environ=environ(), packages=with_cubin), Severity.ERROR)


def test_prebuilt_operators_and_no_jit_make_it_a_warning() -> None:
    seen = selecting("/opt/gone", "CUDA_HOME", exists=False)
    one(
        judge("cuda-home-wrong", toolkits=seen, environ=environ(), packages=packages(jit_cache="0.6.4")),
        Severity.WARNING,
    )
    off = environ(FLASHINFER_DISABLE_JIT="1")
    one(judge("cuda-home-wrong", toolkits=seen, environ=off, packages=packages()), Severity.WARNING)
