"""`cudadoctor run`: real processes show that the command gets this one and all that belonged to it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.launch.read import SITE, VLLM

from .test_fix import apply, conda, library, variables

__all__ = ["conda", "library"]
ME = (sys.executable, "-m", "cudadoctor", "run", "--no-config")


def environ_of(root: Path, **more: str) -> dict[str, str]:
    """Return the variables of a launch: few, so that what is added shows."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(root.parent), **variables(root), **more}


def launch(
    root: Path, *argv: str, options: tuple[str, ...] = (), **more: str
) -> subprocess.CompletedProcess[str]:
    """Run a command behind the doctor."""
    command = [*ME, "--prefix", str(root), *options, "--", *argv]
    return subprocess.run(
        command, capture_output=True, text=True, input="from stdin", env=environ_of(root, **more), timeout=120
    )


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """Return an environment in which nothing is wrong: a venv with nothing in it."""
    root = tmp_path / "env"
    (root / "bin").mkdir(parents=True)
    (root / "lib/python3.11/site-packages").mkdir(parents=True)
    (root / "bin/python3").write_text("#!/bin/sh\n")
    (root / "bin/python3").chmod(0o755)
    (root / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.7\n")
    return root


@pytest.fixture
def blocked(conda: Path, tmp_path: Path) -> Path:
    """Return an environment whose link findings LIBRARY_PATH alone clears."""
    (conda / "lib64").symlink_to(tmp_path)
    return conda


ONLY = ("--ignore", "cuda-headers-missing", "--ignore", "ninja-missing", "--ignore", "nvcc-missing")


def test_the_command_is_this_process(healthy: Path) -> None:
    argv = [*ME, "--prefix", str(healthy), "--", "sh", "-c", "echo $$"]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=environ_of(healthy))
    shown = process.communicate(timeout=120)[0]
    assert int(shown) == process.pid


@pytest.mark.parametrize("code", [0, 1, 2, 3, 42, 255])
def test_its_exit_code_is_ours(healthy: Path, code: int) -> None:
    ran = launch(healthy, "sh", "-c", f"exit {code}")
    assert (ran.returncode, ran.stdout, ran.stderr) == (code, "", "")


def test_stdin_and_stdout_are_its_own(healthy: Path) -> None:
    ran = launch(healthy, "cat")
    assert (ran.stdout, ran.stderr) == ("from stdin", "")


