"""Which of the lines that fit is the root."""

import pytest

from cudadoctor.explain import Kind

from .build import LINK, NINJA, row, told

OOM = row("oom", "out of memory")
STOPPED = row("jit", "Ninja build failed", Kind.HINT, yields=("link",))
NO_GPU = row("no-gpu", "No CUDA GPUs", yields=("driver",))
DRIVER = row("driver", "driver mismatch")
SIGN = row("compiling", "nvcc -c", Kind.SIGN)
KILLED_BUILD = row("build-killed", "Killed", match="^Killed$", beside=("compiling",), within=5)
KILLED_ELSE = row("killed", "Killed", match="^Killed$", not_beside=("compiling",), within=5)
WARNED = row("warned", "may not work", Kind.HARMLESS, cause="none")
MISSING = row(
    "missing", "cannot open shared object", match=r"(?P<library>lib\w+\.so\S*): cannot", title="no {library}"
)


def test_the_first_cause_is_the_root_and_what_follows_is_told_beside_it() -> None:
    seen = told("cannot find -lcudart\nninja: build stopped\nout of memory\n", LINK, NINJA, OOM)
    assert seen.root is not None and seen.root.cause == "link"
    assert [each.cause for each in seen.others] == ["oom"]
    assert [each.signature for each in seen.consequences] == ["ninja"]


def test_a_cause_that_another_explains_gives_way_even_where_it_comes_first() -> None:
    seen = told("No CUDA GPUs\ndriver mismatch\n", NO_GPU, DRIVER)
    assert seen.root is not None and seen.root.cause == "driver"
    assert not seen.others
    assert [each.signature for each in seen.consequences] == ["no-gpu"]


def test_a_hint_gives_way_to_any_cause_and_is_one_where_it_stands_alone() -> None:
    alone = told("Ninja build failed\n", STOPPED, OOM)
    assert alone.root is not None and alone.root.cause == "jit"
    beside = told("Ninja build failed\nout of memory\n", STOPPED, OOM)
    assert beside.root is not None and beside.root.cause == "oom"
    assert not beside.others


def test_two_that_give_way_to_each_other_leave_the_first() -> None:
    first, second = row("a", "first", yields=("b",)), row("b", "second", yields=("a",))
    seen = told("first\nsecond\n", first, second)
    assert seen.root is not None and seen.root.cause == "a"


def test_two_that_give_way_to_each_other_do_not_vanish_beside_a_third() -> None:
    first, second = row("a", "first", yields=("b",)), row("b", "second", yields=("a",))
    seen = told("first\nsecond\nout of memory\n", first, second, OOM)
    assert seen.root is not None and seen.root.cause == "a"
    assert [each.cause for each in seen.others] == ["oom"]


def test_a_sign_near_by_tells_two_causes_of_one_message_apart() -> None:
    rows = SIGN, KILLED_BUILD, KILLED_ELSE
    near, far = told("nvcc -c x.cu\nKilled\n", *rows), told("nvcc -c x.cu\n" + "x\n" * 9 + "Killed\n", *rows)
    assert near.root is not None and near.root.cause == "build-killed"
    assert far.root is not None and far.root.cause == "killed"
    assert told("nvcc -c x.cu\n", *rows).root is None


def test_the_line_told_is_the_one_that_has_its_sign() -> None:
    seen = told("Killed\n" + "x\n" * 20 + "nvcc -c x.cu\nKilled\n", SIGN, KILLED_BUILD)
    assert seen.root is not None and seen.root.line == 23


def test_the_line_told_is_right_where_many_without_the_sign_come_first() -> None:
    seen = told("Killed\n" * 30 + "x\n" * 20 + "nvcc -c x.cu\nKilled\n", SIGN, KILLED_BUILD)
    assert seen.root is not None and seen.root.line == 52


def test_a_message_that_tells_something_only_at_the_end_is_nothing_before_it() -> None:
    stays = row("stays", "about to build", last=3)
    assert told("about to build\n" + "step\n" * 3, stays).root is None
    assert told("about to build\n" + "step\n" * 2, stays).root is not None


def test_harmless_lines_are_no_cause() -> None:
    seen = told("may not work\n", WARNED)
    assert seen.root is None
    assert [each.signature for each in seen.harmless] == ["warned"]


def test_the_title_names_what_the_line_names() -> None:
    seen = told("ImportError: libcudart.so.12: cannot open shared object file\n", MISSING)
    assert seen.root is not None and seen.root.title == "no libcudart.so.12"


def test_one_cause_by_two_messages_is_told_once() -> None:
    again = row("again", "cudart is missing", cause="link")
    seen = told("cannot find -lcudart\ncudart is missing\n", LINK, again)
    assert seen.root is not None and seen.root.signature == "link"
    assert not seen.others


def test_a_cause_told_again_after_another_keeps_its_place() -> None:
    again = row("again", "cudart is missing", cause="link")
    seen = told("cannot find -lcudart\nout of memory\ncudart is missing\n", LINK, OOM, again)
    assert seen.root is not None and seen.root.signature == "link"
    assert [each.cause for each in seen.others] == ["oom"]


@pytest.mark.parametrize(
    ("log", "error"),
    (
        (
            "/usr/bin/ld: cannot find -lfoo\ncollect2: error: ld returned 1\n",
            "/usr/bin/ld: cannot find -lfoo",
        ),
        ("x.c:1:2: error: no\n" + "collect2: error: ld returned 1\n" * 5, "x.c:1:2: error: no"),
        ("collect2: error: ld returned 1\n", ""),
        ("nvcc fatal   : no\n", "nvcc fatal   : no"),
    ),
)
def test_an_error_that_follows_from_another_is_not_the_one_told(log: str, error: str) -> None:
    assert told(log, LINK, row("ld", "ld returned 1", Kind.CONSEQUENCE)).last_error == error


def test_without_a_cause_the_last_error_is_told() -> None:
    seen = told("ValueError: no idea\nninja: build stopped\n", LINK, NINJA)
    assert seen.root is None
    assert seen.last_error == "ValueError: no idea"
