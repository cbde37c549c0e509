"""What differs between two looks, on facts made by hand: what is told, what is none, and the rank."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from cudadoctor.compare import IDLE, NAMED, NEEDED, OPEN, Difference, Different, Seen, compare
from cudadoctor.compare.roots import Roots, places
from cudadoctor.declare import Check, check
from cudadoctor.engine import examine
from cudadoctor.facts import (
    Builds,
    BuildTool,
    BuildTools,
    BuiltFor,
    CacheFolder,
    Caches,
    Card,
    Compiler,
    Compilers,
    CompilerUse,
    Conda,
    CondaRecord,
    Container,
    Deep,
    DeviceNode,
    Dlpack,
    DlpackAddon,
    Driver,
    Environ,
    Facts,
    Gpu,
    HeaderDirectory,
    Hub,
    Libraries,
    LibraryFile,
    LinkDirectory,
    Live,
    Lock,
    NvccOnPath,
    Nvml,
    Packages,
    Paths,
    Repairs,
    Resources,
    Selection,
    SharedMemory,
    SharedObject,
    SharedObjects,
    Stage,
    Storage,
    StoragePlace,
    Symbols,
    Toolkit,
    Toolkits,
    TorchBuild,
    Trial,
    UndefinedSymbol,
    Unknown,
    Unresolved,
    Variable,
    WantedPort,
)
from cudadoctor.findings import Evidence, Finding, Severity, export
from tests.checks.installed import MACHINE, PREFIX, SITE, all_of, one, target
from tests.checks.launched import launch, model

GIB = 1 << 30
ROOT = "/usr/local/cuda-12.8"
INDEX = "https://download.pytorch.org/whl"


def seen(name: str, checks: tuple[Check, ...] = (), **sections: Any) -> Seen:
    """Return a look at an environment with these sections."""
    facts = Facts(**{"target": target(), "machine": MACHINE, **sections})
    outcomes = tuple(examine(facts, checks, {each.name for each in checks}))
    return Seen(name, facts, outcomes)


def between(
    first: dict[str, Any],
    second: dict[str, Any],
    *checks: Check,
    fixes: tuple[str, ...] = (),
    here: bool = True,
) -> Difference:
    """Return the difference of two looks, the second at this machine or at another one."""
    b = seen("b.json", checks, **second)
    b = structs.replace(b, real=b.facts) if here else b
    return compare(seen("a.json", checks, **first), b, checks, fixes)


def told(first: dict[str, Any], second: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what differs, and how."""
    return {each.what: (each.first, each.second) for each in between(first, second).differences}


def environ(**variables: str) -> Environ:
    given = {name: Variable(value, "environment") for name, value in variables.items()}
    return Environ(given, "the current variables", ("/usr/bin",), "/work")


def toolkits(root: str = ROOT, version: str = "12.8.93", **headers: tuple[str, ...]) -> Toolkits:
    include = f"{root}/include"
    toolkit = Toolkit(root, root, "cuda", version, "nvcc", ("x",), f"{root}/bin/nvcc", (include,))
    selections = tuple(Selection(who, root, "CUDA_HOME", True, True) for who in ("flashinfer", "torch"))
    there = {include: HeaderDirectory(True, headers.get("headers", ("cuda.h",)), version[:4])}
    return Toolkits((toolkit,), selections, there, NvccOnPath(f"{root}/bin/nvcc", "binary"))


def libraries(folder: str = f"{ROOT}/lib64", **files: LibraryFile) -> Libraries:
    held = {f"lib{name}.so": file for name, file in files.items()}
    return Libraries({folder: LinkDirectory(True, held)}, ("libcudart.so",))


def gpu(index: int = 0, name: str = "NVIDIA H100 80GB HBM3", **more: Any) -> Gpu:
    total = 80 * GIB
    return Gpu(index, name, "9.0", f"GPU-{index}a2b3c4d", total, more.pop("used", 0), total, **more)


def driver(version: str = "570.86.15", *gpus: Gpu) -> Driver:
    return Driver(version, "/proc/driver/nvidia/version", nvml=Nvml("answered", cuda="12.8"), gpus=gpus)