def _heed_interrupts() -> None:
    """Undo what a shell does to its background jobs, which inherit an ignored SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGPIPE", "SIGKILL"])
def test_signals_reach_it_and_end_it_as_they_do_alone(healthy: Path, name: str) -> None:
    number = getattr(signal, name)
    argv = [*ME, "--prefix", str(healthy), "--", "sh", "-c", "echo ready; exec sleep 60"]
    process = subprocess.Popen(
        argv, stdout=subprocess.PIPE, text=True, env=environ_of(healthy), preexec_fn=_heed_interrupts
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.wait(20) == -number


def test_no_signal_is_ignored_or_blocked_that_was_not(healthy: Path) -> None:
    def state(text: str) -> dict[str, str]:
        lines = (line.split(":\t") for line in text.splitlines())
        return {name: value for name, value in lines if name in ("SigBlk", "SigIgn", "SigCgt")}

    alone = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    assert state(launch(healthy, "cat", "/proc/self/status").stdout) == state(alone)


def test_a_terminal_stays_its_terminal(healthy: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(
            sys.executable,
            [*ME, "--prefix", str(healthy), "--", "sh", "-c", "tty; test -t 0"],
            environ_of(healthy),
        )
    shown, deadline = b"", time.monotonic() + 60
    while time.monotonic() < deadline and select.select([terminal], [], [], 60)[0]:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        shown += chunk
    _, status = os.waitpid(pid, 0)
    assert shown.decode().startswith("/dev/pts/") and os.waitstatus_to_exitcode(status) == 0


SHOW = ("cat", "/proc/self/environ")


@pytest.mark.parametrize("locale", [{}, {"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LANG": "C"}])
def test_the_variables_are_those_it_was_given(healthy: Path, locale: dict[str, str]) -> None:
    given = environ_of(healthy) | locale | {"ODD": "a\nb=c", "EMPTY": ""}
    raw = {os.fsencode(name): os.fsencode(value) for name, value in given.items()} | {b"BYTES": b"\xff\xfe="}
    argv = [*ME, "--prefix", str(healthy), "--", *SHOW]
    ran = subprocess.run(argv, capture_output=True, env=raw, timeout=120)
    assert ran.stdout == b"".join(b"%s=%s\0" % pair for pair in raw.items())


def test_only_the_exports_are_added(blocked: Path) -> None:
    ran = launch(blocked, *SHOW, options=ONLY)
    assert ran.returncode == 0, ran.stderr
    after = dict(entry.split("=", 1) for entry in ran.stdout.split("\0") if entry)
    added = {name: value for name, value in after.items() if environ_of(blocked).get(name) != value}
    shown = subprocess.run(
        [*ME[:3], "env", "--no-config", "--prefix", str(blocked), "--shell", "json", *ONLY],
        capture_output=True, text=True, env=environ_of(blocked),
    )  # fmt: skip
    assert added == json.loads(shown.stdout) and set(added) == {"LIBRARY_PATH"}
    assert f"cudadoctor: export LIBRARY_PATH={added['LIBRARY_PATH']}\n" in ran.stderr


def test_what_activation_exports_is_set_without_activation(blocked: Path) -> None:
    apply(blocked)
    ran = launch(blocked, "printenv", "LIBRARY_PATH", options=ONLY)
    assert ran.stdout.strip().split(":") == [f"{blocked}/lib", f"{blocked}/lib/stubs"]


# --- what stops it ------------------------------------------------------------------------------------------


def test_findings_that_stay_stop_the_launch(conda: Path) -> None:
    ran = launch(conda, "echo", "started", options=("--no-env",))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "cudart-link-missing" in ran.stderr and "not started: echo started" in ran.stderr


def test_fail_on_never_starts_all_the_same(conda: Path) -> None:
    ran = launch(conda, "echo", "started", options=("--no-env", "--fail-on", "never"))
    assert (ran.returncode, ran.stdout) == (0, "started\n") and "cudart-link-missing" in ran.stderr


def test_a_dry_run_says_what_would_happen(blocked: Path) -> None:
    ran = launch(blocked, "echo", "it's", options=("--dry-run", *ONLY))
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "export LIBRARY_PATH=" in ran.stderr and "would start: echo 'it'\"'\"'s'" in ran.stderr


@pytest.mark.parametrize("argv", [(), ("--dry-run",)])
def test_without_a_command_it_is_wrong_usage(healthy: Path, argv: tuple[str, ...]) -> None:
    ran = subprocess.run([*ME, *argv], capture_output=True, text=True, env=environ_of(healthy))
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)


def test_a_command_that_is_not_there_is_told_as_shells_do(healthy: Path, tmp_path: Path) -> None:
    ran = launch(healthy, "no-such-command")
    assert (ran.returncode, ran.stderr) == (127, "cudadoctor: no-such-command: command not found\n")
    (tmp_path / "data").write_text("x")
    ran = launch(healthy, str(tmp_path / "data"))
    assert (ran.returncode, ran.stderr) == (126, f"cudadoctor: {tmp_path}/data: Permission denied\n")


def test_a_script_without_a_first_line_is_run_by_sh(healthy: Path, tmp_path: Path) -> None:
    (tmp_path / "script").write_text('echo "$0 $1"\n')
    (tmp_path / "script").chmod(0o755)
    assert launch(healthy, str(tmp_path / "script"), "x").stdout == f"{tmp_path}/script x\n"
    assert launch(healthy, "script", "x", PATH=f"{tmp_path}:/bin").stdout == f"{tmp_path}/script x\n"


CRASH = """\
import sys
import cudadoctor.commands.doctor as doctor
def broken(*_): raise RuntimeError("a bug")
doctor.facts_for = broken
sys.argv = ["cudadoctor", "run", "--no-config", *sys.argv[1:]]
from cudadoctor.cli import entry
entry()
"""


@pytest.mark.parametrize(("options", "code", "out"), [((), 0, "started\n"), (("--strict",), 3, "")])
def test_a_doctor_that_crashes_stops_no_launch_unless_it_shall(
    healthy: Path, options: tuple[str, ...], code: int, out: str
) -> None:
    argv = [sys.executable, "-c", CRASH, "--prefix", str(healthy), *options, "--", "echo", "started"]
    ran = subprocess.run(argv, capture_output=True, text=True, env=environ_of(healthy))
    assert (ran.returncode, ran.stdout) == (code, out)
    assert "a bug" in ran.stderr and ran.stderr.count("\n") == 1


def test_a_target_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*ME, "--prefix", str(tmp_path / "none"), "--", "true"], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)


# --- the launch itself --------------------------------------------------------------------------------------


@pytest.fixture
def vllm(healthy: Path) -> str:
    """Return a `vllm` that only says that it was started, beside the source that its options are read off."""
    site = healthy / "lib/python3.11/site-packages"
    for path, text in {
        **VLLM,
        f"{SITE}/vllm-0.12.0.dist-info/METADATA": "Name: vllm\nVersion: 0.12.0\n",
    }.items():
        file = site / path.removeprefix(f"{SITE}/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    program = healthy / "bin/vllm"
    program.write_text("#!/bin/sh\necho started\n")
    program.chmod(0o755)
    return str(program)


def test_a_launch_that_will_stop_is_not_started(healthy: Path, vllm: str) -> None:
    command = (vllm, "serve", "m", "--use-v2-block-manager")
    ran = launch(healthy, *command)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "this vLLM has no option --use-v2-block-manager" in ran.stderr and "not started" in ran.stderr
    assert launch(healthy, *command, options=("--ignore", "option-unknown")).stdout == "started\n"


def test_what_cannot_be_told_stops_it_only_where_it_shall(healthy: Path, vllm: str) -> None:
    command = (vllm, "serve", "an-org/a-model")
    assert launch(healthy, *command).stdout == "started\n"
    ran = launch(healthy, *command, options=("--strict",))
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "kv-cache-does-not-fit: cannot tell: " in ran.stderr and "not started" in ran.stderr


def test_a_file_that_the_command_names_and_nobody_can_read_stops_nothing(healthy: Path) -> None:
    alone = subprocess.run(["sh", "/no/such/script"], capture_output=True, text=True)
    ran = launch(healthy, "sh", "/no/such/script")
    assert (ran.returncode, ran.stderr) == (alone.returncode, alone.stderr)


@pytest.mark.parametrize("options", [("--dry-run",), ("--dry-run", "--strict"), ()])
def test_no_key_of_the_command_is_said(healthy: Path, vllm: str, options: tuple[str, ...]) -> None:
    secrets = ("--api-key", "canary-1", "--use-v2-block-manager", "--hf-overrides", '{"token": "canary-2"}')
    ran = launch(healthy, "env", "HF_TOKEN=canary-3", vllm, "serve", "an-org/m", *secrets, options=options)
    assert "an-org/m" in ran.stderr and "canary" not in ran.stderr, ran.stderr
    ignored = ("--ignore", "option-unknown", *options)
    ran = launch(healthy, vllm, "serve", "an-org/m", *secrets, options=ignored)
    assert "canary" not in ran.stderr, ran.stderr
