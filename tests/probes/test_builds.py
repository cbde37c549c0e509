"""What the artefacts say of their builds, from files as the wheels have them."""

from collections.abc import Mapping

import pytest

from cudadoctor.facts import Builds, BuiltFor, Distribution, Environ, Packages, TorchBuild, Variable
from cudadoctor.host import NotRegular
from cudadoctor.probes.builds import probe
from cudadoctor.testing import FakeHost, Special

SITE = "/v/lib/python3.12/site-packages"
TORCH = TorchBuild("2.9.0+cu128", f"{SITE}/torch", "12.8")


def distribution(name: str, version: str, *requires: str) -> Distribution:
    file = f"{name.replace('-', '_')}-{version}.dist-info/METADATA"
    return Distribution(name, version, SITE, "pip", requires, file=file)


def look(
    files: Mapping[str, object],
    *installed: Distribution,
    torch: TorchBuild | None = TORCH,
    variables: Mapping[str, str] | None = None,
) -> Builds:
    host = FakeHost({f"{SITE}/{path}": content for path, content in files.items()})
    held = {name: Variable(value, "environment") for name, value in (variables or {}).items()}
    return probe(host, Environ(held, "the current variables"), Packages(installed, torch))


def only(builds: Builds) -> BuiltFor:
    (found,) = builds.built_for
    return found


def test_an_environment_without_the_stack_costs_nothing_and_says_nothing() -> None:
    assert look({}, distribution("numpy", "2.3.4"), torch=None) == Builds()


# --- torch --------------------------------------------------------------------------------------------------


def test_torch_s_cuda_is_shown_with_its_line() -> None:
    text = "from typing import Optional\n__version__ = '2.9.0+cu128'\ncuda: Optional[str] = '12.8'\n"
    assert look({"torch/version.py": text}).torch_source == f"{SITE}/torch/version.py:3"
    assert look({}).torch_source == f"{SITE}/torch"


LABELLED = distribution("flash-attn", "2.8.3+cu12torch2.6cxx11abiFALSE")


def test_the_c_plus_plus_abi_is_torch_s_own_word_or_known_of_the_release() -> None:
    cmake = {"torch/share/cmake/Torch/TorchConfig.cmake": '#\nset(F "-D_GLIBCXX_USE_CXX11_ABI=0")\n'}
    builds = look(cmake, LABELLED)
    assert (builds.torch_abi, builds.torch_abi_source.endswith("TorchConfig.cmake:2")) == (False, True)
    assert look({}, LABELLED).torch_abi is True
    assert look({}, LABELLED, torch=TorchBuild("2.6.0", f"{SITE}/torch", "12.4")).torch_abi is None


# --- built for which torch ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("label", "torch", "cuda", "abi"),
    [
        ("cu12torch2.8cxx11abiTRUE", "2.8", "12", True),
        ("cu12torch2.10cxx11abifalse", "2.10", "12", False),
        ("cu124torch2.6", "2.6", "12.4", None),
        ("pt28cu126", "2.8", "12.6", None),
        ("pt210cu128", "2.10", "12.8", None),
        ("torch280cu128", "2.8", "12.8", None),
        ("torch2100cu130", "2.10", "13.0", None),
    ],
)
def test_a_local_version_label_names_torch_and_cuda(
    label: str, torch: str, cuda: str, abi: bool | None
) -> None:
    found = only(look({}, distribution("some-kernels", f"1.0+{label}")))
    assert (found.torch, found.cuda, found.cxx11_abi, found.stated) == (torch, cuda, abi, f"+{label}")


@pytest.mark.parametrize(
    "label", ["cu128", "cpu", "g4fd9d6a85.precompiled", "torch210cu121", "torch2", "local"]
)
def test_a_label_that_names_no_torch_says_nothing(label: str) -> None:
    assert look({}, distribution("some-kernels", f"1.0+{label}")).built_for == ()


def test_flash_attention_s_wheel_is_known_by_the_url_it_came_from() -> None:
    name = "flash_attn-2.8.3%2Bcu12torch2.8cxx11abiTRUE-cp312-cp312-linux_x86_64.whl"
    file = "flash_attn-2.8.3.dist-info/direct_url.json"
    found = only(look({file: f'{{"url": "https://x.org/{name}"}}'}, distribution("flash-attn", "2.8.3")))
    assert (found.torch, found.cxx11_abi, found.source) == ("2.8", True, f"{SITE}/{file}")


