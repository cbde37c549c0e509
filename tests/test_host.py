"""The door to the machine: it never blocks, raises nothing else, outlives no time; and its twin in memory."""

import fcntl
import os
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import distro
import psutil
import pytest

from cudadoctor.host import Host, NotRegular, Ran, RealHost, Space, TooLarge, _gather, which
from cudadoctor.testing import FakeHost, Link, Special

PATIENCE_S = 5.0


@pytest.fixture
def quick() -> Iterator[None]:
    """Fail where the test takes longer than anything here has a reason to."""
    started = time.monotonic()
    yield
    assert time.monotonic() - started < PATIENCE_S


# --- reading ------------------------------------------------------------------------------------------------


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 200_001)
    assert RealHost().read(f"{tmp_path}/file") == b"x" * 200_001
    assert RealHost().head(f"{tmp_path}/file", 3) == b"xxx"
    assert RealHost().size(f"{tmp_path}/file") == 200_001


def test_a_file_of_exactly_the_limit_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 100)
    assert len(RealHost().read(f"{tmp_path}/file", 100)) == 100
    with pytest.raises(TooLarge):
        RealHost().read(f"{tmp_path}/file", 99)


def test_a_sparse_giant_is_refused_without_being_read(tmp_path: Path, quick: None) -> None:
    with open(tmp_path / "giant", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(TooLarge):
        RealHost().read(f"{tmp_path}/giant")


@pytest.mark.parametrize("name", ["fifo", "folder", "socket", "device", "to-fifo"])
def test_what_is_no_regular_file_is_never_opened(name: str, tmp_path: Path, quick: None) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "device").symlink_to("/dev/zero")
    (tmp_path / "to-fifo").symlink_to("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tmp_path / "socket"))
        for method in (RealHost().read, RealHost().size, lambda path: RealHost().head(path, 10)):
            with pytest.raises(NotRegular):
                method(f"{tmp_path}/{name}")


@pytest.mark.parametrize("path", ["/tmp/a\0b", "/tmp/\ud800", "", "a\0", "x" * 300, "/" + "x/" * 3000])
def test_a_text_that_is_no_path_is_an_oserror_everywhere(path: str) -> None:
    host = RealHost()
    for method in (host.read, host.size, host.list, host.readlink):
        with pytest.raises(OSError):
            method(path)
    assert host.kind(path) == host.kind(path, follow=False) == ""
    assert not host.executable(path)
    assert isinstance(host.realpath(path), str)


def test_the_current_folder_may_be_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    (tmp_path / "here").rmdir()
    assert RealHost().cwd() == ""
    assert RealHost().kind("anything") == ""


def test_names_that_are_no_utf_8_come_back_as_they_went(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"))).write_bytes(b"1")
    (name,) = RealHost().list(str(tmp_path))
    assert RealHost().read(f"{tmp_path}/{name}") == b"1"


# --- limits -------------------------------------------------------------------------------------------------


def test_the_memory_is_what_psutil_says() -> None:
    memory, theirs = RealHost().memory(), psutil.virtual_memory()
    assert memory.total_bytes == theirs.total
    assert abs(memory.available_bytes - theirs.available) < 1 << 30


def test_the_release_is_what_distro_says() -> None:
    assert RealHost().release() == distro.name(pretty=True)


def test_memory_and_release_import_nothing_heavy() -> None:
    code = "import sys; from cudadoctor.host import RealHost as H; H().memory(), H().release();"
    code += "print([m for m in ('psutil', 'distro') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if not os.path.exists("/etc/os-release") or not os.path.exists("/proc/meminfo"):
        pytest.skip("this system has no os-release or no meminfo")
    assert done.stdout.strip() == "[]"


def test_cores_stack_and_names_are_this_machine_s() -> None:
    host = RealHost()
    assert host.cores() == len(os.sched_getaffinity(0))
    assert host.uname() == (os.uname().sysname, os.uname().release, os.uname().machine)
    assert host.own_prefix() == sys.prefix
    soft, hard = host.stack()
    assert soft is None or soft > 0
    assert hard is None or soft is None or hard >= soft


def test_the_home_is_that_of_the_variables() -> None:
    assert RealHost({"HOME": "/home/ada"}).home() == "/home/ada"
    assert RealHost({}).home().startswith("/")


# --- running ------------------------------------------------------------------------------------------------


def run(script: str, timeout_s: float = 10.0) -> tuple[int, str, str, bool, str]:
    return RealHost().run(["/bin/sh", "-c", script], {"PATH": "/usr/bin:/bin"}, timeout_s=timeout_s)


def test_a_program_s_end_is_told(quick: None) -> None:
    assert run("echo out; echo err >&2; exit 3") == (3, "out\n", "err\n", False, "")
    assert run("kill -SEGV $$")[0] == -11


def test_a_program_gets_no_input(quick: None) -> None:
    assert run("cat; echo end") == (0, "end\n", "", False, "")


def test_a_program_that_hangs_is_ended_with_its_children(tmp_path: Path, quick: None) -> None:
    ran = run(f"sleep 60 & echo $! > {tmp_path}/pid; echo begun; sleep 60", timeout_s=0.5)
    assert ran[1] == "begun\n" and ran[3] and ran[0] == -9
    child = int((tmp_path / "pid").read_text())
    time.sleep(0.1)
    state = Path(f"/proc/{child}/stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_a_program_that_closes_its_streams_and_hangs_is_ended(quick: None) -> None:
    assert run("exec >&- 2>&-; sleep 60", timeout_s=0.5)[3]


def test_a_server_left_behind_with_the_streams_open_is_not_waited_for(quick: None) -> None:
    status, stdout, _, timed_out, _ = run("sleep 4 & echo told", timeout_s=30)
    assert (status, stdout, timed_out) == (0, "told\n", False)


def test_a_flood_is_cut_off(quick: None) -> None:
    status, stdout, _, timed_out, problem = run("yes")
    assert problem == "printed more than 4 MiB" and not timed_out and status == -9
    assert len(stdout) < 6 << 20


def test_output_may_be_garbage(quick: None) -> None:
    assert run(r"printf '\377\000\033[2J'")[1].encode("utf-8", "surrogateescape") == b"\xff\x00\x1b[2J"


@pytest.mark.parametrize("argv", [["/nowhere/nvcc"], ["/tmp"], ["a\0b"], ["/bin/\ud800"], [""]])
def test_what_cannot_be_started_is_told(argv: list[str]) -> None:
    ran = RealHost().run(argv, {})
    assert ran.status == 127 and ran.problem and "\n" not in ran.problem


def test_a_variable_that_cannot_be_handed_over_is_told() -> None:
    assert RealHost().run(["/bin/true"], {"A": "x\0y"}).problem


def test_no_file_descriptors_are_left_open() -> None:
    before = set(os.listdir("/proc/self/fd"))
    run("sleep 60", timeout_s=0.1)
    run("yes")
    run("true")
    assert set(os.listdir("/proc/self/fd")) == before


# --- which --------------------------------------------------------------------------------------------------


def test_which_agrees_with_the_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
    for name, mode in (("one/tool", 0o644), ("two/tool", 0o755), ("three/tool", 0o755), ("tool", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(mode)
    (tmp_path / "one" / "dir").mkdir()
    monkeypatch.chdir(tmp_path)
    one, two, three = (f"{tmp_path}/{name}" for name in ("one", "two", "three"))
    for path in (
        [one, two, three],
        [three, two],
        [one],
        [],
        ["", two],
        [f"{two}/"],
        ["two"],
        ["."],
        [one, one],
    ):
        for command in ("tool", "dir", "absent", f"{two}/tool", "./tool", "two/tool"):
            theirs = (
                shutil.which(command, path=":".join(path)) if path else shutil.which(command, path=os.devnull)
            )
            assert which(RealHost(), command, path) == (theirs or ""), (command, path)


# --- the fake machine answers like the real one -------------------------------------------------------------

TREE: dict[str, object] = {
    "file": b"text",
    "empty": b"",
    "folder/": None,
    "deep/er/file": b"deep",
    "deep/er/up": Link("../.."),
    "deep/er/side": Link("../../folder"),
    "link": Link("file"),
    "link-to-folder": Link("deep"),
    "link-with-slash": Link("deep/"),
    "link-to-link": Link("link"),
    "through": Link("link-to-folder/er/file"),
    "dangling": Link("nowhere/at/all"),
    "into-file": Link("file/x"),
    "loop": Link("loop"),
    "a": Link("b"),
    "b": Link("a"),
    "loop-inside": Link("loop/x/../y"),
    "back": Link(".."),
    "here": Link("."),
    "up-and-down": Link("deep/../deep/er"),
    "run": b"#!/bin/sh\n",
    "run-link": Link("run"),
    "fifo": Special(),
    "to-fifo": Link("fifo"),
}
_PATHS = """
file empty folder folder/ folder/. folder/.. deep deep/er/file deep/er/up deep/er/up/file deep/er/side
deep/er/side/ deep/er/side/../file link link/ link/. link/.. link/x link-to-folder link-to-folder/
link-to-folder/er link-to-folder/er/../er/file link-to-folder/../file link-with-slash link-with-slash/er
link-to-link through through/ through/.. dangling dangling/ dangling/.. dangling/../file into-file loop loop/
loop/x loop/../file a b a/x/../y loop-inside back back/ here here/ here/here/here here/file ./file .//file
file/ file/. file/.. file/x missing missing/ missing/x missing/.. missing/../file folder/missing
folder/missing/../../file up-and-down up-and-down/file run run-link run/ fifo fifo/ to-fifo ../machine/file
deep/er/up/deep/er/up/deep/er/file folder/../folder/../file . ./ .. ../.. ../../
"""
ASKED = _PATHS.split()


@pytest.fixture
def machines(tmp_path: Path) -> tuple[RealHost, FakeHost, str]:
    """Return the same tree twice: on disk, and in memory."""
    root = tmp_path / "machine"
    for name, content in TREE.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Link):
            path.symlink_to(content.text)
        elif isinstance(content, bytes):
            path.write_bytes(content)
        elif content is None:
            path.mkdir(exist_ok=True)
        else:
            os.mkfifo(path)
    (root / "run").chmod(0o755)
    files = {f"{root}/{name}": content for name, content in TREE.items()}
    return RealHost(), FakeHost(files, executables=[f"{root}/run"], cwd=str(root)), str(root)


def answer(method: Callable[[], object]) -> object:
    """Return what a call returns, or the kind and number of what it raises."""
    try:
        return method()
    except OSError as error:
        return type(error), error.errno


def answers(host: Host, path: str) -> dict[str, object]:
    return {
        "kind": host.kind(path),
        "kind of the link": host.kind(path, follow=False),
        "executable": host.executable(path),
        "realpath": host.realpath(path),
        "read": answer(lambda: host.read(path)),
        "read with a limit": answer(lambda: host.read(path, 3)),
        "head": answer(lambda: host.head(path, 2)),
        "read_at": answer(lambda: host.read_at(path, 1, 2)),
        "read_at behind the end": answer(lambda: host.read_at(path, 1 << 70, 2)),
        "size of identity": answer(lambda: host.identity(path).size_bytes),
        "size": answer(lambda: host.size(path)),
        "list": answer(lambda: host.list(path)),
        "readlink": answer(lambda: host.readlink(path)),
        "which": which(host, "run", [path]),
        "writable": host.writable(path),
        "read-only": answer(lambda: host.space(path).read_only),
        "lock refused": answer(lambda: host.lock_refused(path)),
        "rights": answer(lambda: bool(host.rights(path).mode & 0o400)),
    }


@pytest.mark.parametrize("asked", ASKED)
def test_the_fake_machine_answers_like_the_real_one(
    asked: str, machines: tuple[RealHost, FakeHost, str]
) -> None:
    real, fake, root = machines
    theirs, ours = answers(real, f"{root}/{asked}"), answers(fake, f"{root}/{asked}")
    if "list" in theirs and asked.strip("./") == "" and asked.startswith(".."):
        theirs.pop("list"), ours.pop("list")  # above the tree, the disk holds more than the test made
    assert ours == theirs


@pytest.mark.parametrize("asked", [name for name in ASKED if not name.startswith("..")])
def test_relative_paths_too(
    asked: str, machines: tuple[RealHost, FakeHost, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake, root = machines
    monkeypatch.chdir(root)
    assert answers(fake, asked) == answers(real, asked)


@pytest.mark.parametrize("asked", ["", "a\0b", "/", "//", "/../.."])
def test_odd_texts_too(
    asked: str, machines: tuple[RealHost, FakeHost, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, fake, root = machines
    monkeypatch.chdir(root)
    theirs, ours = answers(real, asked), answers(fake, asked)
    for key in ("list",) if asked.startswith("/") else ():
        theirs.pop(key), ours.pop(key)
    assert ours == theirs


def test_two_paths_are_one_file_exactly_where_they_lead_to_one(
    machines: tuple[RealHost, FakeHost, str],
) -> None:
    real, fake, root = machines
    files = [f"{root}/{name}" for name in ASKED if real.kind(f"{root}/{name}") == "file"]
    for one in files:
        for other in files:
            same = real.identity(one) == real.identity(other)
            assert (fake.identity(one) == fake.identity(other)) is same, (one, other)


def test_forty_links_are_followed_and_forty_one_are_not(tmp_path: Path) -> None:
    files: dict[str, object] = {f"{tmp_path}/0": b"end"}
    (tmp_path / "0").write_bytes(b"end")
    for number in range(1, 45):
        (tmp_path / str(number)).symlink_to(str(number - 1))
        files[f"{tmp_path}/{number}"] = Link(str(number - 1))
    fake = FakeHost(files)
    for number in (39, 40, 41, 42):
        assert fake.kind(f"{tmp_path}/{number}") == RealHost().kind(f"{tmp_path}/{number}"), number


def test_the_fake_machine_fails_where_it_is_told_to() -> None:
    denied = PermissionError(13, "Permission denied")
    host = FakeHost({"/etc/secret": denied, "/root/": denied})
    with pytest.raises(PermissionError):
        host.read("/etc/secret")
    with pytest.raises(PermissionError):
        host.list("/root")
    assert host.kind("/etc/secret") == "file" and host.kind("/root") == "directory"


def test_the_fake_machine_refuses_a_file_in_a_file() -> None:
    with pytest.raises(ValueError, match="no folder"):
        FakeHost({"/a": b"", "/a/b": b""})


def test_fake_programs_answer_by_path_by_name_and_through_links() -> None:
    host = FakeHost(
        {"/usr/bin/nvcc": Link("/cuda/bin/nvcc")}, programs={"/cuda/bin/nvcc": "V13.0.88", "ls": "x"}
    )
    assert host.run(["/usr/bin/nvcc"], {}).stdout == host.run(["/cuda/bin/nvcc"], {}).stdout == "V13.0.88"
    assert host.run(["/bin/ls"], {}).stdout == "x"
    assert host.executable("/usr/bin/nvcc") and not host.executable("/bin/ls")
    absent, real = host.run(["/nowhere"], {}), RealHost().run(["/nowhere"], {})
    assert absent == real


def test_the_mode_of_a_file_is_asked_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    (tmp_path / "tool").chmod(stat.S_IRUSR)
    assert not RealHost().executable(f"{tmp_path}/tool")


def test_a_device_that_may_be_opened_is_usable(tmp_path: Path) -> None:
    assert RealHost().usable("/dev/null") and not RealHost().usable(f"{tmp_path}/nothing")
    assert not RealHost().usable("/dev/null\0")


def plain(*argv: str) -> str:
    """Run a program without the superuser's way past permissions, and return what it prints."""
    drop = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if drop and not shutil.which("setpriv"):
        pytest.skip("setpriv is not on this machine, and this is the superuser")
    return subprocess.run([*drop, *argv], capture_output=True, text=True, check=True).stdout.strip()


def test_what_this_user_may_write_is_asked_of_the_kernel(tmp_path: Path) -> None:
    for name, mode in (("open", 0o755), ("closed", 0o555), ("unsearchable", 0o600)):
        (tmp_path / name).mkdir()
        (tmp_path / name).chmod(mode)
    (tmp_path / "file").touch(0o444)
    code = "import sys; from cudadoctor.host import RealHost as H; print(*map(H().writable, sys.argv[1:]))"
    paths = [f"{tmp_path}/{name}" for name in ("open", "closed", "unsearchable", "file", "none")]
    assert plain(sys.executable, "-c", code, *paths) == "True False False False False"
    assert not RealHost().writable("/tmp\0x")


def test_a_file_system_that_states_no_size_leaves_nobody_knows_what() -> None:
    # /proc has no blocks, as ramfs, tmpfs without a limit and many that are mounted by FUSE.
    told = RealHost().space("/proc")
    assert (told.free_bytes, told.free_files) == (None, None)


def test_a_file_system_says_what_it_leaves() -> None:
    told, theirs = RealHost().space("/tmp"), os.statvfs("/tmp")
    free = theirs.f_bavail if os.geteuid() else theirs.f_bfree
    assert told.free_bytes is not None and abs(told.free_bytes - free * theirs.f_frsize) < 1 << 30
    assert not told.read_only and told.device == os.stat("/tmp").st_dev
    for path in ("/nowhere", "/tmp\0x"):
        with pytest.raises(OSError):
            RealHost().space(path)


def test_a_lock_that_is_held_is_none_that_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    with open(tmp_path / "lock") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert RealHost().lock_refused(f"{tmp_path}/lock") == ""
        assert RealHost().locked(f"{tmp_path}/lock")
    assert RealHost().lock_refused(str(tmp_path)) == ""


@pytest.mark.parametrize("error", ["ENOLCK", "ENOSYS", "EOPNOTSUPP"])
def test_a_file_system_without_locks_says_so(error: str, tmp_path: Path) -> None:
    if shutil.which("strace") is None:
        pytest.skip("strace is not on this machine")
    code = "import sys; from cudadoctor.host import RealHost as H; print(H().lock_refused(sys.argv[1]))"
    inject = ["strace", "-o", "/dev/null", "-e", "trace=flock", "-e", f"inject=flock:error={error}"]
    ran = [*inject, sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(ran, capture_output=True, text=True, check=True).stdout.strip() == error


def test_the_fake_machine_has_the_file_systems_that_it_is_told_of() -> None:
    small, sealed = Space(2, 4096, 10), Space(3, 1 << 30, read_only=True)
    host = FakeHost(
        {"/home/ada/x/f": b"", "/mnt/ro/f": b"", "/mnt/rose/": None, "/l": Link("/home/ada/x")},
        spaces={"/home/ada/": small, "/mnt/ro": sealed},
        lockless={"/mnt": "ENOLCK"},
        forbidden=["/home/ada/x"],
    )
    assert host.space("/l/f") == small and host.space("/mnt/rose").device == 1
    assert not host.writable("/mnt/ro/f") and host.writable("/mnt/rose") and host.writable("/l/f")
    assert not host.writable("/l") and not host.writable("/nowhere")
    assert (host.lock_refused("/mnt/rose"), host.lock_refused("/l")) == ("ENOLCK", "")


def test_what_is_written_just_before_the_end_is_read() -> None:
    class EndsWhileWeLook(subprocess.Popen[bytes]):
        def poll(self) -> int | None:
            return self.wait()

    argv = ["sh", "-c", "sleep 0.2; echo said"]
    with EndsWhileWeLook(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert _gather(process, 10) == Ran(0, "said\n", "")