# --- what is told, section by section -----------------------------------------------------------------------


def test_a_package_is_told_by_its_versions_torch_with_its_build() -> None:
    build = TorchBuild("2.9.0+cu128", f"{SITE}/torch", "12.8")
    first = structs.replace(all_of(one("torch", "2.9.0"), one("numpy", "2.1.0")), torch=build)
    assert told({"packages": first}, {"packages": all_of(one("torch", "2.8.0"))}) == {
        "torch": ("2.9.0+cu128", "2.8.0"),
        "numpy": ("2.1.0", "not installed"),
    }


def test_a_package_from_elsewhere_and_one_that_is_damaged_say_so() -> None:
    developed = one("vllm", "0.12.0", at="/src/vllm")
    damaged = structs.replace(one("vllm", "0.12.0"), problem="METADATA: is empty")
    found = told({"packages": all_of(developed)}, {"packages": all_of(damaged)})
    assert found["vllm"] == ("0.12.0 in /src/vllm", "0.12.0 (its metadata cannot be read)")


def test_conda_packages_are_told_with_their_build() -> None:
    first = Conda(PREFIX, (CondaRecord("cuda-nvcc", "12.8.93", "h1"), CondaRecord("gxx", "12.4.0", "h2")))
    second = Conda(PREFIX, (CondaRecord("cuda-nvcc", "12.8.93", "h9"),))
    assert told({"conda": first}, {"conda": second}) == {
        "cuda-nvcc": ("12.8.93 h1", "12.8.93 h9"),
        "gxx": ("12.4.0 h2", "not installed"),
    }


def test_a_variable_is_told_by_its_values() -> None:
    first, second = environ(CUDA_HOME=ROOT, MAX_JOBS="4"), environ(MAX_JOBS="8", LD_LIBRARY_PATH="")
    assert told({"environ": first}, {"environ": second}) == {
        "CUDA_HOME": (ROOT, "unset"),
        "MAX_JOBS": ("4", "8"),
        "LD_LIBRARY_PATH": ("unset", "empty"),
    }


def test_the_order_of_path_is_told_where_nothing_else_of_it_differs() -> None:
    first = Environ({}, "x", ("/usr/bin", "/opt/bin"))
    same = told({"environ": first}, {"environ": structs.replace(first, path=("/opt/bin", "/usr/bin"))})
    assert same == {"PATH": ("/usr/bin:/opt/bin", "/opt/bin:/usr/bin")}
    less = told({"environ": first}, {"environ": structs.replace(first, path=("/usr/bin",))})
    assert less == {"/opt/bin on PATH": ("there", "missing")}


def test_the_machine_is_told_without_what_is_free_on_it_and_whose_it_is() -> None:
    other = structs.replace(
        MACHINE, kernel="6.8.0", cores=4, memory_available_bytes=1, home="/home/x", modules=("cuda/12.8",)
    )
    assert told({"machine": MACHINE}, {"machine": other}) == {
        "kernel": ("6.1.0", "6.8.0"),
        "CPU cores": ("8", "4"),
        "module cuda/12.8": ("not loaded", "loaded"),
    }


def test_a_limit_that_is_off_is_unlimited() -> None:
    found = told({}, {"machine": structs.replace(MACHINE, stack_soft_kib=None)})
    assert found == {"soft limit of the stack": ("8192 KiB", "unlimited")}


def test_the_driver_and_its_gpus_are_told_by_model() -> None:
    first = driver("570.86.15", gpu(0), gpu(1))
    second = structs.replace(driver("535.104.05", gpu(0)), nvml=Nvml("answered", cuda="12.2"))
    one_gpu = "NVIDIA H100 80GB HBM3 (9.0, 80 GiB)"
    assert told({"driver": first}, {"driver": second}) == {
        "driver": ("570.86.15", "535.104.05"),
        "CUDA that the driver is of": ("12.8", "12.2"),
        "GPUs": (f"2 x {one_gpu}", f"1 x {one_gpu}"),
    }


