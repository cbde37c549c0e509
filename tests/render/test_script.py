"""A plan as a shell script: what it does in real shells, and that nothing in it does anything else."""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.actions import (
    Action,
    Export,
    Install,
    MakeFolder,
    MakeLink,
    MoveAside,
    RemoveLink,
    Safety,
    Show,
    Step,
    TurnLink,
    Was,
    WriteFile,
)
from cudadoctor.plan import Change
from cudadoctor.render import script
from cudadoctor.show import visible

SHELLS = {"dash": ["dash"], "bash": ["bash"], "busybox": ["busybox", "sh"]}
NAMES = [
    "plain", "with space", " spaces ", "it's", 'quo"te', "$HOME", "`id`", "$(touch pwned)", "-leading",
    "--", "~", "~root", "new\nline", "ends\n", "\n", "back\\slash", "\\0101", "\\", "*", "?", "[x]",
    "{a,b}", "tab\there", "é", "“quoted”", "‘x’", "\u202e", "\xa0", "\x1b[31m", "\x7f", "\udcff\udcc3",
    "\udcc3", "!bang", "#hash",
    "a;b&c|d>e", "END", "%s%d%%", "=", "a=b", "x" * 200, "日本", "\u0301", "\ufeff",
    "(", "!", "nothing", "folder", "file 644 1 2",
]  # fmt: skip
CONTENTS = [
    b"", b"x", b"\n", b"\n\n", b"a\nb\n", b"no final newline\nhere", b"a\r\nb\r\n", b"\0", b"\0\0019\0",
    b"\\", b"\\0101\n", b"\\0101", b"\\c gone\\n", bytes(range(256)), bytes(range(256)) * 99,
    b"\xff\xfe\n", b"\xc3\n", b"END\n", b"end\nEND1\n END\n", b"EOF", b"$HOME `id` $(id) \"'\n",
    b"%s %d %%\n", b"%s %d %%", b"\t tabs \t\n", "naïve “x” — é\n".encode(), "\u202e\n".encode(),
    "\xa0\n".encode(), b"\x1b[31m\n", b"-n\n", b"-n", b"x" * 99_999, b"# shellcheck disable=all\n",
    b"# shellcheck shell=csh", b"  leading", b"trailing  ", b"a\n" * 5000, b"\\\n\\\n",
]  # fmt: skip


def program(name: str) -> str:
    """Return the path of a program, or do without this test."""
    path = shutil.which(name)
    if path is None:
        # busybox is one shell more: a machine without it tests enough.
        if os.environ.get("CUDADOCTOR_REQUIRE_REAL") == "1" and name != "busybox":
            pytest.fail(f"CUDADOCTOR_REQUIRE_REAL=1, but {name} is not on PATH", pytrace=False)
        pytest.skip(f"{name} is not on PATH")
    return path


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> list[str]:
    name, *options = SHELLS[request.param]
    return [program(name), *options]


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """Return the folder of an environment, with no link on the way to it."""
    folder = tmp_path.resolve() / "env"
    folder.mkdir(mode=0o755)
    return folder


class Ran(NamedTuple):
    """How a script ended."""

    status: int
    said: str
    complained: str


def run(text: str, shell: Sequence[str], beside: Path, umask: int = 0o077, locale: str = "C.UTF-8") -> Ran:
    """Run a script that lies beside the environment, from an empty folder."""
    file = beside.parent / "script.sh"
    file.write_bytes(text.encode())
    empty = beside.parent / "empty"
    empty.mkdir(exist_ok=True)
    environ = {"PATH": os.environ["PATH"], "HOME": str(empty), "LC_ALL": locale}
    done = subprocess.run(
        [*shell, str(file)], capture_output=True, env=environ, cwd=empty, umask=umask, timeout=60
    )
    assert not list(empty.iterdir()), "something was run that no step asks for"
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


Tree = dict[str, tuple[str, int, bytes]]


def tree(root: Path) -> Tree:
    """Return everything below a folder: type, permission bits, and content or text."""
    found: Tree = {}
    for folder, folders, files in os.walk(root):
        for name in [*folders, *files]:
            path = f"{folder}/{name}"
            mode = os.lstat(path).st_mode
            what = b""
            if stat.S_ISLNK(mode):
                what = os.fsencode(os.readlink(path))
            elif stat.S_ISREG(mode):
                what = Path(path).read_bytes()
            kind = stat.filemode(mode)[0]
            found[os.path.relpath(path, root)] = (kind, 0 if kind == "l" else stat.S_IMODE(mode), what)
    return found