@pytest.mark.parametrize(
    "content", ["", "[]", '{"url": 5}', '{"url": "https://x.org/a.tar.gz"}', "{", "[" * 9999]
)
def test_a_url_that_tells_nothing_is_no_trouble(content: str) -> None:
    file = "flash_attn-2.8.3.dist-info/direct_url.json"
    assert look({file: content}, distribution("flash-attn", "2.8.3")).built_for == ()


def test_xformers_states_what_it_was_built_for() -> None:
    text = '{"version": {"cuda": 1208, "hip": null, "torch": "2.9.0+cu128", "python": "3.10.19"}, "env": {}}'
    found = only(
        look({"xformers/cpp_lib.json": text}, distribution("xformers", "0.0.33.post1", "torch==2.9.0"))
    )
    assert (found.torch, found.cuda, found.requires_torch) == ("2.9.0", "12.8", "2.9.0")
    assert found.stated == "torch 2.9.0+cu128, CUDA 12.8"


@pytest.mark.parametrize(
    "content", [None, "", "{}", '{"version": []}', '{"version": {"torch": 2}}', Special()]
)
def test_a_damaged_statement_says_nothing(content: object) -> None:
    files = {} if content is None else {"xformers/cpp_lib.json": content}
    assert look(files, distribution("xformers", "0.0.33")).built_for == ()


def test_torchvision_and_torchaudio_name_their_cuda_in_their_own_version() -> None:
    files = {
        "torchvision/version.py": "__version__ = '0.24.0+cpu'\n",
        "torchaudio/version.py": "\n__version__ = '2.9.0+cu128'\n",
        "torchaudio/_extension/utils.py": "        if ta_version != t_version:\n",
    }
    vision, audio = look(
        files, distribution("torchvision", "0.24.0"), distribution("torchaudio", "2.9.0")
    ).built_for
    assert (vision.cuda, vision.exact_cuda) == ("cpu", False)
    assert (audio.cuda, audio.exact_cuda) == ("12.8", True)
    assert audio.source == f"{SITE}/torchaudio/version.py:2"


def test_a_torchvision_without_a_label_says_nothing() -> None:
    files = {"torchvision/version.py": "__version__ = '0.24.0'\n"}
    assert look(files, distribution("torchvision", "0.24.0")).built_for == ()


# --- FlashInfer's parts -------------------------------------------------------------------------------------

RAISES = """
        if flashinfer_version != flashinfer_cubin.__version__:
            raise RuntimeError(
                f"flashinfer-cubin version ({v}) does not match "
    env_dir = os.getenv("FLASHINFER_CUBIN_DIR")
        ) and not flashinfer_jit_cache_version.startswith(flashinfer_version):
            raise RuntimeError(
                f"flashinfer-jit-cache version ({v}) does not match "
"""
WARNS = """
        raise RuntimeError(f"{distribution} version ({package_version}) does not match "
        and not package_version.startswith(f"{flashinfer_version}+")
    logger.warning("Ignoring incompatible flashinfer-cubin package (cubins will be "
    logger.warning("Ignoring incompatible flashinfer-jit-cache package (kernels will be "
"""


def parts(rule: str, cubin: str, cache: str = "", **variables: str) -> list[tuple[bool, str, str]]:
    files = {
        "flashinfer/_build_meta.py": '__version__ = "0.6.14"\n',
        "flashinfer/jit/env.py": rule,
        "flashinfer_cubin/_build_meta.py": f'__version__ = "{cubin}"\n',
    }
    installed = [distribution("flashinfer-python", "0.6.14"), distribution("flashinfer-cubin", cubin)]
    installed += [distribution("flashinfer-jit-cache", cache)] if cache else []
    found = look(files, *installed, variables=variables).flashinfer_parts
    return [(part.suits, part.otherwise, part.rule.rpartition("/")[2]) for part in found]


def test_the_installed_flashinfer_says_whether_it_raises_or_warns() -> None:
    assert parts(RAISES, "0.6.13", "0.6.13+cu130") == [
        (False, "raises", "env.py:4"),
        (False, "raises", "env.py:8"),
    ]
    assert parts(WARNS, "0.6.13", "0.6.13+cu130") == [
        (False, "warns", "env.py:4"),
        (False, "warns", "env.py:5"),
    ]
    assert parts("# nothing", "0.6.13") == [(False, "", "env.py")]