def test_of_a_gpu_what_is_in_use_who_uses_it_and_its_number_are_no_difference() -> None:
    first, second = gpu(0), structs.replace(gpu(0, used=GIB), uuid="GPU-99999999", memory_free_bytes=5)
    assert told({"driver": driver("570.1", first)}, {"driver": driver("570.1", second)}) == {}


def test_what_ails_a_gpu_and_its_device_files_is_told() -> None:
    first = structs.replace(driver("570.1", gpu(0)), nodes=(DeviceNode("/dev/nvidia0", True),))
    lost = gpu(0, problem="NVML_ERROR_GPU_IS_LOST", mig=True)
    second = structs.replace(driver("570.1", lost), nodes=(DeviceNode("/dev/nvidia0", False),))
    assert told({"driver": first}, {"driver": second}) == {
        "/dev/nvidia0": ("usable", "not usable"),
        "MIG of GPU 0": ("none", "on"),
        "trouble of GPU 0": ("none", "NVML_ERROR_GPU_IS_LOST"),
    }


def test_toolkits_are_told_by_place_and_version_and_by_who_takes_them() -> None:
    found = told({"toolkits": toolkits()}, {"toolkits": toolkits("/usr/local/cuda-13.0", "13.0.88")})
    assert found["CUDA toolkit at /usr/local/cuda-12.8"] == ("12.8.93", "none")
    assert found["toolkit taken by FlashInfer"] == (ROOT, "/usr/local/cuda-13.0")
    assert found["nvcc on PATH"] == (f"{ROOT}/bin/nvcc", "/usr/local/cuda-13.0/bin/nvcc")
    assert not any("headers" in what for what in found), "they only follow from the toolkit"


def test_one_toolkit_in_two_places_is_the_same() -> None:
    moved = toolkits("/opt/cuda", "12.8.93")
    variables = environ(CUDA_HOME="/opt/cuda")
    second = {"toolkits": moved, "environ": variables, "libraries": libraries("/opt/cuda/lib64")}
    first = {"toolkits": toolkits(), "environ": environ(CUDA_HOME=ROOT), "libraries": libraries()}
    assert told(first, second) == {}


def test_a_toolkit_that_was_replaced_in_its_place_is_told_once() -> None:
    root = "/usr/local/cuda"
    first, second = toolkits(root, "12.8.93"), toolkits(root, "13.0.88")
    variables = {"environ": environ(CUDA_HOME=root)}
    found = told({"toolkits": first, **variables}, {"toolkits": second, **variables})
    assert found == {f"CUDA toolkit at {root}": ("12.8.93", "13.0.88")}


def test_a_header_that_is_gone_is_told() -> None:
    found = told(
        {"toolkits": toolkits(headers=("cuda.h", "curand.h"))}, {"toolkits": toolkits(headers=("cuda.h",))}
    )
    assert found == {f"curand.h in {ROOT}/include": ("there", "missing")}


def test_compilers_are_told_by_version_and_their_search_only_where_that_is_one() -> None:
    def compilers(version: str) -> Compilers:
        uses = (CompilerUse("flashinfer", "link", "g++", "CXX"),)
        return Compilers({"g++": Compiler("g++", "/usr/bin/g++", "gcc", version)}, uses)

    found = told({"compilers": compilers("12.2.0")}, {"compilers": compilers("14.1.0")})
    assert found == {"g++": ("gcc 12.2.0", "gcc 14.1.0")}


@pytest.mark.parametrize(
    ("file", "says"),
    [
        (LibraryFile("dangling", link="libcudart.so.13"), "a broken link to libcudart.so.13"),
        (LibraryFile("empty"), "empty file"),
        (LibraryFile("shared", "aarch64", 64), "there (of aarch64)"),
        (LibraryFile("shared", "x86_64", 64, "libcudart.so.13"), "there, a link to libcudart.so.13"),
    ],
)
def test_a_library_is_told_by_what_stands_at_its_name(file: LibraryFile, says: str) -> None:
    whole = LibraryFile("shared", "x86_64", 64)
    found = told({"libraries": libraries(cudart=whole)}, {"libraries": libraries(cudart=file)})
    assert found == {f"libcudart.so in {ROOT}/lib64": ("there", says)}