def carry_out(steps: Sequence[Step]) -> None:
    """Do steps by plain calls; new folders are open to read."""
    before = os.umask(0o022)
    try:
        for step in steps:
            carry_one_out(step)
    finally:
        os.umask(before)


def carry_one_out(step: Step) -> None:
    match step:
        case MakeFolder(path):
            os.mkdir(path, 0o755)
        case MakeLink(path, text):
            os.symlink(text, path)
        case TurnLink(path, text):
            os.unlink(path)
            os.symlink(text, path)
        case RemoveLink(path):
            os.unlink(path)
        case WriteFile(path, content, mode):
            Path(path).write_bytes(content)
            os.chmod(path, mode)
        case MoveAside(path, aside):
            os.rename(path, f"{os.path.dirname(path)}/{aside}")
        case Install(argv=argv):
            subprocess.run(argv, check=True, umask=0o022)


def planned(*steps: Step, fix: str = "a-fix", actions: tuple[Action, ...] = ()) -> Change:
    return Change(fix, Safety.SAFE, actions or steps, ("a-check",), steps)


def held(*actions: Action, safety: Safety = Safety.MANUAL, refused: str = "") -> Change:
    return Change("a-fix", safety, actions, ("a-check",), (), refused)


def written(prefix: Path, *changes: Change, left: Sequence[Change] = ()) -> str:
    return script.render(changes, left, prefix=str(prefix), what="an environment", created="2026-11-21")


def furnish(prefix: Path, name: str = "x") -> tuple[Step, ...]:
    """Put something for each kind of step into an environment; return the steps."""
    old = prefix / "old"
    old.mkdir(0o755)
    (old / f"real{name}").mkdir(0o755)
    (old / f"to a folder{name}").symlink_to(f"real{name}")
    (old / f"gone{name}").symlink_to(f"/gone/{name}")
    (old / f"file{name}").write_bytes(b"as it was\n")
    (old / f"file{name}").chmod(0o640)
    (old / f"cache{name}").mkdir(0o700)
    (old / f"cache{name}" / "inside").write_bytes(b"x")
    was = Was(b"as it was\n", 0o640, 1)
    return (
        MakeFolder(f"{prefix}/etc{name}"),
        MakeFolder(f"{prefix}/etc{name}/{name}"),
        WriteFile(f"{prefix}/etc{name}/{name}/a.sh", b"export CUDA_HOME='/x'\n"),
        WriteFile(f"{prefix}/etc{name}/{name}/{name}", b"\xff\0", 0o700),
        WriteFile(f"{old}/file{name}", b"as it\nshall be\n", 0o755, was),
        MakeFolder(f"{prefix}/deep"),
        MakeFolder(f"{prefix}/deep/down{name}"),
        MakeLink(f"{prefix}/deep/down{name}/link", f"../{name}"),
        MakeLink(f"{prefix}/{name}.so", name),
        TurnLink(f"{old}/to a folder{name}", f"{name}13", f"real{name}"),
        RemoveLink(f"{old}/gone{name}", f"/gone/{name}"),
        MoveAside(f"{old}/cache{name}", f".cache{name}.aside"),
        Install("pip", ("ninja",), ("touch", "--", f"{prefix}/installed{name}")),
    )


def checked(text: str) -> None:
    """Fail where shellcheck has anything to say about a script."""
    done = subprocess.run([program("shellcheck"), "-s", "sh", "-"], input=text.encode(), capture_output=True)
    assert done.returncode == 0, done.stdout.decode(errors="replace") + text


# --- what it does -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_the_tree_is_the_one_that_the_steps_make_whatever_its_names_are(
    name: str, tmp_path: Path, shell: list[str]
) -> None:
    ours, theirs = (tmp_path.resolve() / side / f"{name}env" for side in ("a", "b"))
    for folder in (ours, theirs):
        folder.mkdir(0o755, parents=True)
    carry_out(furnish(theirs, name))
    text = written(ours, planned(*furnish(ours, name)))
    first = run(text, shell, ours)
    assert (first.status, first.complained) == (0, "")
    assert tree(ours) == tree(theirs)
    again = run(text, shell, ours, umask=0, locale="C")
    assert (again.status, again.complained) == (0, "")
    assert tree(ours) == tree(theirs)
    assert again.said.count("already so: ") == 12


