"""Where the stack writes to, on machines made in memory, and on a real one without the superuser's rights."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cudadoctor.facts import (
    CacheFolder,
    Caches,
    Distribution,
    Dlpack,
    DlpackAddon,
    Environ,
    FlashInfer,
    Machine,
    Packages,
    Storage,
    StoragePlace,
    Target,
    TorchBuild,
    Triton,
    Variable,
)
from cudadoctor.host import Host, RealHost, Space
from cudadoctor.probes.storage import probe
from cudadoctor.testing import FakeHost, Link
from tests.test_bad_input import unprivileged

HOME, SITE = "/home/ada", "/v/lib/python3.12/site-packages"
WORKSPACE = f"{HOME}/.cache/flashinfer/0.5.3"
ADDON = f"{HOME}/.cache/tvm-ffi/addon.so"
NEEDS_ADDON = Dlpack(
    False, f"{SITE}/tvm_ffi/x.py", "script", True, cache=f"{HOME}/.cache/tvm-ffi", cache_source="the default",
    addons=(DlpackAddon("cpu", ADDON),),
)  # fmt: skip
MACHINE: dict[str, object] = {f"{HOME}/": None, "/tmp/": None, "/v/bin/": None}
STATUS = {"/proc/self/status": "Name:\tx\nUid:\t1000\t1000\t1000\t1000\n"}


def packages(*names: str, flashinfer: str = "0.5.3") -> Packages:
    return Packages(
        tuple(Distribution(name, "1.0", SITE) for name in (*names, "torch", "flashinfer-python")),
        TorchBuild("2.9.0", f"{SITE}/torch", "12.8"),
        FlashInfer(flashinfer, (), "") if flashinfer else None,
        Triton("3.5.0", f"{SITE}/triton", (), "") if "triton" in names else None,
    )


def look(
    host: Host,
    installed: Packages | None = None,
    /,
    *,
    home: str = HOME,
    dlpack: Dlpack | None = None,
    caches: Caches | None = None,
    **variables: str,
) -> Storage:
    held = {name: Variable(value, "environment") for name, value in variables.items()}
    return probe(
        host,
        Target("/v", "venv", "/v/bin/python", "3.12", "/usr", (SITE,), "", "--prefix", True),
        Environ(held, "the current variables", (), "/here"),
        installed or packages(),
        Machine("x86_64", "Linux", "Debian", "6.1", 8, 1 << 34, 1 << 34, 8192, None, home=home),
        caches or Caches(),
        dlpack or Dlpack(True),
    )


def seen(files: Mapping[str, object], installed: Packages | None = None, **more: Any) -> Storage:
    machine = {key: more.pop(key) for key in ("forbidden", "owners", "spaces", "lockless") if key in more}
    return look(FakeHost({**MACHINE, **STATUS, **files}, {"LOGNAME": "ada"}, **machine), installed, **more)


def place(found: Storage, name: str) -> StoragePlace:
    (one,) = (place for place in found.places if place.name == name)
    return one


# --- where to -----------------------------------------------------------------------------------------------


def test_each_program_has_its_default_place() -> None:
    everything = packages("triton", "vllm", "huggingface-hub")
    found = seen({}, everything, dlpack=NEEDS_ADDON)
    assert {place.name: place.path for place in found.places} == {
        "flashinfer": WORKSPACE,
        "tvm-ffi": f"{HOME}/.cache/tvm-ffi",
        "triton": f"{HOME}/.triton/cache",
        "vllm": f"{HOME}/.cache/vllm",
        "temporary": "/tmp",
        "torch-extensions": f"{HOME}/.cache/torch_extensions",
        "torchinductor": "/tmp/torchinductor_ada",
        "hf-hub": f"{HOME}/.cache/huggingface/hub",
    }
    assert {place.nearest for place in found.places} == {HOME, "/tmp"}
    assert found.spares == () and all(not place.blocked for place in found.places)


@pytest.mark.parametrize(
    ("name", "variable", "value", "path"),
    [
        ("flashinfer", "FLASHINFER_WORKSPACE_BASE", "/s", "/s/.cache/flashinfer/0.5.3"),
        ("flashinfer", "FLASHINFER_WORKSPACE_BASE", "~/s", "/here/~/s/.cache/flashinfer/0.5.3"),
        ("flashinfer", "FLASHINFER_CUDA_ARCH_LIST", "9.0a 8.9", f"{WORKSPACE}/89_90a"),
        ("triton", "TRITON_CACHE_DIR", "/s", "/s"),
        ("triton", "TRITON_HOME", "/s", "/s/.triton/cache"),
        ("vllm", "VLLM_CACHE_ROOT", "~/s", f"{HOME}/s"),
        ("vllm", "XDG_CACHE_HOME", "/s", "/s/vllm"),
        ("torch-extensions", "TORCH_EXTENSIONS_DIR", "/s", "/s"),
        ("torchinductor", "TORCHINDUCTOR_CACHE_DIR", "s", "/here/s"),
        ("torchinductor", "TMPDIR", "/nowhere", "/tmp/torchinductor_ada"),
        ("temporary", "TMPDIR", "/nowhere", "/nowhere"),
        ("temporary", "TMPDIR", "", "/tmp"),
        ("hf-hub", "HF_HOME", "/s", "/s/hub"),
        ("hf-hub", "HF_HUB_CACHE", "$HF_HOME/x", f"{HOME}/x"),
    ],
)
def test_a_variable_moves_it(name: str, variable: str, value: str, path: str) -> None:
    given = {variable: value, **({"HF_HOME": HOME} if value.startswith("$") else {})}
    found = place(seen({}, packages("triton", "vllm", "huggingface-hub"), **given), name)
    assert found.path == path
    assert variable != found.variable or found.source == (variable if value else "the default")


def test_a_workspace_that_all_versions_share_is_named_without_one() -> None:
    assert place(seen({}, packages(flashinfer="0.4.0")), "flashinfer").path == f"{HOME}/.cache/flashinfer"


def test_of_several_workspaces_one_that_can_be_written_counts() -> None:
    files = {f"{WORKSPACE}/86/": None, f"{WORKSPACE}/90a/": None}
    found = place(seen(files, forbidden=[f"{WORKSPACE}/86"]), "flashinfer")
    assert (found.path, found.blocked) == (f"{WORKSPACE}/90a", "")
    both = seen(files, forbidden=[f"{WORKSPACE}/86", f"{WORKSPACE}/90a"])
    assert place(both, "flashinfer").blocked == f"{WORKSPACE}/86"


def test_what_is_not_installed_has_no_place() -> None:
    assert seen({}, Packages(())).places == ()


@pytest.mark.parametrize(
    ("changes", "variables"),
    [
        ({"native": True}, {}),
        ({"build": "inline"}, {}),
        ({"missing": ("setuptools",)}, {}),
        ({"addons": (DlpackAddon("cpu", ADDON, exists=True),)}, {}),
        ({"addons": (DlpackAddon("cpu", ADDON, prebuilt="/v/x.so"),)}, {}),
        ({}, {"TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}),
    ],
)
def test_the_addons_cache_counts_only_where_it_will_be_built(
    changes: dict[str, Any], variables: dict[str, Any]
) -> None:
    from msgspec import structs

    found = seen({}, dlpack=structs.replace(NEEDS_ADDON, **changes), **variables)
    assert all(place.name != "tvm-ffi" for place in found.places)


# --- what is in the way -------------------------------------------------------------------------------------


def test_a_folder_of_somebody_else_is_told_with_its_owner() -> None:
    files = {f"{HOME}/.cache/flashinfer/": None}
    found = seen(files, forbidden=[f"{HOME}/.cache/flashinfer"], owners={f"{HOME}/.cache/flashinfer": 0})
    told = place(found, "flashinfer")
    assert (told.blocked, told.why, told.owner) == (f"{HOME}/.cache/flashinfer", "refused", 0)
    assert found.user == 1000
    assert [spare.path for spare in found.spares] == ["/v/var/cache", f"{HOME}/.cache/stack", "/tmp"]


def test_a_log_or_lock_folder_of_somebody_else_counts_as_well() -> None:
    for inner in ("flashinfer_jit.log", "cached_ops/tmp/"):
        path = f"{WORKSPACE}/86/{inner}"
        found = seen({path: None if path.endswith("/") else b""}, forbidden=[path.rstrip("/")])
        assert place(found, "flashinfer").blocked == path.rstrip("/")


def test_a_read_only_file_system_is_told() -> None:
    found = seen({}, spaces={HOME: Space(2, 1 << 40, read_only=True)})
    assert {place.why for place in found.places if place.path.startswith(HOME)} == {"read-only"}


@pytest.mark.parametrize(
    ("content", "why"), [(b"", "file"), (Link("/gone"), "dangling"), (Link(".cache"), "dangling")]
)
def test_what_is_no_folder_is_told(content: object, why: str) -> None:
    told = place(seen({f"{HOME}/.cache": content}), "flashinfer")
    assert (told.blocked, told.why) == (f"{HOME}/.cache", why)


def test_a_folder_behind_a_link_is_a_folder() -> None:
    found = seen(
        {f"{HOME}/.cache": Link("/big"), "/big/flashinfer/": None}, spaces={"/big": Space(7, 1 << 40)}
    )
    assert (place(found, "flashinfer").blocked, place(found, "flashinfer").device) == ("", 7)


def test_nobody_makes_the_folder_of_tmpdir() -> None:
    told = place(seen({}, TMPDIR="/tmp/not-there"), "temporary")
    assert (told.blocked, told.why) == ("/tmp/not-there", "missing")


def test_tvm_ffi_hangs_only_where_its_folder_is_there_and_its_lock_cannot_be_made() -> None:
    folder, lock = f"{HOME}/.cache/tvm-ffi", f"{ADDON}.lock"
    absent = seen({}, dlpack=NEEDS_ADDON, forbidden=[HOME])
    assert place(absent, "tvm-ffi").blocked == "", "it cannot be made, and tvm-ffi goes on without"
    assert (
        place(seen({f"{folder}/": None}, dlpack=NEEDS_ADDON, forbidden=[folder]), "tvm-ffi").blocked == folder
    )
    assert place(seen({lock: b""}, dlpack=NEEDS_ADDON, forbidden=[lock]), "tvm-ffi").blocked == lock
    assert place(seen({lock: b""}, dlpack=NEEDS_ADDON, forbidden=[folder]), "tvm-ffi").blocked == ""
    assert place(seen({lock: b""}, dlpack=NEEDS_ADDON), "tvm-ffi").blocked == ""


def test_without_the_superuser_s_rights_a_real_folder_is_closed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / ".cache/flashinfer").mkdir(parents=True)
    (home / ".cache/flashinfer").chmod(0o555)
    for parent in (home, *home.parents):
        parent.chmod(parent.stat().st_mode | 0o055)  # pytest lets nobody else in
        if parent.name.startswith("pytest-of-"):
            break
    found = unprivileged(lambda: look(RealHost({"LOGNAME": "ada"}), home=str(home)))
    told = place(found, "flashinfer")
    assert (told.blocked, told.why) == (f"{home}/.cache/flashinfer", "refused")
    assert told.owner == home.stat().st_uid and told.device == home.stat().st_dev
    assert place(found, "temporary").blocked == ""


def test_a_home_that_is_a_relative_path_is_one_from_the_current_folder() -> None:
    told = place(look(RealHost({"LOGNAME": "ada"}), packages("triton"), home="not/there"), "triton")
    assert (told.path, told.nearest) == ("/here/not/there/.triton/cache", "/")


# --- room and locks -----------------------------------------------------------------------------------------


class Counting(FakeHost):
    """A machine that notes on what a lock was tried, and which folders are listed."""

    def __init__(self, files: Mapping[str, object], **more: Any) -> None:
        super().__init__({**MACHINE, **STATUS, **files}, {"LOGNAME": "ada"}, **more)
        self.locks: list[str] = []
        self.listed: list[str] = []

    def lock_refused(self, path: str) -> str:
        self.locks.append(path)
        return super().lock_refused(path)

    def list(self, path: str) -> list[str]:
        self.listed.append(path)
        return super().list(path)


def test_a_lock_is_tried_once_a_file_system_and_on_a_file_where_there_is_one() -> None:
    files = {f"{WORKSPACE}/86/cached_ops/": None, f"{WORKSPACE}/86/flashinfer_jit.log": b""}
    host = Counting(files)
    look(host, packages("huggingface-hub"), dlpack=NEEDS_ADDON)
    assert host.locks == [f"{WORKSPACE}/86/flashinfer_jit.log"]
    strange: dict[str, object] = {f"{HOME}/a-lock-of-somebody": b"", "/tmp/.another": b""}
    elsewhere = Counting(strange, spaces={"/tmp": Space(2, 1 << 40)})
    look(elsewhere, packages("huggingface-hub"))
    assert elsewhere.locks == [HOME, "/tmp"] and HOME not in elsewhere.listed
    later = Counting({f"{HOME}/.cache/huggingface/hub/version.txt": b"1"})
    look(later, packages("huggingface-hub"))
    assert later.locks == [f"{HOME}/.cache", f"{HOME}/.cache/huggingface/hub/version.txt"]


def test_a_file_system_without_locks_is_told() -> None:
    found = seen({f"{HOME}/.cache/": None}, lockless={HOME: "ENOLCK"})
    assert place(found, "flashinfer").unlocked == "ENOLCK" and not found.soft_locks
    assert place(found, "torch-extensions").unlocked == ""


@pytest.mark.parametrize(("source", "soft"), [(b"def _fallback_to_soft_lock(", True), (b"raise", False)])
def test_whether_filelock_goes_on_without_is_read_off_it(source: bytes, soft: bool) -> None:
    files = {f"{SITE}/filelock/_unix.py": source}
    assert seen(files, packages("filelock"), lockless={HOME: "ENOSYS"}).soft_locks is soft
    assert not seen(files, packages("filelock"), lockless={HOME: "ENOLCK"}).soft_locks


def test_caches_are_measured_only_where_there_is_no_room() -> None:
    folders = (CacheFolder("triton", f"{HOME}/.triton/cache", ""), CacheFolder("vllm-compile", "/big/v", ""))
    files = {f"{HOME}/.triton/cache/A/x": b"12345", "/big/v/x": b"1"}
    spaces = {HOME: Space(1, 5 << 20), "/big": Space(2, 1 << 40)}
    found = seen(files, caches=Caches(folders=folders), spaces=spaces)
    assert [(size.name, size.size_bytes, size.complete) for size in found.sizes] == [("triton", 5, True)]
    assert seen(files, caches=Caches(folders=folders)).sizes == ()
    few = seen(files, caches=Caches(folders=folders), spaces={HOME: Space(3, 1 << 40, 20)})
    assert len(few.sizes) == 1


def test_a_machine_that_tells_nothing_is_passed_over() -> None:
    class Mute(FakeHost):
        def space(self, path: str) -> Space:
            raise OSError(errno.EIO, "I/O error", path)

        def owner(self, path: str) -> int:
            raise OSError(errno.EIO, "I/O error", path)

        def lock_refused(self, path: str) -> str:
            raise OSError(errno.EIO, "I/O error", path)

    found = look(Mute(MACHINE, {"LOGNAME": "ada"}, forbidden=[HOME]))
    assert place(found, "flashinfer").owner == -1 and found.user == -1
    assert {place.free_bytes for place in found.places} == {None}


def test_a_healthy_look_asks_little() -> None:
    asked: list[str] = []

    class Noting(FakeHost):
        def __getattribute__(self, name: str) -> Any:
            if not name.startswith("_"):
                asked.append(name)
            return super().__getattribute__(name)

    host = Noting({**MACHINE, f"{WORKSPACE}/86/": None}, {"LOGNAME": "ada"})
    del asked[:]
    look(host, packages("triton", "vllm", "huggingface-hub"))
    # FakeHost asks itself now and then; a real one is asked less.
    assert len(asked) < 120 and asked.count("list") <= 3 and "read" not in asked
