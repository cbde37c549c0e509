import pytest
from msgspec.structs import replace

from cudadoctor.facts import Builds, BuiltFor, Extension, Packages, SharedObject, SharedObjects
from cudadoctor.findings import Severity
from cudadoctor.outcomes import Outcome, Passed, Skipped
from cudadoctor.testing import judge

from .build import SITE, one, packages, shown

VERSION = f"{SITE}/torch/version.py:4"
FLASH = BuiltFor(
    "flash-attn", "2.8.3", f"{SITE}/flash_attn-2.8.3.dist-info/direct_url.json", "+cu12torch2.8cxx11abiTRUE",
    "2.8", "12", True,
)  # fmt: skip
XFORMERS = BuiltFor(
    "xformers", "0.0.33", f"{SITE}/xformers/cpp_lib.json", "torch 2.8.0+cu128, CUDA 12.8", "2.8.0", "12.8"
)


def objects(distribution: str = "flash-attn", *needed: str) -> SharedObjects:
    path = f"{SITE}/{distribution}.so"
    files = {path: SharedObject(needed=needed)} if needed else {}
    return SharedObjects(None, extensions=(Extension(path, distribution),), files=files)


BOUND = ("libc10.so", "libtorch.so", "libcudart.so.12")


def look(
    built: BuiltFor | None,
    torch: str = "2.9.0+cu128",
    seen: SharedObjects | None = None,
    installed: Packages | None = None,
    abi: bool | None = True,
) -> Outcome:
    builds = Builds(VERSION, abi, f"{SITE}/torch/TorchConfig.cmake:9", built_for=(built,) if built else ())
    return judge(
        "built-for-another-torch",
        packages=installed or packages(torch),
        builds=builds,
        objects=seen or objects(),
    )


def test_reports_a_wheel_named_for_another_torch() -> None:
    finding = one(look(FLASH), Severity.ERROR)
    assert finding.summary == "flash-attn 2.8.3 is built for torch 2.8, installed is torch 2.9.0+cu128"
    assert "direct_url.json: built for +cu12torch2.8cxx11abiTRUE" in shown(finding)
    assert f"{VERSION}: torch 2.9.0+cu128" in shown(finding)
    assert finding.remedies[0].summary == "a build of flash-attn for torch 2.9 and CUDA 12.8"


def test_reports_the_other_c_plus_plus_abi() -> None:
    finding = one(look(replace(FLASH, torch="2.6"), "2.6.0", abi=False), Severity.ERROR)
    assert finding.summary.endswith(
        "is built for the new C++ ABI, installed is torch 2.6.0, which has the old one"
    )
    assert "TorchConfig.cmake:9: torch has the old ABI" in shown(finding)


def test_an_abi_that_torch_does_not_state_is_no_evidence() -> None:
    assert isinstance(look(replace(FLASH, torch="2.6"), "2.6.0", abi=None), Passed)


def test_a_file_that_states_another_torch_counts_where_the_library_is_bound_to_it() -> None:
    finding = one(look(XFORMERS, seen=objects("xformers", *BOUND)), Severity.ERROR)
    assert "xformers/cpp_lib.json: built for torch 2.8.0+cu128, CUDA 12.8" in shown(finding)
    assert isinstance(look(XFORMERS), Passed)


@pytest.mark.parametrize("built", [FLASH, XFORMERS])
def test_what_links_the_stable_interface_suits_every_torch(built: BuiltFor) -> None:
    stable = objects(built.distribution, "libtorch.so", "libcudart.so.12")
    assert isinstance(look(built, seen=stable), Passed)


def test_what_the_metadata_forbids_is_the_resolver_s_to_tell() -> None:
    pinned = replace(XFORMERS, requires_torch="2.8.0")
    assert isinstance(look(pinned, seen=objects("xformers", *BOUND)), Passed)


def test_another_patch_release_is_the_same_torch() -> None:
    assert isinstance(look(replace(XFORMERS, torch="2.9.0"), "2.9.1", objects("xformers", *BOUND)), Passed)


def test_is_silent_when_healthy_or_absent() -> None:
    assert isinstance(look(replace(FLASH, torch="2.9")), Passed)
    assert isinstance(look(None), Skipped)
    assert isinstance(look(FLASH, installed=packages(torch="")), Skipped)