@pytest.mark.parametrize("content", CONTENTS, ids=lambda content: ascii(content[:20]))
def test_files_have_exactly_the_bytes_and_the_mode(content: bytes, prefix: Path, shell: list[str]) -> None:
    old = prefix / "old"
    old.write_bytes(content)
    old.chmod(0o600)
    changed = WriteFile(str(old), b"new\n", 0o444, Was(content, 0o600, 1))
    text = written(prefix, planned(WriteFile(f"{prefix}/new", content, 0o640), changed))
    assert run(text, shell, prefix) == Ran(0, run_says(prefix, "written: {}/new", "written: {}/old"), "")
    assert tree(prefix) == {"new": ("-", 0o640, content), "old": ("-", 0o444, b"new\n")}
    assert run(text, shell, prefix).said == run_says(prefix, "already so: {}/new", "already so: {}/old")


def run_says(prefix: Path, *lines: str) -> str:
    end = f"Done. To see what is left: cudadoctor check --prefix {prefix}"
    return "".join(f"{line.format(prefix)}\n" for line in (*lines, end))


def test_only_the_mode_of_a_file_may_change(prefix: Path, shell: list[str]) -> None:
    (prefix / "f").write_bytes(b"x\n")
    (prefix / "f").chmod(0o600)
    assert (
        run(
            written(prefix, planned(WriteFile(f"{prefix}/f", b"x\n", 0o644, Was(b"x\n", 0o600, 1)))),
            shell,
            prefix,
        ).status
        == 0
    )
    assert tree(prefix) == {"f": ("-", 0o644, b"x\n")}


@pytest.mark.parametrize("number", range(14))
def test_what_was_cut_short_is_finished_by_the_next_run(number: int, prefix: Path, shell: list[str]) -> None:
    steps = furnish(prefix)
    text = written(prefix, planned(*steps))
    carry_out(steps[:number])
    assert run(text, shell, prefix).status == 0
    after = tree(prefix)
    for done in steps[:-1]:
        path = done.path if not isinstance(done, Install) else ""
        assert os.path.lexists(path) is not isinstance(done, (RemoveLink, MoveAside))
    assert run(text, shell, prefix).status == 0 and tree(prefix) == after


def test_an_installer_is_run_as_it_would_be_typed(prefix: Path, shell: list[str]) -> None:
    words = ["a b", "$HOME", "ninja>=1", "", "*", "-n", "it's"]
    tell = ["sh", "-c", 'for word; do printf "<%s>" "$word"; done >"$0"', f"{prefix}/told", *words]
    assert run(written(prefix, planned(Install("pip", ("x",), tuple(tell)))), shell, prefix).status == 0
    assert (prefix / "told").read_text() == "".join(f"<{word}>" for word in words)


def test_an_installer_that_fails_ends_the_script(prefix: Path, shell: list[str]) -> None:
    steps = (Install("pip", ("x",), ("false",)), MakeFolder(f"{prefix}/never"))
    assert run(written(prefix, planned(*steps)), shell, prefix).status == 1
    assert not tree(prefix)


def test_a_cache_outside_the_prefix_is_moved_aside(prefix: Path, shell: list[str]) -> None:
    cache = prefix.parent / "cache"
    cache.mkdir()
    text = written(prefix, planned(MoveAside(str(cache), ".cache-1")))
    assert run(text, shell, prefix).status == 0 and run(text, shell, prefix).status == 0
    assert not cache.exists() and (prefix.parent / ".cache-1").is_dir()


# --- what stops it ------------------------------------------------------------------------------------------


def put_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"foreign")


def put_folder(path: Path) -> None:
    path.mkdir(parents=True)