def test_a_folder_that_is_gone_is_told_without_what_was_in_it() -> None:
    held = libraries(cudart=LibraryFile("shared"))
    gone = Libraries({f"{ROOT}/lib64": LinkDirectory(False)}, ("libcudart.so",))
    assert told({"libraries": held}, {"libraries": gone}) == {f"{ROOT}/lib64": ("there", "missing")}


def test_a_folder_that_only_one_side_was_asked_for_is_no_difference() -> None:
    held = libraries(cudart=LibraryFile("shared"))
    assert told({"libraries": held}, {"libraries": libraries("/opt/x/lib64")}) == {}


def test_a_library_of_two_spellings_is_told_once() -> None:
    folder = LinkDirectory(True, {"libcudart.so": LibraryFile("shared")})
    other = structs.replace(folder, real=f"{ROOT}/lib")
    held = Libraries({f"{ROOT}/lib": folder, f"{ROOT}/lib64": other}, ())
    empty = {path: structs.replace(each, files={}) for path, each in held.directories.items()}
    found = told({"libraries": held}, {"libraries": Libraries(empty, ())})
    assert found == {f"libcudart.so in {ROOT}/lib": ("there", "missing")}


def test_what_the_loader_finds_is_told_by_name_and_newest_version() -> None:
    def objects(folder: str, *provides: str) -> SharedObjects:
        return SharedObjects(None, files={f"{folder}/libstdc++.so.6": SharedObject(provides=provides)})

    versions = ("GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3")
    first = objects("/usr/lib", *versions)
    older = objects("/usr/lib", "GLIBCXX_3.4.9", "CXXABI_1.3")
    assert told({"objects": first}, {"objects": older}) == {
        "newest version in libstdc++.so.6": ("CXXABI_1.3, GLIBCXX_3.4.30", "CXXABI_1.3, GLIBCXX_3.4.9")
    }
    found = told({"objects": first}, {"objects": objects("/opt/lib/../lib", *versions)})
    assert found == {"libstdc++.so.6 that the loader finds": ("/usr/lib", "/opt/lib")}


def test_what_a_package_is_built_for_is_told_where_both_have_it() -> None:
    def builds(stated: str) -> Builds:
        return Builds(built_for=(BuiltFor("flash-attn", "2.8.3", "x", stated),))

    found = told({"builds": builds("+cu12torch2.8")}, {"builds": builds("+cu12torch2.9")})
    assert found == {"flash-attn is built for": ("+cu12torch2.8", "+cu12torch2.9")}
    assert told({"builds": builds("+cu12torch2.8")}, {"builds": Builds()}) == {}


def test_dlpack_storage_caches_and_the_hub_are_told() -> None:
    place = StoragePlace("flashinfer", "/c/flashinfer", "FLASHINFER_WORKSPACE_BASE", "x", "/c", free_bytes=9)
    full = structs.replace(place, blocked="/c", why="read-only", free_bytes=1)
    first = {
        "dlpack": Dlpack(False, addons=(DlpackAddon("cuda", "/c/a.so", exists=True),)),
        "storage": Storage((place,)),
        "caches": Caches(folders=(CacheFolder("triton", "/c/triton", "x"),)),
        "hub": Hub("/c/hub", count=3),
        "repairs": Repairs(1, pending=("CUDA_HOME",)),
    }
    second = {
        "dlpack": Dlpack(False, addons=(DlpackAddon("cuda", "/c/a.so"),)),
        "storage": Storage((full,)),
        "caches": Caches(locks=(Lock("/c/lock", "baton", True),)),
        "hub": Hub("/c/hub", count=9, offline="HF_HUB_OFFLINE"),
        "repairs": Repairs(2),
    }
    assert told(first, second) == {
        "tvm-ffi's add-on for cuda": ("there", "not built"),
        "folder of flashinfer is blocked": ("not so", "/c (read-only)"),
        "lock /c/lock": ("not there", "held"),
        "downloads forbidden by": ("none", "HF_HUB_OFFLINE"),
        "repairs: pending": ("CUDA_HOME", "none"),
    }


