"""Steps on real files: done, undone, refused, and never outside the opened folder."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from cudadoctor.actions import MakeFolder, MakeLink, MoveAside, RemoveLink, Step, TurnLink, Was, WriteFile
from cudadoctor.ground import Conflict, Ground

MARK = ".cudadoctor-2026-11-21-1-1"


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    root = tmp_path.resolve() / "env"
    (root / "lib/deep").mkdir(parents=True)
    (root / "lib/libx.so.1").write_bytes(b"x")
    (root / "activate").write_text("original\n")
    (root / "activate").chmod(0o640)
    (root / "old").symlink_to("gone")
    return root


@pytest.fixture
def ground(prefix: Path) -> Iterator[Ground]:
    before = os.umask(0o077)
    yield Ground([str(prefix)])
    assert os.umask(before) == 0o077, "only the steps' own calls are without it"


def was(path: Path) -> Was:
    found = path.stat()
    return Was(path.read_bytes(), found.st_mode & 0o7777, found.st_mtime_ns)


def steps(prefix: Path) -> dict[str, Step]:
    return {
        "folder": MakeFolder(f"{prefix}/new"),
        "link": MakeLink(f"{prefix}/lib64", "lib"),
        "turn": TurnLink(f"{prefix}/old", "lib/libx.so.1", "gone"),
        "remove": RemoveLink(f"{prefix}/old", "gone"),
        "new file": WriteFile(f"{prefix}/lib/deep/new.sh", b"export A=1\n", 0o644),
        "file": WriteFile(f"{prefix}/activate", b"changed\n", 0o640, was(prefix / "activate")),
        "aside": MoveAside(f"{prefix}/lib", ".lib.cudadoctor-aside"),
    }


def tree(root: Path) -> dict[str, object]:
    """Return everything below `root`: type, mode, content or link text, and the time of each file."""
    found: dict[str, object] = {}
    for path in sorted(root.rglob("*")):
        at = path.lstat()
        body = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
        found[str(path.relative_to(root))] = (at.st_mode, body, at.st_mtime_ns if path.is_file() else 0)
    return found


NAMES = ["folder", "link", "turn", "remove", "new file", "file", "aside"]


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_done_and_taken_back_exactly(name: str, prefix: Path, ground: Ground) -> None:
    step, before = steps(prefix)[name], tree(prefix)
    assert ground.state(step) == "before"
    assert ground.do(step, MARK)
    assert ground.state(step) == "after" and tree(prefix) != before
    assert not ground.do(step, MARK), "it was done already"
    assert ground.undo(step, MARK) == ""
    assert ground.state(step) == "before" and tree(prefix) == before


@pytest.mark.parametrize("name", NAMES)
def test_undoing_what_was_not_done_changes_nothing(name: str, prefix: Path, ground: Ground) -> None:
    before = tree(prefix)
    ground.undo(steps(prefix)[name], MARK)
    assert tree(prefix) == before


@pytest.mark.parametrize("name", ["link", "turn", "remove", "new file", "file"])
def test_what_someone_else_put_there_is_a_conflict_both_ways(name: str, prefix: Path, ground: Ground) -> None:
    step = steps(prefix)[name]
    place = Path(getattr(step, "path", ""))
    place.unlink(missing_ok=True)
    place.write_text("someone else's\n")
    before = tree(prefix)
    for act in (ground.do, ground.undo):
        with pytest.raises(Conflict, match=str(place)):
            act(step, MARK)
    assert tree(prefix) == before


def test_a_forced_undo_keeps_what_was_in_the_way(prefix: Path, ground: Ground) -> None:
    step = steps(prefix)["file"]
    before = tree(prefix)
    ground.do(step, MARK)
    (prefix / "activate").write_text("edited since\n")
    kept = ground.undo(step, MARK, force=True)
    assert (prefix / kept).read_text() == "edited since\n"
    (prefix / kept).unlink()
    assert tree(prefix) == before


def test_modes_are_what_a_step_says_whatever_the_umask(prefix: Path, ground: Ground) -> None:
    for name in ("folder", "new file"):
        ground.do(steps(prefix)[name], MARK)
    modes = [path.stat().st_mode & 0o777 for path in (prefix / "new", prefix / "lib/deep/new.sh")]
    assert modes == [0o755, 0o644]


def test_two_things_in_the_way_are_both_kept(prefix: Path, ground: Ground) -> None:
    step = steps(prefix)["file"]
    ground.do(step, MARK)
    (prefix / f"{MARK}.was").write_text("kept by an undo that was killed\n")
    (prefix / "activate").write_text("edited since\n")
    kept = ground.undo(step, MARK, force=True)
    assert (prefix / kept).read_text() == "edited since\n"
    assert (prefix / f"{MARK}.was").read_text() == "kept by an undo that was killed\n"


def test_what_a_killed_undo_has_kept_is_told_by_the_next_one(prefix: Path, ground: Ground) -> None:
    step = steps(prefix)["file"]
    (prefix / f"{MARK}.was").write_text("kept\n")
    assert ground.state(step) == "before"
    assert ground.undo(step, MARK) == f"{MARK}.was"


@pytest.mark.parametrize("name", ["remove", "turn", "file", "aside"])
def test_what_was_in_a_folder_that_is_gone_stays_gone_by_force_only(
    name: str, prefix: Path, ground: Ground, tmp_path: Path
) -> None:
    ground.do(steps(prefix)[name], MARK)
    elsewhere = Ground([])
    elsewhere.miss(str(prefix))
    with pytest.raises(Conflict, match="is gone"):
        elsewhere.state(steps(prefix)[name])
    with pytest.raises(Conflict, match="is gone"):
        elsewhere.undo(steps(prefix)[name], MARK)
    assert elsewhere.undo(steps(prefix)[name], MARK, force=True) == ""


def test_a_folder_that_is_in_use_by_now_stays(prefix: Path, ground: Ground) -> None:
    step = steps(prefix)["folder"]
    ground.do(step, MARK)
    (prefix / "new/theirs").write_text("")
    ground.undo(step, MARK)
    assert (prefix / "new/theirs").exists()


@pytest.mark.parametrize("name", ["new file", "link"])
def test_a_link_planted_on_the_way_leads_nowhere(
    name: str, prefix: Path, ground: Ground, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (prefix / "lib").rename(prefix / "real")
    (prefix / "lib").symlink_to(outside)
    step = MakeLink(f"{prefix}/lib/x", "y") if name == "link" else steps(prefix)[name]
    with pytest.raises(Conflict, match="no folder"):
        ground.do(step, MARK)
    assert not list(outside.iterdir())


def test_the_folder_itself_swapped_for_a_link_is_not_followed(
    prefix: Path, ground: Ground, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    prefix.rename(tmp_path / "moved")
    prefix.symlink_to(outside)
    ground.do(MakeLink(f"{prefix}/lib64", "lib"), MARK)
    assert not list(outside.iterdir()) and (tmp_path / "moved/lib64").is_symlink()


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "{prefix}/../x", "{prefix}/a/../../x", "{prefix}", "relative"]
)
def test_nothing_outside_is_ground(path: str, prefix: Path, ground: Ground) -> None:
    with pytest.raises(Conflict, match="not inside"):
        ground.do(MakeLink(path.replace("{prefix}", str(prefix)), "x"), MARK)


def test_a_fifo_is_no_file_and_is_not_waited_on(prefix: Path, ground: Ground) -> None:
    os.mkfifo(prefix / "pipe")
    with pytest.raises(Conflict, match="special"):
        ground.read(f"{prefix}/pipe")


def test_a_folder_that_anyone_may_write_to_is_refused(prefix: Path, ground: Ground) -> None:
    (prefix / "lib").chmod(0o777)
    with pytest.raises(Conflict, match="anyone"):
        ground.must_be_writable(f"{prefix}/lib/new/deeper/file")
    (prefix / "lib").chmod(0o1777)
    ground.must_be_writable(f"{prefix}/lib/new/deeper/file")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_closed_to_us_is_refused(prefix: Path, ground: Ground) -> None:
    (prefix / "lib").chmod(0o555)
    with pytest.raises(Conflict, match="may not be written"):
        ground.must_be_writable(f"{prefix}/lib/file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_in_a_users_folder_belongs_to_that_user(prefix: Path, ground: Ground) -> None:
    os.chown(prefix, 1234, 1234)
    for name in ("folder", "link"):
        ground.do(steps(prefix)[name], MARK)
    new = WriteFile(f"{prefix}/made.sh", b"")
    ground.do(new, MARK)
    for made in ("new", "lib64", "made.sh"):
        assert (prefix / made).lstat().st_uid == 1234


def test_a_file_that_is_replaced_keeps_its_time_when_it_is_put_back(prefix: Path, ground: Ground) -> None:
    os.utime(prefix / "activate", ns=(1, 1_000_000_007))
    step = WriteFile(f"{prefix}/activate", b"changed\n", 0o640, was(prefix / "activate"))
    ground.do(step, MARK)
    ground.undo(step, MARK)
    assert (prefix / "activate").stat().st_mtime_ns == 1_000_000_007


def test_what_a_killed_run_left_beside_a_file_is_cleaned_up(prefix: Path, ground: Ground) -> None:
    step, before = steps(prefix)["file"], tree(prefix)
    (prefix / MARK).write_text("half")
    ground.clean(step, MARK)
    assert tree(prefix) == before


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("stands", ["a file", "a link"])
def test_what_took_the_place_of_a_folder_is_left_alone_by_force_too(
    name: str, stands: str, prefix: Path, ground: Ground, tmp_path: Path
) -> None:
    step = steps(prefix)[name]
    place = Path(getattr(step, "path", ""))
    if place.parent == prefix:
        below: dict[str, Step] = {
            "folder": MakeFolder(f"{prefix}/lib/deep/new"),
            "link": MakeLink(f"{prefix}/lib/deep/lib64", "lib"),
        }
        step = below.get(name, RemoveLink(f"{prefix}/lib/deep/old", "gone"))
    shutil.rmtree(prefix / "lib/deep")
    outside = tmp_path / "outside"
    outside.mkdir()
    if stands == "a file":
        (prefix / "lib/deep").touch()
    else:
        (prefix / "lib/deep").symlink_to(outside)
    before = tree(tmp_path)
    with pytest.raises(Conflict, match="deep on the way there is no folder"):
        ground.undo(step, MARK)
    assert ground.undo(step, MARK, force=True) == "" and tree(tmp_path) == before


@pytest.mark.parametrize("name", ["../victim", "..", "", "a/b", "nul\0"])
def test_no_name_of_a_journal_leads_out_of_the_folder(
    name: str, prefix: Path, ground: Ground, tmp_path: Path
) -> None:
    (tmp_path / "victim").mkdir()
    before = tree(tmp_path)
    for step, mark in ((MoveAside(f"{prefix}/lib", name), MARK), (steps(prefix)["link"], name)):
        for act in (ground.do, ground.undo, ground.clean):
            with pytest.raises(Conflict, match="is no name in its folder"):
                act(step, mark)
    assert tree(tmp_path) == before


def test_an_error_names_the_whole_path(prefix: Path, ground: Ground) -> None:
    step = MakeLink(f"{prefix}/lib/{'x' * 300}", "y")
    for act in (ground.do, ground.undo):
        with pytest.raises(OSError, match="File name too long") as problem:
            act(step, MARK)
        assert problem.value.filename == step.path


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_whether_a_step_will_be_allowed_is_known_before(prefix: Path, ground: Ground) -> None:
    ground.must_be_allowed(f"{prefix}/lib/file")
    ground.must_be_allowed(f"{prefix}/gone/file")
    (prefix / "lib").chmod(0o555)
    with pytest.raises(Conflict, match=f"{prefix}/lib: may not be written to by this user"):
        ground.must_be_allowed(f"{prefix}/lib/file")