def test_a_jit_cache_has_its_cuda_behind_the_version() -> None:
    assert parts(RAISES, "0.6.14", "0.6.14+cu130")[1][0]
    assert parts(WARNS, "0.6.14", "0.6.14+cu130")[1][0]
    assert parts(RAISES, "0.6.14", "0.6.14.post1")[1][0]
    assert not parts(WARNS, "0.6.14", "0.6.14.post1")[1][0]


def test_a_folder_of_cubins_that_is_named_comes_before_the_package_since_0_6_16() -> None:
    later = f'env_dir = os.getenv("FLASHINFER_CUBIN_DIR")\nimport flashinfer_cubin\n{RAISES}'
    earlier = f'import flashinfer_cubin\nenv_dir = os.getenv("FLASHINFER_CUBIN_DIR")\n{RAISES}'
    assert parts(later, "0.6.13", FLASHINFER_CUBIN_DIR="/c")[0][1] == ""
    assert parts(earlier, "0.6.13", FLASHINFER_CUBIN_DIR="/c")[0][1] == "raises"


# --- bitsandbytes -------------------------------------------------------------------------------------------


def test_bitsandbytes_is_judged_by_the_libraries_and_the_rule_it_brings() -> None:
    names = ("cpu", "cuda118", "cuda128", "cuda118_nocublaslt", "rocm72", "cuda1210")
    files: dict[str, object] = {f"bitsandbytes/libbitsandbytes_{name}.so": b"" for name in names}
    rule = 'library_name = f"libbitsandbytes_{prefix}.so"\n'
    old = look({**files, "bitsandbytes/cextension.py": rule}, distribution("bitsandbytes", "0.49.2"))
    new = {**files, "bitsandbytes/cextension.py": rule + "def _find_cuda_libs(prefix, is_hip):\n"}
    assert old.bitsandbytes is not None
    assert (old.bitsandbytes.cuda, old.bitsandbytes.falls_back) == (("11.8", "12.8", "12.10"), False)
    found = look(new, distribution("bitsandbytes", "0.50.2")).bitsandbytes
    assert found is not None and found.falls_back


def test_a_bitsandbytes_that_cannot_be_read_says_nothing() -> None:
    assert look({}, distribution("bitsandbytes", "0.49.2")).bitsandbytes is None
    files = {"bitsandbytes/cextension.py": PermissionError(13, "Permission denied", "x")}
    assert look(files, distribution("bitsandbytes", "0.49.2")).bitsandbytes is None


# --- vLLM's variables ---------------------------------------------------------------------------------------

ENVS = """
environment_variables: dict[str, Callable[[], Any]] = {
    "VLLM_LOGGING_LEVEL": lambda: os.getenv("VLLM_LOGGING_LEVEL", "INFO"),
    "MAX_JOBS": lambda: os.getenv("MAX_JOBS", None), "VLLM_ON_ONE_LINE": lambda: 1,
}
IGNORED = {"VLLM_ONLY_MENTIONED"}
"""


def ignored(files: Mapping[str, object], *names: str) -> list[tuple[str, str, bool]]:
    builds = look(files, distribution("vllm", "0.33.0"), variables=dict.fromkeys(names, "1"))
    return [(each.name, each.near, each.typo) for each in builds.vllm_unknown]


def test_a_variable_that_no_file_of_vllm_reads_is_found_with_what_it_looks_like() -> None:
    files = {"vllm/envs.py": ENVS}
    assert ignored(files, "VLLM_LOGGING_LEVELS", "VLLM_LOG_LEVEL", "VLLM_MODEL", "VLLM_LOGGING_LEVEL") == [
        ("VLLM_LOGGING_LEVELS", "VLLM_LOGGING_LEVEL", True),
        ("VLLM_LOG_LEVEL", "VLLM_LOGGING_LEVEL", False),
        ("VLLM_MODEL", "", False),
    ]


def test_what_vllm_reads_past_its_list_is_no_finding() -> None:
    files = {"vllm/envs.py": ENVS, "vllm/v1/worker/gpu.py": "os.getenv('VLLM_BATCH_INVARIANT', '0')\n"}
    assert ignored(files, "VLLM_BATCH_INVARIANT", "VLLM_ON_ONE_LINE", "VLLM_ONLY_MENTIONED") == []