def test_a_launch_is_told_option_by_option() -> None:
    contained = structs.replace(
        launch(max_model_len="32k"), container=Container("docker", "x", shm_size="64m"), image="vllm:1"
    )
    assert told({"launch": launch(max_model_len="8k", tensor_parallel_size=2)}, {"launch": contained}) == {
        "--max-model-len": ("8k", "32k"),
        "--tensor-parallel-size": ("2", "not given"),
        "image": ("none", "vllm:1"),
        "engine of the container": ("none", "docker"),
        "shm-size of the container": ("none", "64m"),
    }


def test_the_card_the_port_shared_memory_and_the_model_are_told() -> None:
    first = {
        "card": Card("h100", 80 * GIB, "9.0", 2),
        "resources": Resources((WantedPort(8000, "", "x"),), shared_memory=SharedMemory(1, 16 * GIB)),
        "model": model(),
        "paths": Paths(True, "x", "FLASHINFER"),
    }
    second = {
        "card": Card("h100", 80 * GIB, "9.0", 1, free_bytes=3),
        "resources": Resources((WantedPort(8000, "", "x"),), shared_memory=SharedMemory(1, 64 << 20)),
        "model": structs.replace(model(), dtype="float16"),
        "paths": Paths(False, "y", "FLASHINFER"),
    }
    assert told(first, second) == {
        "cards of the launch": ("2 x h100 (9.0, 80 GiB)", "1 x h100 (9.0, 80 GiB)"),
        "/dev/shm": ("16 GiB", "64 MiB"),
        "model: dtype": ("none", "float16"),
        "the launch runs FlashInfer's operators": ("yes", "no"),
    }


def test_trials_are_told_by_how_they_ended_not_by_how_long_they_took() -> None:
    def looks(ended: str, seconds: float) -> dict[str, Any]:
        stage = Stage("torch", "passed" if ended == "ok" else "failed", "no kernel image", seconds)
        lost = UndefinedSymbol("_ZN3c10")
        symbols = Symbols() if ended == "ok" else Symbols((Unresolved("/x/_C.so", "/x/_C.so", (lost,), 1),))
        return {
            "deep": Deep((Trial("cicc", "flashinfer", ("nvcc",), ended, level="-O3", seconds=seconds),)),
            "live": Live((stage,)),
            "symbols": symbols,
        }

    found = told(looks("ok", 1.0), looks("segfault", 1.0))
    assert found["trial cicc flashinfer -O3"] == ("ok", "segfault")
    assert found["stage torch"] == ("passed", "failed: no kernel image")
    assert found["symbols: /x/_C.so"] == ("missing", "there")
    assert told(looks("ok", 1.0), looks("ok", 9.0)) == {}


# --- what is no difference ----------------------------------------------------------------------------------


def test_paths_are_compared_from_the_places_of_each_machine() -> None:
    def of(prefix: str, home: str, python: str) -> Facts:
        at = structs.replace(
            target(), prefix=prefix, site_packages=(f"{prefix}/lib/python{python}/site-packages",)
        )
        return Facts(target=at, machine=structs.replace(MACHINE, home=home))

    a, b = places(of("/home/ada/a", "/home/ada", "3.11"), of("/opt/b", "/root", "3.12"))
    for text, plain in (
        ("/home/ada/a/bin/ninja", "{env}/bin/ninja"),
        ("-L/home/ada/a/lib -I/home/ada/x", "-L{env}/lib -I{home}/x"),
        ("/home/ada/a/lib/python3.11/site-packages/x", "{site}/x"),
        ("/home/ada/another and /home/adam", "{home}/another and /home/adam"),
        ("/mnt/home/ada/a", "/mnt/home/ada/a"),
        ("/x/_C.cpython-311-x86_64-linux-gnu.so", "/x/_C.cpython-3-x86_64-linux-gnu.so"),
    ):
        assert a.plain(text) == plain
    assert b.here(a.plain("/home/ada/a/lib:/home/ada/x")) == "/opt/b/lib:/root/x"