def put_link(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to("foreign")


def put_fifo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


def other_content(path: Path) -> None:
    path.write_bytes(b"as it wax\n")


def other_mode(path: Path) -> None:
    path.chmod(0o600)


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def then(first: Callable[[Path], None], second: Callable[[Path], None]) -> Callable[[Path], None]:
    def both(path: Path) -> None:
        first(path)
        second(path)

    both.__name__ = f"{first.__name__} {second.__name__}"
    return both


IN_THE_WAY = [
    ("etcx", put_file), ("etcx", put_link), ("etcx", put_fifo), ("etcx/x", put_file),
    ("etcx/x", put_link), ("etcx/x/a.sh", put_file), ("etcx/x/a.sh", put_folder),
    ("etcx/x/a.sh", put_link), ("etcx/x/a.sh", put_fifo), ("old/filex", other_content),
    ("old/filex", other_mode), ("old/filex", gone), ("old/filex", then(gone, put_folder)),
    ("old/filex", then(gone, put_link)), ("old/filex", then(gone, put_fifo)), ("deep", put_file),
    ("deep", put_link), ("deep/downx/link", put_file), ("deep/downx/link", put_folder),
    ("deep/downx/link", put_link), ("x.so", put_folder), ("old/to a folderx", gone),
    ("old/to a folderx", then(gone, put_link)), ("old/to a folderx", then(gone, put_folder)),
    ("old/to a folderx", then(gone, put_file)), ("old/gonex", then(gone, put_link)),
    ("old/gonex", then(gone, put_file)), ("old/gonex", then(gone, put_folder)), ("old/cachex", gone),
    ("old/.cachex.aside", put_file), ("old/.cachex.aside", put_folder), ("old/.cachex.aside", put_link),
]  # fmt: skip


@pytest.mark.parametrize(
    ("place", "happens"), IN_THE_WAY, ids=lambda value: getattr(value, "__name__", value)
)
def test_nothing_is_changed_where_one_place_is_not_what_the_plan_saw(
    place: str, happens: Callable[[Path], None], prefix: Path, shell: list[str]
) -> None:
    text = written(prefix, planned(*furnish(prefix)))
    happens(prefix / place)
    before = tree(prefix)
    ran = run(text, shell, prefix)
    assert (ran.status, ran.said) == (1, "")
    assert f"{prefix}/{place}" in ran.complained and "is not what the plan saw: " in ran.complained
    assert tree(prefix) == before


def test_no_link_on_the_way_is_followed(prefix: Path, shell: list[str]) -> None:
    outside = prefix.parent / "outside"
    text = written(prefix, planned(*furnish(prefix)))
    (prefix / "old").rename(outside)
    (prefix / "old").symlink_to(outside)
    before = tree(prefix.parent)
    ran = run(text, shell, prefix)
    assert ran.status == 1 and f"on the way there {prefix}/old is a link" in ran.complained
    after = tree(prefix.parent)
    assert {name: after[name] for name in before} == before


def test_a_link_that_was_made_since_leads_nowhere_outside(prefix: Path, shell: list[str]) -> None:
    outside = prefix.parent / "outside"
    outside.mkdir()
    steps = (
        Install("pip", ("x",), ("ln", "-s", str(outside), f"{prefix}/etc")),
        WriteFile(f"{prefix}/etc/a.sh", b"x\n"),
    )
    assert run(written(prefix, planned(*steps)), shell, prefix).status == 1
    assert not list(outside.iterdir())


def test_a_folder_that_may_not_be_written_to_is_known_before_anything_is_done(
    prefix: Path, shell: list[str]
) -> None:
    text = written(prefix, planned(MakeFolder(f"{prefix}/made"), *furnish(prefix)))
    (prefix / "old").chmod(0o555)
    if os.access(prefix / "old", os.W_OK):
        pytest.skip("root may write everywhere")
    before = tree(prefix)
    ran = run(text, shell, prefix)
    assert (ran.status, ran.complained) == (1, f"{prefix}/old may not be written to\n")
    assert tree(prefix) == before


def test_the_script_is_for_its_own_prefix(prefix: Path, shell: list[str]) -> None:
    text = written(prefix, planned(MakeLink(f"{prefix}/lib64", "lib")))
    prefix.rmdir()
    ran = run(text, shell, prefix)
    assert ran == Ran(1, "", f"{prefix} is not there: this script was made for it\n")
    assert not prefix.exists()


def test_an_installer_that_is_not_there_is_known_before_anything_is_done(
    prefix: Path, shell: list[str]
) -> None:
    steps = (MakeFolder(f"{prefix}/made"), Install("pip", ("x",), (f"{prefix}/bin/pip", "install", "x")))
    ran = run(written(prefix, planned(*steps)), shell, prefix)
    assert ran == Ran(1, "", f"{prefix}/bin/pip is not there to be run\n")
    assert not tree(prefix)


def test_nothing_of_a_file_that_could_not_be_written_stays_behind(prefix: Path, shell: list[str]) -> None:
    text = written(prefix, planned(WriteFile(f"{prefix}/a.sh", b"x" * 99_999)))
    limited = [*shell, "-c", 'ulimit -f 8; . "$0"']
    assert run(text, limited, prefix).status != 0
    assert not tree(prefix)
    assert run(text, shell, prefix).status == 0


@pytest.mark.parametrize(
    "step",
    [
        MakeFolder("relative"),
        MakeFolder("/opt/../etc"),
        MakeLink("/opt/a/", "b"),
        MakeLink("/opt/a\0b", "b"),
        MakeLink("/opt/a", ""),
        MoveAside("/opt/a", "../b"),
        MoveAside("/opt/a"),
        Install("pip", ("ninja",)),
    ],
    ids=str,
)
def test_what_could_not_be_carried_out_is_not_written(step: Step) -> None:
    with pytest.raises(ValueError):
        written(Path("/opt"), planned(step))


# --- what a reader sees -------------------------------------------------------------------------------------


def test_changes_read_like_this() -> None:
    prefix = "/opt/envs/vllm"
    links = planned(
        MakeLink(f"{prefix}/lib64", "lib"),
        TurnLink(f"{prefix}/lib/libcudart.so", "libcudart.so.13", "/gone"),
        fix="cuda-links",
    )
    home = planned(
        MakeFolder(f"{prefix}/etc"),
        WriteFile(f"{prefix}/etc/a.sh", b"export CUDA_HOME='/x'\n"),
        WriteFile(f"{prefix}/etc/b.bat", b"set CUDA_HOME=C:\\x\r\n", 0o755, Was(b"x", 0o600, 1)),
        fix="cuda-home",
        actions=(Export("CUDA_HOME", "/x"), Export("LD_PRELOAD"), Export("CPATH", "", ("/a",), ("/b",))),
    )
    ninja = planned(Install("pip", ("ninja",), (f"{prefix}/bin/python", "-m", "pip", "install", "ninja>=1")))
    text = written(Path(prefix), links, home, ninja)
    start = text.index("changes() {\n")
    assert text[start : text.index("\n}\n", start)] == (
        "changes() {\n"
        "\n"
        "# 1. cuda-links (for a-check): link /opt/envs/vllm/lib64 -> lib\n"
        "#    - turn /opt/envs/vllm/lib/libcudart.so -> libcudart.so.13 (now: /gone)\n"
        'make_link "$prefix/lib64" lib\n'
        'turn_link "$prefix/lib/libcudart.so" libcudart.so.13 /gone\n'
        "\n"
        "# 2. cuda-home (for a-check): set CUDA_HOME=/x, on activation\n"
        "#    - unset LD_PRELOAD, on activation\n"
        "#    - CPATH, on activation: add /a, take out /b\n"
        'make_folder "$prefix/etc"\n'
        "write_file \"$prefix/etc/a.sh\" 644 '235490676 22' nothing cat <<'END'\n"
        "export CUDA_HOME='/x'\n"
        "END\n"
        "write_file \"$prefix/etc/b.bat\" 755 '3443724945 20' 'file 600 12738659 1' bytes <<'END'\n"
        "set CUDA_HOME=C:\\0134x\\0015\\0012\n"
        "END\n"
        "\n"
        "# 3. a-fix (for a-check): install ninja with pip\n"
        "run \"$prefix/bin/python\" -m pip install 'ninja>=1'\n"
        ":"
    )


def test_what_is_not_done_is_told_with_the_command_that_would_do_it() -> None:
    lock = "/src/uv.lock says what is in this environment"
    left = Change(
        "pip-install",
        Safety.SAFE,
        (Install("pip", ("ninja",)),),
        ("a-check",),
        (),
        lock,
        "cd /src && uv add ninja",
    )
    assert (
        f"# Not done: pip-install (for a-check): {lock}\n"
        "#    - install ninja with pip\n"
        "#    by hand: cd /src && uv add ninja\n"
    ) in written(Path("/opt"), left=[left])


def test_only_the_functions_that_are_needed_are_there() -> None:
    text = written(Path("/opt"), planned(MakeLink("/opt/lib64", "lib")))
    assert "make_link() {" in text and "write_file" not in text and "trap" not in text


HOSTILE = [
    *NAMES, "a\nrm -rf /", "a\rb", "x\x0b\x0c\x85\u2028y", "shellcheck disable=all", "shellcheck", "}",
    "EOF\n", "sudo apt install x \\\n  y", "\\", "!/bin/sh", "touch pwned\n\ntouch pwned\n",
]  # fmt: skip


def with_held(hostile: str, prefix: str) -> str:
    """Return a script that changes nothing, with one string in every place that is only shown."""
    left = [
        held(Show(hostile), Export(hostile, hostile, (hostile,), (hostile,)), refused=hostile),
        held(MakeLink(hostile, hostile), TurnLink(hostile, hostile, hostile), WriteFile(hostile, b"")),
        held(RemoveLink(hostile, hostile), MakeFolder(hostile), safety=Safety.UNSAFE),
        Change(
            hostile,
            Safety.SAFE,
            (MoveAside(hostile, hostile), Install(hostile, (hostile,))),
            (hostile,),
            by_hand=hostile,
        ),
    ]
    return script.render(left, left, prefix=prefix, what=hostile, created=hostile)


@pytest.mark.parametrize("hostile", HOSTILE, ids=ascii)
def test_what_is_not_carried_out_is_a_comment_and_nothing_else(
    hostile: str, prefix: Path, shell: list[str]
) -> None:
    text = with_held(hostile, str(prefix))
    assert run(text, shell, prefix) == Ran(0, run_says(prefix), "")
    assert not tree(prefix)


@settings(max_examples=300)
@given(st.text(st.characters()))
def test_no_text_at_all_leaves_its_comment(hostile: str) -> None:
    plain, text = ([line for line in with_held(t, "/opt").split("\n") if t] for t in ("x", hostile + "x"))
    for line in set(text) - set(plain):
        assert line.startswith("# ") and visible(line) == line


EVERY_NAME = [name.replace("/", "|") for name in (*HOSTILE, *map(chr, range(33, 127))) if name != "."]


@pytest.mark.parametrize("start", range(0, len(EVERY_NAME), 10))
def test_shellcheck_has_nothing_to_say_about_any_name(start: int, tmp_path: Path) -> None:
    names = EVERY_NAME[start : start + 10]
    changes = []
    for number, name in enumerate(names):
        prefix = tmp_path / f"{number}"
        prefix.mkdir()
        changes.append(planned(*furnish(prefix, name), fix=name))
    checked(written(tmp_path, *changes, left=[held(Show(name), refused=name) for name in names]))


def test_shellcheck_has_nothing_to_say_about_any_content_or_kind() -> None:
    steps: list[Step] = [WriteFile(f"/opt/{n}", content) for n, content in enumerate(CONTENTS)]
    checked(written(Path("/opt"), planned(*steps)))
    checked(written(Path("/opt/it's\n$HOME")))
    for hostile in HOSTILE:
        checked(with_held(hostile, "/opt"))


@given(st.binary())
def test_the_checksum_is_that_of_cksum(content: bytes) -> None:
    done = subprocess.run(["cksum"], input=content, capture_output=True, check=True)
    assert script.cksum(content) == done.stdout.decode().strip()


NAME = st.binary(min_size=1, max_size=60).filter(lambda name: not {0, ord("/")} & set(name)).map(os.fsdecode)


@settings(max_examples=60, deadline=None)
@given(NAME, st.binary() | st.text(st.characters(codec="utf-8")).map(str.encode))
def test_any_name_and_any_content_survive(name: str, content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prefix = Path(folder).resolve() / f"{name}env"
        prefix.mkdir()
        steps = (WriteFile(f"{prefix}/a{name}", content), MakeLink(f"{prefix}/b{name}", name))
        assert run(written(prefix, planned(*steps)), [program("dash")], prefix).status == 0
        assert tree(prefix) == {
            f"a{name}": ("-", 0o644, content),
            f"b{name}": ("l", 0, os.fsencode(name)),
        }
