"""What the stack does where it cannot write, against what the checks say of it.

Most of it takes the real stack, as in test_flashinfer:

    CUDADOCTOR_STACK=/path/to/venv python -m pytest -m stack
"""

import http.server
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.real.conftest import _do_without
from tests.real.test_fix_on_prefixes import fixed, in_bash, snapshot, undone
from tests.real.test_flashinfer import BUILD, build, environ, stack, stub, toolkit

__all__ = ["environ", "stack", "stub", "toolkit"]
PATIENCE_S = 15.0
WAITS = "waits for ever"
NO_ADDON = {"TVM_FFI_DISABLE_TORCH_C_DLPACK": "1"}
INDUCTOR = "import torch; print(torch.compile(lambda x: (x.sin() + x.cos()).sum())(torch.ones(50)))"
LOCK = """
import flashinfer.jit as jit
with jit.core.FileLock(jit.activation.gen_act_and_mul_module("silu").lock_path): pass
"""


def plain() -> list[str]:
    """Return what takes the superuser's way past permissions from a command."""
    if os.geteuid() != 0:
        return []
    if not shutil.which("setpriv"):
        _do_without("setpriv is not on this machine, and this is the superuser")
    return ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]


def without_locks(error: str) -> list[str]:
    """Return what runs a command where no file system gives a lock."""
    if not shutil.which("strace"):
        _do_without("strace is not on PATH")
    return ["strace", "-f", "-o", "/dev/null", "-e", "trace=flock", "-e", f"inject=flock:error={error}"]