@pytest.mark.parametrize("kind", ["host-", "ip-", "ipv6:"])
def test_masked_names_are_the_same_whatever_their_numbers(kind: str) -> None:
    first, second = (environ(HF_ENDPOINT=f"http://[{kind}{number}]:8000/x") for number in (1, 2))
    assert told({"environ": first}, {"environ": second}) == {}


def test_a_program_of_unknown_version_is_told_by_its_place_and_not_compared_by_it() -> None:
    first, second, third = (
        {"tools": BuildTools({"ninja": tool}, "")}
        for tool in (BuildTool("/env/bin/ninja", "1.13.2"), BuildTool("/a/ninja"), BuildTool("/b/ninja"))
    )
    assert told(first, second) == {"ninja": ("1.13.2", "/a/ninja, of unknown version")}
    assert told(second, third) == {}


def test_a_place_that_everybody_has_is_no_place_of_ones_own() -> None:
    system = structs.replace(target(), prefix="/usr", base_prefix="/usr")
    assert Roots(Facts(target=system)).plain("/usr/bin/gcc") == "/usr/bin/gcc"


def test_what_only_one_has_looked_at_is_said_and_not_counted() -> None:
    difference = between({"driver": Unknown("did not end in time")}, {"driver": driver()})
    assert difference.same and not difference.differences
    (unseen,) = difference.unseen
    assert (unseen.section, unseen.side, unseen.reason) == ("driver", "A", "did not end in time")


def test_what_nobody_has_looked_at_is_not_mentioned() -> None:
    assert between({"deep": Unknown("x")}, {"deep": Unknown("y")}).unseen == ()


_TEXT = st.text(max_size=20)


@given(_TEXT, _TEXT, st.dictionaries(_TEXT, _TEXT, max_size=5))
def test_any_facts_are_the_same_as_themselves(prefix: str, home: str, variables: dict[str, str]) -> None:
    at = structs.replace(target(), prefix=prefix)
    machine = structs.replace(MACHINE, home=home)
    same = {"target": at, "machine": machine, "environ": environ(**variables), "packages": all_of()}
    assert between(same, same).same


def test_a_model_config_without_a_bottom_is_walked_to_a_depth() -> None:
    deep: Any = "x"
    for _ in range(400):
        deep = {"k": [deep]}
    first = structs.replace(model(), config=deep)
    assert between({"model": first}, {"model": structs.replace(first, config={"k": 1})}).differences


# --- the rank -----------------------------------------------------------------------------------------------


@check
def library_lost(libraries: Libraries, environ: Environ, packages: Packages):  # type: ignore[no-untyped-def]
    """The library is not there."""
    for folder, directory in libraries.directories.items():
        if "libcudart.so" not in directory.files:
            evidence = (Evidence(folder, "no libcudart.so"), Evidence("flags", f"-L{folder} -lcudart"))
            yield Finding("lost", Severity.ERROR, evidence, (export("cuda-home", CUDA_HOME=ROOT),))


@check
def compiler_old(compilers: Compilers):  # type: ignore[no-untyped-def]
    """The compiler is old."""
    yield Finding("old", Severity.WARNING, (Evidence("g++", "is old"),))


@check
def memory_held(driver: Driver):  # type: ignore[no-untyped-def]
    """Memory is held."""
    for each in driver.gpus:
        if each.memory_used_bytes:
            yield Finding("held", Severity.NOTE, (Evidence("NVML", f"GPU {each.index}: 1 GiB free"),))


@pytest.fixture
def broken() -> Difference:
    """Return what differs where a library is lost, and more with it."""
    first = {
        "libraries": libraries(cudart=LibraryFile("shared"), cufft=LibraryFile("shared")),
        "environ": environ(CUDA_HOME=ROOT, MAX_JOBS="4"),
        "packages": all_of(one("torch", "2.9.0+cu128")),
        "compilers": Compilers({"g++": Compiler("g++", "/usr/bin/g++", "gcc", "12.2.0")}, ()),
    }
    second = {
        "libraries": libraries(),
        "environ": environ(),
        "packages": all_of(one("torch", "2.8.0+cu126")),
        "compilers": Compilers({"g++": Compiler("g++", "/usr/bin/g++", "gcc", "14.1.0")}, ()),
        "machine": structs.replace(MACHINE, kernel="6.8.0"),
    }
    return between(first, second, library_lost, compiler_old, fixes=("cuda-home",))


