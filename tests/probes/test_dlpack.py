"""What the files of torch and tvm-ffi tell of FP8 and dlpack."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from cudadoctor.facts import Distribution, Dlpack, Environ, Machine, Packages, Target, TorchBuild, Variable
from cudadoctor.probes import dlpack
from cudadoctor.testing import FakeHost, Special
from tests.elves import elf

SITE = "/env/lib/python3.12/site-packages"
SOURCE = f"{SITE}/tvm_ffi/_optional_torch_c_dlpack.py"
#: The words by which the forms of that file differ: 0.1.15.post2, 0.1.5 and 0.1.0.
TAGGED = "import torch_c_dlpack_ext TVM_FFI_DISABLE_TORCH_C_DLPACK _build_optional_torch_c_dlpack.py abi_tag"
UNTAGGED = TAGGED.removesuffix(" abi_tag")
INLINE = "cpp_extension.load_inline("
MODULES = ("packaging", "setuptools")
CACHE = "/home/ada/.cache/tvm-ffi"
PLAIN = "libtorch_c_dlpack_addon_torch29-cpu.so"


def look(
    files: Mapping[str, object] | None = None,
    torch: str = "2.9.0+cu128",
    *,
    modules: tuple[str, ...] = MODULES,
    locked: tuple[str, ...] = (),
    forbidden: tuple[str, ...] = (),
    **variables: str,
) -> Dlpack:
    installed = {f"{SITE}/{name}/__init__.py": "" for name in modules}
    host = FakeHost({**installed, "/home/ada/": b"", **(files or {})}, locked=locked, forbidden=forbidden)
    target = Target("/env", "venv", "/env/bin/python3", "3.12", "/usr", (SITE,), "", "--prefix", False)
    environ = Environ(
        {n: Variable(v, "environment") for n, v in variables.items()}, "the current variables", (), "/w"
    )
    found = (Distribution("apache-tvm-ffi", "0.1.15", SITE),)
    packages = Packages(found, TorchBuild(torch, f"{SITE}/torch", "12.8") if torch else None)
    machine = Machine(
        "x86_64", "Linux", "Debian 12", "6.1", 8, 1 << 34, 1 << 33, 8192, None, home="/home/ada"
    )
    return dlpack.probe(host, target, environ, packages, machine)


@pytest.mark.parametrize(
    ("version", "native"),
    [
        ("2.10.0+cu128", True), ("2.14.1", True), ("3.0.0", True), ("2.10.0.post1", True),
        ("2.9.1+cu128", False), ("2.9.0a0+git", False), ("2.10.0a0+gitabc", None), ("none", None),
        ("2.10.0.dev20251101", None),
    ],
)  # fmt: skip
def test_the_version_tells_where_it_is_exact(version: str, native: bool | None) -> None:
    assert dlpack.exports_fp8(version) is native


def test_nothing_else_is_looked_at_where_torch_does_it_itself() -> None:
    assert look({SOURCE: OSError("not to be read")}, "2.10.0") == Dlpack(True)
    assert look(torch="") == Dlpack()


def test_the_forms_of_tvm_ffi_are_told_apart() -> None:
    new = look({SOURCE: TAGGED})
    assert (new.source, new.build, new.switch, new.takes_wheel) == (SOURCE, "script", True, True)
    stem = f"{CACHE}/libtorch_c_dlpack_addon_torch29"
    assert [addon.cached for addon in new.addons] == [f"{stem}-cpu-*.so", f"{stem}-cuda-*.so"]
    tag = hashlib.sha256(b"2.9.0+cu128|cxx11abi=1").hexdigest()[:8]
    other = look({SOURCE: TAGGED, f"{stem}-cpu-01234567.so": b""}).addon("cpu")
    assert other is not None and (other.cached, other.exists) == (f"{stem}-cpu-{tag}.so", False)
    old = look({SOURCE: UNTAGGED})
    assert old.addons[0].cached == f"{CACHE}/{PLAIN}"
    oldest = look({SOURCE: INLINE})
    assert (oldest.build, oldest.switch, oldest.takes_wheel, oldest.addons) == ("inline", False, False, ())
    assert look().source == "" and look().build == ""


def test_an_editable_tvm_ffi_is_read_among_its_sources() -> None:
    source = "/src/python/tvm_ffi/_optional_torch_c_dlpack.py"
    assert look({f"{SITE}/_tvm_ffi.pth": "/src/python\n", source: TAGGED}).source == source


def test_a_cached_addon_of_either_abi_is_found() -> None:
    tag = hashlib.sha256(b"2.9.0+cu128|cxx11abi=0").hexdigest()[:8]
    path = f"{CACHE}/libtorch_c_dlpack_addon_torch29-cpu-{tag}.so"
    addon = look({SOURCE: TAGGED, path: elf()}).addon("cpu")
    assert addon is not None and (addon.cached, addon.exists, addon.problem) == (path, True, "")


@pytest.mark.parametrize("content", [b"", elf()[:80], b"no library" * 9, Special()])
def test_a_damaged_addon_is_there_with_its_problem(content: object) -> None:
    addon = look({SOURCE: UNTAGGED, f"{CACHE}/{PLAIN}": content}).addon("cpu")
    assert addon is not None and addon.exists and addon.problem


def test_a_build_at_work_is_seen_by_its_lock() -> None:
    lock = f"{CACHE}/{PLAIN}.lock"
    left, held = look({SOURCE: UNTAGGED, lock: ""}), look({SOURCE: UNTAGGED, lock: ""}, locked=(lock,))
    assert [addon.locked for addon in (*left.addons, *held.addons)] == [False, False, True, False]


def test_the_wheel_counts_with_a_library_for_this_torch() -> None:
    wheel = f"{SITE}/torch_c_dlpack_ext"
    files = {SOURCE: TAGGED, f"{wheel}/core.py": "", f"{wheel}/libtorch_c_dlpack_addon_torch28-cpu.so": elf()}
    assert look(files).wheel == wheel
    assert [addon.prebuilt for addon in look(files).addons] == ["", ""]
    assert [addon.prebuilt for addon in look(files, "2.8.0").addons] == [list(files)[2], ""]


def test_modules_that_the_build_imports_are_missed() -> None:
    assert look({SOURCE: TAGGED}).missing == ()
    assert look({SOURCE: TAGGED}, modules=("setuptools",)).missing == ("packaging",)
    assert look({SOURCE: TAGGED}, modules=()).missing == ("packaging", "setuptools")


def test_the_cache_is_where_tvm_ffi_has_it() -> None:
    assert look({SOURCE: TAGGED}, XDG_CACHE_HOME="/x").cache == CACHE
    named = look({SOURCE: TAGGED}, TVM_FFI_CACHE_DIR="~/mine/")
    assert (named.cache, named.cache_source) == ("/home/ada/mine", "TVM_FFI_CACHE_DIR")
    assert look({SOURCE: TAGGED}, TVM_FFI_CACHE_DIR="rel").cache == "/w/rel"


def test_a_place_that_cannot_be_written_to_is_seen_before_it_is_made() -> None:
    assert look({SOURCE: TAGGED}).writable
    assert not look({SOURCE: TAGGED}, forbidden=("/home/ada",)).writable
    assert not look({SOURCE: TAGGED, CACHE: "a file"}).writable
    assert not look({SOURCE: TAGGED, f"{CACHE}/x": ""}, forbidden=(CACHE,)).writable