def test_an_editable_vllm_is_judged_by_its_sources() -> None:
    files = {f"{SITE}/__editable__.vllm-0.33.0.pth": "/src/vllm\n", "/src/vllm/vllm/envs.py": ENVS}
    files["/src/vllm/vllm/v1/gpu.py"] = "os.getenv('VLLM_READ_ELSEWHERE')\n"
    names = ("VLLM_ATTENTION_BACKEND", "VLLM_READ_ELSEWHERE", "VLLM_LOGGING_LEVEL")
    held = Environ({name: Variable("1", "environment") for name in names}, "")
    found = probe(FakeHost(files), held, Packages((distribution("vllm", "0.33.0"),)))
    assert found.vllm_envs == "/src/vllm/vllm/envs.py"
    assert [each.name for each in found.vllm_unknown] == ["VLLM_ATTENTION_BACKEND"]


def test_what_kubernetes_sets_for_a_service_is_nobody_s_mistake() -> None:
    names = (
        "VLLM_SERVICE_HOST",
        "VLLM_SERVICE_PORT_HTTP",
        "VLLM_PORT_8000_TCP_ADDR",
        "VLLM_QWEN_SERVICE_PORT",
    )
    assert ignored({"vllm/envs.py": ENVS}, *names) == []


@pytest.mark.parametrize(
    "text",
    ["", "environment_variables = build()", "environment_variables = {**others}", "x = (", "\0", "(" * 5000],
)
def test_a_list_that_cannot_be_read_says_nothing(text: str) -> None:
    assert ignored({"vllm/envs.py": text}, "VLLM_MODEL") == []


# --- wheels that overwrite each other -----------------------------------------------------------------------

REQUIRES = "nvidia-nccl-cu12==2.27.5; platform_system == 'Linux'"


def nccl(size: int | None, file: str = "nvidia/nccl/lib/libnccl.so.2") -> Builds:
    files: dict[str, object] = {
        "nvidia_nccl_cu12-2.27.5.dist-info/RECORD": f"{file},sha256=a,5\nnvidia/nccl/nccl.h,sha256=c,1\n",
        "nvidia_nccl_cu13-2.28.9.dist-info/RECORD": "nvidia/nccl/lib/libnccl.so.2,sha256=b,7\r\n",
    }
    if size is not None:
        files["nvidia/nccl/lib/libnccl.so.2"] = b"x" * size
    installed = (distribution("nvidia-nccl-cu12", "2.27.5"), distribution("nvidia-nccl-cu13", "2.28.9"))
    return look(files, distribution("torch", "2.9.0", REQUIRES), *installed)


def test_the_size_tells_whose_library_is_there() -> None:
    (found,) = nccl(7).shared_files
    assert (found.holds, found.owners) == ("nvidia-nccl-cu13", ("nvidia-nccl-cu12", "nvidia-nccl-cu13"))
    assert nccl(5).shared_files[0].holds == "nvidia-nccl-cu12"
    assert nccl(6).shared_files[0].holds == nccl(None).shared_files[0].holds == ""


def test_wheels_with_folders_of_their_own_share_nothing() -> None:
    assert nccl(7, "nvidia/cu12/lib/libnccl.so.2").shared_files == ()


def test_two_majors_that_torch_needs_neither_of_are_no_concern() -> None:
    libs = (distribution(f"nvidia-cutlass-dsl-libs-cu{n}", "4.8.1") for n in (12, 13))
    assert look({}, distribution("torch", "2.9.0", REQUIRES), *libs).shared_files == ()


def test_files_that_are_no_files_are_as_good_as_none() -> None:
    error = NotRegular(22, "not a regular file", "x")
    files = {"torchvision/version.py": error, "vllm/envs.py": Special(), "xformers/cpp_lib.json": b"\xff\0"}
    names = ("torchvision", "vllm", "xformers")
    assert look(files, *(distribution(name, "1.0") for name in names)).built_for == ()


@pytest.mark.parametrize("name", ["VLLM_A(=1", "VLLM_[", "VLLM_\\"])
def test_a_variable_s_name_may_be_anything(name: str) -> None:
    files = {"vllm/envs.py": ENVS, "vllm/v1/gpu.py": "os.getenv('VLLM_B')\n"}
    assert ignored(files, name) == [(name, "", False)]