def by_what(difference: Difference) -> dict[str, Different]:
    return {each.what: each for each in difference.differences}


def test_differences_are_ranked_by_what_the_failing_checks_name_and_need(broken: Difference) -> None:
    ranks = {each.what: each.rank for each in broken.differences}
    assert ranks == {
        f"libcudart.so in {ROOT}/lib64": NAMED,
        "CUDA_HOME": NAMED,
        f"libcufft.so in {ROOT}/lib64": NEEDED,
        "MAX_JOBS": NEEDED,
        "torch": NEEDED,
        "g++": OPEN,
        "kernel": IDLE,
    }
    assert list(ranks.values()) == sorted(ranks.values())
    assert by_what(broken)["CUDA_HOME"].checks == ("library-lost",)


def test_what_fails_in_b_only_is_told_with_its_repair_and_what_fails_in_both_by_name(
    broken: Difference,
) -> None:
    (turned,) = broken.checks
    assert (turned.check, turned.first, turned.second, turned.severity) == (
        "library-lost", "passed", "failed", "error",
    )  # fmt: skip
    assert turned.fix == f"cudadoctor fix library-lost --prefix {PREFIX}"
    assert broken.failing == ("compiler-old",) and broken.basis == "B" and not broken.same


def test_a_repair_that_there_is_not_is_not_offered() -> None:
    first, second = libraries(cudart=LibraryFile("shared")), libraries()
    same = {"environ": environ(), "packages": all_of()}
    difference = between({"libraries": first, **same}, {"libraries": second, **same}, library_lost)
    assert [turned.fix for turned in difference.checks] == [""]


def test_what_is_free_counts_only_where_a_failing_check_names_it() -> None:
    first, second = driver("570.1", gpu(0)), driver("570.1", structs.replace(gpu(0), memory_free_bytes=GIB))
    used = structs.replace(second, gpus=(structs.replace(second.gpus[0], memory_used_bytes=79 * GIB),))
    difference = between({"driver": first}, {"driver": used}, memory_held)
    assert [(each.what, each.first, each.second) for each in difference.differences] == [
        ("memory free on GPU 0", "80 GiB", "1 GiB")
    ]


def test_a_check_that_could_not_look_on_one_side_has_not_changed() -> None:
    first = {"compilers": Unknown("did not end in time")}
    second = {"compilers": Compilers({}, ())}
    difference = between(first, second, compiler_old)
    (turned,) = difference.checks
    assert (turned.first, turned.second, turned.counts) == ("inconclusive", "failed", False)
    assert "did not end in time" in turned.reason and difference.same


# --- what would bring B to A --------------------------------------------------------------------------------


def commands(first: dict[str, Any], second: dict[str, Any], here: bool = True) -> dict[str, str]:
    """Return the command for each difference, where a check looks at all of them."""

    @check
    def always(environ: Environ, packages: Packages, conda: Conda | None = None):  # type: ignore[no-untyped-def]
        """Fails wherever it looks."""
        yield Finding("x", Severity.ERROR)

    common = {"environ": environ(), "packages": Packages(())}
    difference = between({**common, **first}, {**common, **second}, always, here=here)
    return {each.what: each.command for each in difference.differences}


