import shlex

from msgspec import structs

from cudadoctor.facts import Builds, BuiltFor, CachedLibrary, Extension, Packages, SharedObject, SharedObjects
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, one, packages, shown

VERSION = f"{SITE}/torch/version.py:5"
VLLM = f"{SITE}/vllm/_C.abi3.so"
VISION = f"{SITE}/torchvision/version.py:1"


def objects(distribution: str, path: str, *needed: str, cached: str = "") -> SharedObjects:
    return SharedObjects(
        None,
        extensions=(Extension(path, distribution),),
        files={path: SharedObject(needed=needed)},
        cached={cached: (CachedLibrary(f"/usr/local/cuda/lib64/{cached}"),)} if cached else {},
    )


def look(installed: Packages, seen: SharedObjects | None = None, *built: BuiltFor) -> Outcome:
    return judge(
        "built-for-another-cuda",
        packages=installed,
        builds=Builds(VERSION, built_for=built),
        objects=seen or SharedObjects(None),
    )


def vision(cuda: str, name: str = "torchvision", *, exact: bool = False) -> BuiltFor:
    version = f"0.24.0+{'cpu' if cuda == 'cpu' else 'cu' + cuda.replace('.', '')}"
    return BuiltFor(name, version, VISION, version, cuda=cuda, exact_cuda=exact)


def test_reports_a_vllm_of_another_cuda_major() -> None:
    seen = objects("vllm", VLLM, "libc10.so", "libcudart.so.13")
    finding = one(look(packages("2.11.0+cu128", vllm="0.20.0"), seen), Severity.ERROR)
    assert finding.summary == "vllm 0.20.0 is built for CUDA 13, torch 2.11.0+cu128 for 12.8"
    assert f"{VLLM}: needs libcudart.so.13" in shown(finding) and f"{VERSION}: cuda is '12.8'" in shown(
        finding
    )
    assert finding.remedies[0].summary == "a build of vllm for CUDA 12"


def test_is_a_warning_where_the_other_runtime_will_be_found() -> None:
    seen = objects("vllm", VLLM, "libcudart.so.13", cached="libcudart.so.13")
    one(look(packages("2.11.0+cu128", vllm="0.20.0"), seen), Severity.WARNING)


def test_cuda_11_names_its_runtime_with_a_minor() -> None:
    seen = objects("torchvision", f"{SITE}/torchvision/_C.so", "libcudart.so.11.0")
    finding = one(look(packages(torchvision="0.24.0"), seen, vision("11.8")), Severity.ERROR)
    assert "is built for CUDA 11" in finding.summary
    url = "https://download.pytorch.org/whl/cu128"
    wanted = f"pip install --force-reinstall --no-deps torchvision==0.24.0 --index-url {url}"
    assert finding.remedies[0].summary == wanted


def test_a_version_that_pins_another_torch_is_never_the_right_one() -> None:
    """torchvision 0.24.0 belongs to torch 2.9.0: beside 2.14.1 it fails for any CUDA."""
    url = "https://download.pytorch.org/whl/cu130"
    for pin, wanted in (
        ("torch==2.9.0", ["torchvision!=0.24.0", "torch==2.14.1"]),
        ("torch (==2.9.0)", ["torchvision!=0.24.0", "torch==2.14.1"]),
        ("torch==2.14.1", ["--force-reinstall", "--no-deps", "torchvision==0.24.0"]),
    ):
        bare = packages("2.14.1+cu130", cuda="13.0", torchvision="0.24.0")
        installed = structs.replace(
            bare,
            distributions=tuple(
                structs.replace(d, requires=("numpy", pin)) if d.name == "torchvision" else d
                for d in bare.distributions
            ),
        )
        seen = objects("torchvision", f"{SITE}/torchvision/_C.so", "libcudart.so.12")
        for outcome in (look(installed, seen), look(installed, None, vision("12.8"))):
            summary = one(outcome, Severity.ERROR).remedies[0].summary
            assert shlex.split(summary) == ["pip", "install", *wanted, "--index-url", url]


def test_a_cpu_only_torchvision_has_no_operators_for_a_gpu() -> None:
    finding = one(look(packages(torchvision="0.24.0"), None, vision("cpu")), Severity.WARNING)
    assert f"{VISION}: __version__ is '0.24.0+cpu'" in shown(finding)
    one(look(packages(torchaudio="2.9.0"), None, vision("cpu", "torchaudio")), Severity.NOTE)


def test_torchaudio_compares_the_minor_where_its_source_does() -> None:
    outcome = look(packages(torchaudio="2.9.0"), None, vision("12.6", "torchaudio", exact=True))
    assert "raises beside torch of CUDA 12.8" in one(outcome, Severity.ERROR).summary
    assert isinstance(look(packages(torchaudio="2.9.0"), None, vision("12.6", "torchaudio")), Passed)


def test_torchvision_runs_with_another_minor() -> None:
    assert isinstance(look(packages(torchvision="0.24.0"), None, vision("12.6")), Passed)


def test_its_own_word_counts_where_no_library_could_be_read() -> None:
    one(look(packages(torchvision="0.24.0"), None, vision("13.0")), Severity.ERROR)


def test_is_silent_when_healthy() -> None:
    seen = objects("vllm", VLLM, "libc10.so", "libcudart.so.12")
    assert isinstance(look(packages(vllm="0.12.0"), seen, vision("12.8")), Passed)


def test_is_silent_without_a_cuda_torch() -> None:
    seen = objects("vllm", VLLM, "libcudart.so.13")
    assert isinstance(look(packages(cuda="", vllm="0.20.0"), seen), Skipped)
    assert isinstance(look(packages(torch="", vllm="0.20.0"), seen), Skipped)


def test_a_cuda_with_a_command_in_it_starts_none() -> None:
    installed = packages(cuda="12;touch x", torchvision="0.24.0")
    words = shlex.split(one(look(installed, None, vision("13.0"))).remedies[0].summary)
    assert words[-1].endswith("/cu12;touch x") and words[-3] == "torchvision==0.24.0"
