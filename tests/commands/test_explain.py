"""`cudadoctor explain` as its user meets it: real processes, logs of every kind, output and exit codes."""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from .test_check import patient, run

__all__ = ["patient"]

LOG = """\
(EngineCore pid=12) INFO 06-09 02:10:10 [core.py:77] Initializing a V1 LLM engine
(EngineCore pid=12) WARNING 06-09 02:10:11 [flashinfer_all_reduce.py:74] c++ a.o -shared -lcudart -o a.so
(EngineCore pid=12) WARNING 06-09 02:10:11 [flashinfer_all_reduce.py:74] /usr/bin/ld: cannot find -lcudart
(EngineCore pid=12) WARNING 06-09 02:10:11 [flashinfer_all_reduce.py:74] ninja: build stopped: x
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "serve.log"
    path.write_text(LOG)
    return path


def test_a_cause_is_named_with_its_line_and_exits_1(log: Path, patient: Path) -> None:
    ran = run("explain", str(log), "--prefix", str(patient), "--no-config")
    assert ran.returncode == 1 and ran.stderr == ""
    first = ran.stdout.splitlines()[0]
    assert first.startswith(f"{log}:3 ") and first.endswith("/usr/bin/ld: cannot find -lcudart")
    assert "cudart-link-missing" in ran.stdout
    assert "build" in ran.stdout.rpartition("consequences")[2]


def test_a_machine_on_which_it_is_so_confirms_it(log: Path, patient: Path) -> None:
    ran = run(
        "explain", str(log), "--prefix", str(patient), "--no-config", environ={"CUDA_HOME": str(patient)}
    )
    assert "here      confirmed:" in ran.stdout, ran.stdout
    assert "seen" in ran.stdout


def test_the_facts_of_a_report_can_be_asked_instead(log: Path, patient: Path, tmp_path: Path) -> None:
    here = run(
        "check", "--prefix", str(patient), "--no-config", "--format", "json", environ={"CUDA_HOME": "/none"}
    )
    (tmp_path / "report.json").write_text(here.stdout)
    told = json.loads(
        run("explain", str(log), "--facts", str(tmp_path / "report.json"), "--format", "json").stdout
    )
    assert told["root"]["cause"] == "linker-cudart-missing"
    assert told["root"]["line"] == 3
    assert told["root"]["here"]["verdict"] in ("confirmed", "contradicted", "unknown")


def test_without_a_machine_the_log_alone_is_read(log: Path) -> None:
    told = json.loads(run("explain", str(log), "--no-check", "--format", "json").stdout)
    assert told["root"]["here"] is None
    assert [each["signature"] for each in told["consequences"]]


def test_a_log_without_a_known_cause_exits_0_and_tells_the_last_error() -> None:
    ran = run("explain", "-", "--no-check", stdin="fine\nKeyError: 'x'\n")
    assert ran.returncode == 0
    assert "no cause" in ran.stdout and "KeyError: 'x'" in ran.stdout


def test_another_environment_in_the_log_is_said(log: Path, patient: Path) -> None:
    path = "/opt/conda/envs/serve/lib/python3.12/site-packages/flashinfer/jit/core.py"
    log.write_text(LOG.replace("c++ a.o", f"c++ {path}"))
    ran = run("explain", str(log), "--prefix", str(patient), "--no-config")
    assert "the log is of /opt/conda/envs/serve, looked at was" in ran.stdout


def test_logs_that_cannot_be_read_get_one_line_and_exit_2(tmp_path: Path) -> None:
    packed = tmp_path / "serve.log.gz"
    packed.write_bytes(gzip.compress(LOG.encode()))
    for name, said in (
        (str(tmp_path / "none.log"), "No such file"),
        (str(tmp_path), "folder"),
        (str(packed), "zcat"),
        (sys.executable, "program"),
    ):
        ran = run("explain", name, "--no-check")
        assert ran.returncode == 2 and not ran.stdout
        assert said in ran.stderr and ran.stderr.count("\n") == 1


@pytest.mark.parametrize("encoding", ("utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"))
def test_a_log_of_powershell_is_read(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "serve.log"
    path.write_bytes(LOG.encode(encoding))
    told = json.loads(run("explain", str(path), "--no-check", "--format", "json").stdout)
    assert (told["root"]["line"], told["lines"]) == (3, 4)


def test_terminal_escapes_and_markup_in_a_log_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    path.write_text("\x1b]0;owned\x07 [red]x[/red] ld: cannot find -lcudart \x1b[2J \u202e\x07 <script>\n")
    ran = run("explain", str(path), "--no-check", environ={"FORCE_COLOR": "1"})
    assert "\x1b]0" not in ran.stdout and "\x1b[2J" not in ran.stdout and "\u202e" not in ran.stdout
    assert "<script>" in ran.stdout and "[red]" in ran.stdout


def test_a_growing_file_is_read_to_where_it_ended(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    path.write_text(LOG)
    stop = threading.Event()

    def grow() -> None:
        with path.open("a") as stream:
            while not stop.is_set():
                stream.write("one more line\n" * 1000)
                time.sleep(0.001)

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        ran = run("explain", str(path), "--no-check")
    finally:
        stop.set()
        writer.join()
    assert ran.returncode == 1


def test_a_closed_pipe_is_no_traceback(log: Path) -> None:
    with log.open("a") as stream:
        stream.write(LOG * 200)
    command = f"{sys.executable} -m cudadoctor explain {log} --no-check --format json | true"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert ran.stderr == ""


def test_a_closed_input_is_the_users_mistake() -> None:
    command = f"{sys.executable} -m cudadoctor explain - --no-check <&-"
    ran = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1


def test_a_large_log_is_read_in_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "serve.log"
    with path.open("w") as stream:
        for _ in range(300):
            stream.write("(APIServer pid=1) INFO 09-28 15:50:24 [loggers.py:123] Engine 000: idle\n" * 1500)
        stream.write("x" * 40_000_000 + "\n" + LOG)
    command = [sys.executable, "-m", "cudadoctor", "explain", str(path), "--no-check"]
    # What a process starts out as counts for it too: a small one has to start it.
    measure = (
        "import os, subprocess, sys; child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL);"
        "print(os.wait4(child.pid, 0)[2].ru_maxrss)"
    )
    ran = subprocess.run([sys.executable, "-c", measure, *command], capture_output=True, text=True)
    assert int(ran.stdout) < 80 * 1024


def test_neither_rich_nor_a_probe_is_loaded_for_the_log_alone(log: Path) -> None:
    code = (
        "import sys; from cudadoctor.cli import main;"
        "main(['explain', sys.argv[1], '--no-check', '--format', 'json']);"
        "print([m for m in ('rich', 'yaml', 'cudadoctor.probes.driver') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(log)], capture_output=True, text=True)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_the_environment_of_a_saved_report_is_told_apart_but_for_its_user(log: Path, patient: Path) -> None:
    saved = json.loads(run("check", "--prefix", str(patient), "--no-config", "--format", "json").stdout)
    text = json.dumps(saved).replace(str(patient), "/home/user/envs/vllm")
    for prefix, said in (("/home/ada/envs/vllm", False), ("/home/ada/envs/other", True)):
        log.write_text(LOG.replace("c++ a.o", f"c++ {prefix}/lib/python3.11/site-packages/torch/x.py"))
        ran = run("explain", str(log), "--facts", "-", stdin=text)
        assert ("the log is of" in ran.stdout) is said, ran.stdout
        assert "--prefix" not in ran.stdout


def test_what_follows_from_a_cause_is_listed_and_the_cause_itself_is_not() -> None:
    log = "OSError: [Errno 28] No space left on device\ndd: error writing 'x': No space left on device\n"
    assert "consequences" not in run("explain", "-", "--no-check", stdin=log).stdout
    with_ninja = run("explain", "-", "--no-check", stdin=f"{log}ninja: build stopped: x\n").stdout
    assert "consequences): a build stopped" in with_ninja


def test_help_asks_for_the_start_of_a_log_that_holds_consequences_alone() -> None:
    only = run("explain", "-", "--no-check", stdin="collect2: error: ld returned 1 exit status\n").stdout
    assert "give the log from its start" in only
    log = "ld: cannot find -lfoo\ncollect2: error: ld returned 1 exit status\n"
    whole = run("explain", "-", "--no-check", stdin=log).stdout
    assert "from its start" not in whole and "ld: cannot find -lfoo" in whole


def test_a_launch_may_follow_options_in_any_order(log: Path, patient: Path) -> None:
    options = ("--prefix", str(patient), "--no-config")
    launch = ("--", "vllm", "serve", "m", "--port", "8000")
    first, last = run("explain", *options, str(log), *launch), run("explain", str(log), *options, *launch)
    assert first.stdout == last.stdout and last.returncode == 1
    assert first.stderr == last.stderr == ""


def test_a_port_that_is_taken_is_confirmed_by_the_launch_and_not_contradicted_without(
    tmp_path: Path, patient: Path
) -> None:
    path = tmp_path / "serve.log"
    path.write_text("OSError: [Errno 98] Address already in use\n")
    options = ("--prefix", str(patient), "--no-config")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        launch = ("--", "vllm", "serve", "m", "--host", "127.0.0.1", "--port", port)
        assert "here      confirmed:" in run("explain", str(path), *options, *launch).stdout
    assert "here      unknown:" in run("explain", str(path), *options, *launch).stdout
    without = run("explain", str(path), *options).stdout
    assert "unknown: launch: no launch was given (give its command after --)" in without


@pytest.mark.parametrize("argv", (("preflight",), ("explain", "LOG"), ("report",)))
def test_a_saved_report_and_a_launch_do_not_go_together(log: Path, argv: tuple[str, ...]) -> None:
    words = [str(log) if word == "LOG" else word for word in argv]
    ran = run(*words, "--facts", str(log), "--", "vllm", "serve", "m")
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1
    assert "launch" in ran.stderr


def test_the_log_and_the_report_cannot_both_come_from_stdin() -> None:
    ran = run("explain", "-", "--facts", "-", stdin="{}")
    assert ran.returncode == 2 and "only one" in ran.stderr