def test_a_package_is_brought_by_pip_with_the_index_that_its_label_names() -> None:
    first = all_of(
        one("torch", "2.9.0+cu128"),
        one("numpy", "2.1.0"),
        one("flash-attn", "2.8.3+cu12torch2.8"),
        one("dev", "1.0.dev3"),
        structs.replace(one("mine", "1.0"), location="/src/mine"),
    )
    pip = f"{PREFIX}/bin/python3 -m pip install"
    assert commands({"packages": first}, {"packages": all_of(one("dev", "1.0"))}) == {
        "torch": f"{pip} torch==2.9.0 --index-url {INDEX}/cu128",
        "numpy": f"{pip} numpy==2.1.0",
        "flash-attn": "",
        "dev": "",
        "mine": "",
    }


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("uv", f"uv pip install --python {PREFIX}/bin/python3 numpy==2.1.0"),
        ("system", ""),
        ("pixi", ""),
    ],
)
def test_the_installer_is_the_one_of_bs_environment(kind: str, command: str) -> None:
    second = {"packages": Packages(()), "target": target(kind)}
    found = commands({"packages": Packages((one("numpy", "2.1.0"),))}, second)
    assert found == {"numpy": command, "environment": ""}


def test_on_another_machine_commands_are_for_who_is_in_its_environment() -> None:
    first = {
        "packages": all_of(one("numpy", "2.1.0")),
        "conda": Conda(PREFIX, (CondaRecord("cuda-nvcc", "12.8.93"),)),
    }
    second = {"packages": all_of(one("numpy", "2.0.0")), "conda": Conda(PREFIX), "target": target("conda")}
    found = commands(first, second, here=False)
    assert found["numpy"] == "python -m pip install numpy==2.1.0"
    assert found["cuda-nvcc"] == "conda install cuda-nvcc=12.8.93"


def test_what_a_lock_file_owns_is_not_installed_beside_it() -> None:
    locked = structs.replace(target(), lock_file="/src/uv.lock")
    found = commands({"packages": all_of(one("numpy", "2.1.0"))}, {"target": locked})
    assert found["numpy"] == ""


def test_a_conda_package_is_brought_by_conda_from_its_channel() -> None:
    record = CondaRecord("cuda-nvcc", "12.8.93", "h1", "conda-forge")
    found = commands({"conda": Conda(PREFIX, (record,))}, {"conda": Conda(PREFIX), "target": target("conda")})
    assert found["cuda-nvcc"] == f"conda install -p {PREFIX} -c conda-forge cuda-nvcc=12.8.93"


def test_a_variable_is_set_as_a_has_it_from_bs_own_places() -> None:
    site = "/opt/my env/lib/python3.12/site-packages"
    moved = structs.replace(target(), prefix="/opt/my env", site_packages=(site,))
    first = environ(
        CUDA_HOME=PREFIX, HF_HOME="[secret]", HF_ENDPOINT="http://[ipv6:1]:80", CONDA_PREFIX=PREFIX
    )
    found = commands({"environ": first}, {"environ": environ(CPATH="/x"), "target": moved})
    assert found == {
        "CUDA_HOME": "export CUDA_HOME='/opt/my env'",
        "HF_HOME": "",
        "HF_ENDPOINT": "",
        "CONDA_PREFIX": "",
        "CPATH": "unset CPATH",
    }


def test_a_hostile_name_is_in_no_command() -> None:
    bad = "$(touch x)\n"
    first = {
        "packages": Packages((one(bad, "1.0"), one("numpy", bad), one("--upgrade", "1.0"))),
        "environ": environ(**{bad: "x", "CPATH": bad, "LIBRARY_PATH": "$(touch x)"}),
        "conda": Conda(
            PREFIX, (CondaRecord(bad, "1"), CondaRecord("gxx", bad), CondaRecord("a", "1", "", bad))
        ),
    }
    second = {"conda": Conda(PREFIX), "target": target("conda")}
    found = commands(first, second)
    assert {what: command for what, command in found.items() if command} == {
        "LIBRARY_PATH": "export LIBRARY_PATH='$(touch x)'",
        "a": f"conda install -p {PREFIX} a=1",
    }


# --- the schema ---------------------------------------------------------------------------------------------


def test_a_difference_comes_back_from_its_json(broken: Difference) -> None:
    assert msgspec.json.decode(msgspec.json.encode(broken), type=Difference) == broken
    assert set(msgspec.json.schema(Difference)["$defs"]) >= {"Difference", "Different", "Turned", "Side"}