def findings(
    name: str, environ: dict[str, str], *more: str, before: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return what a check finds for the active environment."""
    import json

    command = [*before, sys.executable, "-m", "cudadoctor", "check", name, "--no-config", "--format", "json"]
    ran = subprocess.run([*command, *more], capture_output=True, text=True, env=environ, timeout=60)
    assert ran.stderr == "", ran.stderr
    (outcome,) = json.loads(ran.stdout)["outcomes"]
    assert outcome["outcome"] in ("passed", "failed"), outcome
    found: list[dict[str, Any]] = outcome.get("findings", [])
    return found


def python(stack: Path, code: str, environ: dict[str, str], before: Sequence[str] = ()) -> str:
    """Run code in the stack; return the last line of what it complains of, "" where it succeeds."""
    command = [*before, f"{stack}/bin/python", "-B", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PATIENCE_S * 8)
    return [*ran.stderr.splitlines(), "failed"][-2] if ran.returncode else ""


def whole(stack: Path, code: str, environ: dict[str, str], before: Sequence[str] = ()) -> str:
    """Run code that fails in the stack; return everything that it complains of."""
    command = [*before, f"{stack}/bin/python", "-B", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True, env=environ, timeout=PATIENCE_S * 8)
    assert ran.returncode != 0
    return ran.stderr


def hangs(stack: Path, code: str, environ: dict[str, str], before: Sequence[str] = ()) -> bool:
    """Return whether code goes on for longer than it has a reason to."""
    command = [*before, "timeout", "-s", "KILL", str(PATIENCE_S), f"{stack}/bin/python", "-B", "-c", code]
    return subprocess.run(command, capture_output=True, env=environ).returncode in (-9, 137)


@pytest.fixture
def closed(tmp_path: Path) -> Path:
    """Return a folder that may not be written to."""
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o555)
    return folder


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """Return an empty folder on which something can be mounted, and is taken off again."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    yield folder
    subprocess.run(["umount", str(folder)], capture_output=True)


def mount(folder: Path, *argv: str) -> None:
    if subprocess.run(["mount", *argv, str(folder)], capture_output=True).returncode:
        _do_without("nothing may be mounted here")


def fill(folder: Path) -> None:
    """Write until nothing goes in any more."""
    with open(folder / "full", "wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 512):
                pass
        except OSError:
            pass


# --- on a prefix --------------------------------------------------------------------------------------------


def test_a_file_in_the_place_of_the_caches_is_gone_round_and_undo_goes_back(
    pip_cu12: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cache").touch()
    before = snapshot(pip_cu12)
    done = fixed(pip_cu12, "cache-not-writable", HOME=str(home))
    assert done["cleared"] == ["cache-not-writable"]
    (told,) = in_bash(pip_cu12, 'echo "$FLASHINFER_WORKSPACE_BASE"', HOME=str(home))
    assert told == f"{pip_cu12}/var/cache/flashinfer"
    undone(pip_cu12, HOME=str(home))
    assert snapshot(pip_cu12) == before


# --- rights -------------------------------------------------------------------------------------------------


@pytest.mark.stack
def test_flashinfer_is_imported_where_the_check_says_so_and_nowhere_else(
    stack: Path, environ: dict[str, str], closed: Path
) -> None:
    shut = {**environ, **NO_ADDON, "FLASHINFER_WORKSPACE_BASE": str(closed)}
    assert "Permission denied" in python(stack, "import flashinfer", shut, plain())
    (finding,) = findings("cache-not-writable", shut, before=plain())
    assert finding["severity"] == "error" and "FlashInfer cannot be imported" in finding["summary"]
    open_again = {**shut, "FLASHINFER_WORKSPACE_BASE": str(closed.parent / "open")}
    assert python(stack, "import flashinfer", open_again, plain()) == ""
    assert findings("cache-not-writable", open_again, before=plain()) == []


@pytest.mark.stack
def test_tvm_ffi_waits_for_a_lock_that_it_cannot_make_where_the_check_says_so(
    stack: Path, environ: dict[str, str], closed: Path
) -> None:
    shut = {**environ, "TVM_FFI_CACHE_DIR": str(closed)}
    told = any(WAITS in each["summary"] for each in findings("cache-not-writable", shut, before=plain()))
    assert hangs(stack, "import tvm_ffi", shut, plain()) is told
    below = {**environ, "TVM_FFI_CACHE_DIR": f"{closed}/below"}
    assert findings("cache-not-writable", below, before=plain()) == []
    assert not hangs(stack, "import tvm_ffi", below, plain())


@pytest.mark.stack
@pytest.mark.parametrize(
    ("variable", "code"),
    [
        ("TRITON_CACHE_DIR", "from triton.runtime.cache import FileCacheManager as F; F('key')"),
        ("TORCHINDUCTOR_CACHE_DIR", INDUCTOR),
        ("TORCH_EXTENSIONS_DIR", "import torch.utils.cpp_extension as e; e._get_build_directory('x', 0)"),
    ],
)  # fmt: skip
def test_who_compiles_stops_where_the_check_says_so(
    variable: str, code: str, stack: Path, environ: dict[str, str], closed: Path
) -> None:
    shut = {**environ, "LOGNAME": "ada", variable: str(closed)}
    assert "Permission denied" in whole(stack, code, shut, plain())
    (finding,) = findings("cache-not-writable", shut, before=plain())
    assert finding["severity"] == "warning" and variable in str(finding["remedies"][0]["values"])
    assert python(stack, code, {**shut, variable: str(closed.parent / "open")}, plain()) == ""


def test_nvcc_and_no_other_compiler_stops_at_a_tmpdir_that_is_not_there(
    toolkit: Path, pip_cu12: Path, tmp_path: Path
) -> None:
    source = tmp_path / "a.cu"
    source.write_text("int main() { return 0; }\n")
    variables = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TMPDIR": f"{tmp_path}/nowhere"}
    nvcc = subprocess.run(
        [f"{toolkit}/bin/nvcc", "-c", str(source), "-o", f"{tmp_path}/a.o"],
        capture_output=True, text=True, env=variables,
    )  # fmt: skip
    assert "Could not open output file" in nvcc.stderr
    (finding,) = findings("cache-not-writable", variables, "--prefix", str(pip_cu12))
    assert finding["summary"].startswith("nvcc compiles nothing") and finding["severity"] == "error"


# --- locks --------------------------------------------------------------------------------------------------


@pytest.mark.stack
@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_without_locks_flashinfer_stops_where_the_check_says_so(
    error: str, stack: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    ready = {**environ, **NO_ADDON}
    said = python(stack, LOCK, ready, without_locks(error))
    told = findings("cache-without-locks", ready, before=without_locks(error))
    assert bool(said) is any("FlashInfer" in each["summary"] for each in told), said
    assert findings("cache-without-locks", ready) == []


@pytest.mark.stack
def test_without_locks_tvm_ffi_waits_where_the_check_says_so(
    stack: Path, environ: dict[str, str], tmp_path: Path
) -> None:
    empty = {**environ, "TVM_FFI_CACHE_DIR": f"{tmp_path}/tvm"}
    told = findings("cache-without-locks", empty, before=without_locks("ENOLCK"))
    waits = any(WAITS in each["summary"] for each in told)
    assert hangs(stack, "import tvm_ffi", empty, without_locks("ENOLCK")) is waits


# --- room ---------------------------------------------------------------------------------------------------


@pytest.mark.stack
def test_on_a_full_disk_flashinfer_is_not_imported(
    stack: Path, environ: dict[str, str], mounted: Path, tmp_path: Path
) -> None:
    if not shutil.which("mkfs.ext4"):
        _do_without("mkfs.ext4 is not on PATH")
    with open(tmp_path / "disk", "wb") as disk:
        disk.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", str(tmp_path / "disk")], check=True)
    mount(mounted, "-o", "loop", str(tmp_path / "disk"))
    fill(mounted)
    full = {**environ, **NO_ADDON, "FLASHINFER_WORKSPACE_BASE": str(mounted)}
    assert "No space left on device" in python(stack, "import flashinfer", full)
    (finding,) = findings("cache-disk-full", full)
    assert finding["severity"] == "error" and "KiB free" in finding["summary"]
    assert "FLASHINFER_WORKSPACE_BASE" in finding["remedies"][0]["values"]
    moved = {**full, "FLASHINFER_WORKSPACE_BASE": f"{tmp_path}/elsewhere"}
    assert python(stack, "import flashinfer", moved) == ""


def test_a_disk_without_room_for_one_more_file_is_told(pip_cu12: Path, mounted: Path) -> None:
    mount(mounted, "-t", "tmpfs", "-o", "size=64m,nr_inodes=30", "none")
    environ = {"PATH": "/usr/bin:/bin", "HOME": os.environ["HOME"], "TRITON_CACHE_DIR": str(mounted)}
    environ["FLASHINFER_WORKSPACE_BASE"] = str(mounted)
    (finding,) = findings("cache-disk-full", environ, "--prefix", str(pip_cu12))
    assert finding["severity"] == "warning" and "more files" in finding["summary"]


@pytest.mark.stack
def test_nothing_is_loaded_from_a_file_system_without_programs(
    stack: Path, environ: dict[str, str], mounted: Path
) -> None:
    mount(mounted, "-t", "tmpfs", "-o", "noexec", "none")
    sealed = {**environ, "LOGNAME": "ada", "TORCHINDUCTOR_CACHE_DIR": str(mounted)}
    (finding,) = findings("cache-not-executable", sealed)
    assert "torch.compile" in finding["summary"] and finding["severity"] == "warning"
    assert "failed to map segment" in whole(stack, INDUCTOR, sealed)


# --- operators of another CUDA ------------------------------------------------------------------------------


@pytest.mark.stack
def test_an_operator_whose_toolkit_was_removed_is_moved_aside_where_ninja_fails_on_it(
    stack: Path, environ: dict[str, str], toolkit: Path, stub: Path, tmp_path: Path
) -> None:
    # nvcc names the headers by its own folder, so that a link alone would leave them in reach.
    old = tmp_path / "old"
    subprocess.run(["cp", "-aL", str(toolkit), str(old)], check=True)
    first = {**environ, **NO_ADDON, "LIBRARY_PATH": str(stub), "CUDA_HOME": str(old)}
    assert build("silu", stack, first) == ""
    assert findings("flashinfer-cache-of-another-cuda", first) == []
    shutil.rmtree(old)
    now = {**first, "CUDA_HOME": str(toolkit)}
    found = findings("flashinfer-cache-of-another-cuda", now)
    said = build("silu", stack, now)
    assert bool(said) is bool(found), said
    if found:
        assert f"{old}/bin/nvcc: not found" in said
        subprocess.run(["sh", "-c", found[0]["remedies"][0]["summary"]], check=True)
        assert findings("flashinfer-cache-of-another-cuda", now) == []
        assert build("silu", stack, now) == ""


@pytest.mark.stack
def test_an_operator_that_needs_another_cudart_does_not_load_until_it_is_moved_aside(
    stack: Path, environ: dict[str, str], toolkit: Path, stub: Path
) -> None:
    ready = {**environ, **NO_ADDON, "LIBRARY_PATH": str(stub), "CUDA_HOME": str(toolkit)}
    assert build("silu", stack, ready) == ""
    load = BUILD.replace("spec.build(verbose=False)", "spec.build_and_load()")
    load = load.replace("sys.argv[1]", "'silu'")
    assert python(stack, load, ready) == ""
    (library,) = Path(environ["FLASHINFER_WORKSPACE_BASE"]).glob(
        ".cache/flashinfer/*/*/cached_ops/silu*/*.so"
    )
    at = library.stat()
    library.write_bytes(library.read_bytes().replace(b"libcudart.so.13", b"libcudart.so.11"))
    os.utime(library, ns=(at.st_atime_ns, at.st_mtime_ns))
    (finding,) = findings("flashinfer-cache-of-another-cuda", ready)
    assert "libcudart.so.11 is not found" in finding["summary"]
    assert "libcudart.so.11: cannot open shared object file" in python(stack, load, ready)
    subprocess.run(["sh", "-c", finding["remedies"][0]["summary"]], check=True)
    assert python(stack, load, ready) == ""


# --- models -------------------------------------------------------------------------------------------------

DOWNLOAD = "from huggingface_hub import hf_hub_download as d; print(d('org/m', 'model.safetensors'))"
BODY = b"x" * (256 << 10)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as one file takes; `stalls` keeps the second half of it back."""

    stalls = threading.Event()

    def do_HEAD(self) -> None:
        self.send_response(200)
        headers = {"ETag": '"abc123"', "X-Repo-Commit": "a" * 40, "Content-Length": str(len(BODY))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(BODY[: len(BODY) // 2])
        if Hub.stalls.is_set():
            time.sleep(PATIENCE_S)
        else:
            self.wfile.write(BODY[len(BODY) // 2 :])

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def models(stack: Path, environ: dict[str, str], tmp_path: Path) -> Iterator[dict[str, str]]:
    """Return variables under which models come from a Hub of our own into an empty cache."""
    if not list(stack.glob("lib/python3.*/site-packages/huggingface_hub")):
        pytest.skip("huggingface_hub is not in this stack")
    Hub.stalls.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield {
        **environ,
        "HF_HUB_CACHE": f"{tmp_path}/hub",
        "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
        "NO_PROXY": "127.0.0.1",
    }
    server.shutdown()


@pytest.mark.stack
def test_a_download_that_is_killed_is_told_and_one_that_runs_is_not(
    stack: Path, models: dict[str, str]
) -> None:
    Hub.stalls.set()
    process = subprocess.Popen(
        [f"{stack}/bin/python", "-B", "-c", DOWNLOAD], env=models, stderr=subprocess.DEVNULL
    )
    try:
        blobs, until = Path(models["HF_HUB_CACHE"], "models--org--m/blobs"), time.monotonic() + PATIENCE_S
        while not list(blobs.glob("*.incomplete")) and time.monotonic() < until:
            time.sleep(0.1)
        assert list(blobs.glob("*.incomplete")) and findings("model-download-incomplete", models) == []
    finally:
        process.kill()
        process.wait()
    (finding,) = findings("model-download-incomplete", models)
    assert finding["severity"] == "note" and "org/m" in finding["summary"]
    Hub.stalls.clear()
    (blobs / "abc123.incomplete").unlink()  # this Hub of ours cannot resume
    assert python(stack, DOWNLOAD, models) == ""
    assert findings("model-download-incomplete", models) == []


@pytest.mark.stack
def test_a_blob_that_is_gone_stops_whoever_is_off_the_network(stack: Path, models: dict[str, str]) -> None:
    assert python(stack, DOWNLOAD, models) == ""
    offline = {**models, "HF_HUB_OFFLINE": "1"}
    assert python(stack, DOWNLOAD, offline) == "" and findings("model-download-incomplete", offline) == []
    Path(models["HF_HUB_CACHE"], "models--org--m/blobs/abc123").unlink()
    assert "LocalEntryNotFound" in python(stack, DOWNLOAD, offline) or "outgoing traffic" in python(
        stack, DOWNLOAD, offline
    )
    (finding,) = findings("model-download-incomplete", offline)
    assert finding["severity"] == "warning"


@pytest.mark.stack
def test_a_cache_of_models_that_others_keep_is_read_and_only_noted(
    stack: Path, models: dict[str, str]
) -> None:
    assert python(stack, DOWNLOAD, models) == ""
    subprocess.run(["chmod", "-R", "a-w", models["HF_HUB_CACHE"]], check=True)
    try:
        assert python(stack, DOWNLOAD, models, plain()) == ""
        (finding,) = findings("cache-not-writable", models, before=plain())
        assert finding["severity"] == "note" and finding["remedies"] == []
    finally:
        subprocess.run(["chmod", "-R", "u+w", models["HF_HUB_CACHE"]], check=True)
