"""Findings about a stack that could not be taken into use."""

from cudadoctor.facts import Driver, Live, LoadedLibrary, Stage, Target, Unknown
from cudadoctor.findings import Evidence, Severity
from cudadoctor.outcomes import Inconclusive, Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import PREFIX, SITE, one

PYTHON = f"{PREFIX}/bin/python3"
TARGET = Target(PREFIX, "venv", PYTHON, "3.12", "/usr", (SITE,), "", "VIRTUAL_ENV", True)
NAMES = ("driver", "torch", "gpu", "dlpack", "flashinfer", "vllm")
A_GPU = Driver("580.65", "/proc/driver/nvidia/version")


def look(*stages: Stage, driver: Driver | None = None, libraries: tuple[LoadedLibrary, ...] = ()) -> Outcome:
    told = {stage.name: stage for stage in stages}
    live = Live(tuple(told.get(name, Stage(name, "passed")) for name in NAMES), libraries)
    return judge("stack-import-fails", live=live, driver=driver or Driver(), target=TARGET)


def test_is_silent_where_all_passed_or_there_is_no_gpu() -> None:
    assert isinstance(look(), Passed)
    assert isinstance(look(Stage("driver", "not-reached", "no GPU"), Stage("gpu", "not-reached")), Passed)


def test_a_failed_stage_is_reported_with_its_last_words() -> None:
    failed = Stage("torch", "failed", "the process died of SIGSEGV", 1.2, ("last words",))
    finding = one(look(failed, Stage("vllm", "not-reached", "ended before")), Severity.ERROR)
    assert finding.summary == "import torch fails: the process died of SIGSEGV"
    assert finding.evidence == (
        Evidence(f"{PYTHON}: import torch", "the process died of SIGSEGV"),
        Evidence("stderr", "last words"),
    )


def test_fp8_alone_is_a_warning() -> None:
    failed = Stage("dlpack", "failed", "BufferError: float8 types are not supported by dlpack")
    assert one(look(failed), Severity.WARNING)
    assert one(
        look(Stage("dlpack", "failed", "RuntimeError: float32 came back as another type")), Severity.ERROR
    )


def test_a_gpu_whose_memory_others_hold_is_a_warning() -> None:
    full = Stage("gpu", "failed", "OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 MiB")
    assert one(look(full, driver=A_GPU), Severity.WARNING)
    assert one(look(Stage("gpu", "failed", "a kernel computed 1, not 1048576"), driver=A_GPU), Severity.ERROR)


def test_a_library_that_took_the_place_of_the_environments_own_is_told() -> None:
    own, other = f"{SITE}/nvidia/cublas/lib/libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.12.6.4"
    found = (LoadedLibrary(other, "", (own,)), LoadedLibrary("/usr/lib/libcuda.so.1"))
    finding = one(look(Stage("gpu", "failed", "CUBLAS_STATUS_NOT_INITIALIZED"), libraries=found))
    assert finding.evidence[-1] == Evidence(other, f"was loaded, and not {own}")
    assert isinstance(look(libraries=found), Passed)


def test_a_drivers_library_that_does_not_start_counts_only_where_a_gpu_is() -> None:
    stub = Stage("driver", "failed", "RuntimeError: cuInit says CUDA_ERROR_STUB_LIBRARY (34)")
    assert isinstance(look(stub), Passed)
    assert one(look(stub, driver=A_GPU), Severity.ERROR)


def test_is_skipped_where_nothing_is_installed_or_nobody_asked() -> None:
    none = [Stage(name, "not-reached", "torch is not installed") for name in NAMES]
    assert isinstance(look(*none), Skipped)
    unasked = Unknown("runs only with --deep", expected=True)
    assert isinstance(judge("stack-import-fails", live=unasked, driver=Driver(), target=TARGET), Skipped)


def test_an_interpreter_that_did_not_start_leaves_it_open() -> None:
    broken = [Stage(name, "not-reached", "the interpreter ended with status 1") for name in NAMES]
    outcome = look(*broken)
    assert isinstance(outcome, Inconclusive) and "ended with status 1" in outcome.reason
