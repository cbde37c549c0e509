"""The scanner: every line that fits, wherever blocks end, in constant memory."""

import random
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cudadoctor.explain.scan import ENOUGH, LONGEST, PATIENCE, SHOWN
from cudadoctor.explain.signatures import compiled

from .build import LINK, ROWS, found, row

HIT = b"ld: cannot find -lcudart"


def test_the_line_is_numbered_and_counted() -> None:
    seen = found(b"a\nb\n" + HIT + b"\nc\n" + HIT + b"\n")
    assert seen.lines == 5
    assert [hit.line for hit in seen.tallies["link"].hits] == [3, 5]
    assert seen.tallies["link"].count == 2


@settings(deadline=None, max_examples=300)
@given(
    st.lists(st.sampled_from((b"x\n", b"\n", HIT + b"\n", b"Killed\n", b"long " * 40 + b"\n")), max_size=40),
    st.data(),
)
def test_where_a_block_ends_changes_nothing(lines: list[bytes], data: st.DataObject) -> None:
    log = b"".join(lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=12)))
    blocks = [log[a:b] for a, b in zip([0, *cuts], [*cuts, len(log)], strict=True)]
    whole, parts = found(log), found(blocks)
    assert parts.lines == whole.lines == len(lines)
    for name in ("link", "killed"):
        a, b = whole.tallies.get(name), parts.tallies.get(name)
        assert (a and (a.count, list(a.places))) == (b and (b.count, list(b.places)))


def test_the_last_line_needs_no_end() -> None:
    assert found(HIT).lines == 1
    assert found(HIT).tallies["link"].hits[0].text == HIT.decode()


def test_an_error_inside_a_line_of_a_hundred_megabytes_is_found_and_memory_stays_small() -> None:
    def blocks() -> "list[bytes]":
        yield_ = [b"-I/usr/include " * 70_000] * 50
        return [*yield_, b" " + HIT + b" ", *yield_]

    parts = blocks()
    tracemalloc.start()
    seen = found(parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen.tallies["link"].count == 1
    assert len(seen.tallies["link"].hits[0].text) < 400
    assert HIT.decode() in seen.tallies["link"].hits[0].text
    assert seen.lines == 1
    assert peak < 8 * LONGEST


def test_what_stands_across_two_parts_of_a_long_line_is_found_once() -> None:
    for shift in range(-30, 3, 7):
        head = b"x" * (LONGEST + shift)
        assert found([head + HIT[:9], HIT[9:] + b"y" * LONGEST]).tallies["link"].count == 1


@pytest.mark.parametrize("noise", (b"\0" * 50, bytes(range(256)), b"\xff\xfe\xff" * 20, "日本語 ".encode()))
def test_bytes_that_are_no_text_hide_nothing(noise: bytes) -> None:
    seen = found(noise.replace(b"\n", b"") + b"\n" + noise.replace(b"\n", b"") + b" " + HIT + b" \xff\n")
    assert seen.tallies["link"].hits[0].line == 2


def test_a_progress_bar_that_is_drawn_over_is_taken_off() -> None:
    assert found(b"Loading:  10%\rLoading:  90%\rKilled\n").tallies["killed"].count == 1
    assert found(b"Killed\rLoading:  90%\r\n").tallies["killed"].count == 1


def test_a_traceback_in_one_string_of_json_is_read_by_its_lines() -> None:
    seen = found(rb'{"error": "Traceback\n  File \"x\"\nKilled\nmore"}')
    assert seen.tallies["killed"].hits[0].text == "Killed"


def test_the_short_error_in_a_long_command_is_in_view() -> None:
    line = b"c++ " + b"-I/opt/include " * 300 + HIT + b" -O3" * 200
    text = found(line).tallies["link"].hits[0].text
    assert HIT.decode() in text
    assert text.startswith("... ") and text.endswith(" ...") and len(text) < 340


def test_lines_around_it_are_kept() -> None:
    around = found(b"1\n2\n3\n4\n" + HIT + b"\n5\n6\n7\n8\n").tallies["link"].hits[0].around
    assert around == ("2", "3", "4", HIT.decode(), "5", "6", "7")


def test_a_log_that_is_all_errors_is_looked_at_only_so_far() -> None:
    seen = found((HIT + b"\n") * 20_000)
    tally = seen.tallies["link"]
    assert len(tally.hits) == SHOWN
    assert len(tally.places) == ENOUGH
    assert seen.lines == 20_000


def test_a_string_that_is_everywhere_and_never_fits_is_given_up_and_said() -> None:
    rows = compiled((row("rare", "abc", match="^abc$"), LINK))
    seen = found(b"abc abc\n" * (PATIENCE + 10) + HIT + b"\n", rows)
    assert seen.tired
    assert set(seen.tallies) == {"link"}


def test_the_last_error_is_remembered_for_a_log_that_nothing_fits() -> None:
    seen = found(b"ValueError: first\nok\n(EngineCore pid=7) KeyError: 'second'\nok\n")
    assert seen.last_error == "KeyError: 'second'"


def test_random_logs_agree_with_a_search_line_by_line() -> None:
    rng = random.Random(5)
    words = [b"Killed", b"cannot find -lcudart", b"ninja: build stopped", b" ", b"\n", b"x", b"\r", b"\0"]
    for _ in range(300):
        log = b"".join(rng.choice(words) for _ in range(rng.randrange(60)))
        lines = log.split(b"\n")
        seen = found([log[:20], log[20:]])
        expected = [n for n, line in enumerate(lines, 1) if b"cannot find -lcudart" in line]
        tally = seen.tallies.get("link")
        assert (list(tally.places) if tally else []) == expected
    assert len(ROWS) == 3


@pytest.mark.parametrize(
    "before",
    (
        b"INFO 11-22 02:03:14 [logger.py:43] Received request chatcmpl-1: prompt: 'why ",
        b"INFO 11-22 02:03:14 [logger.py:37] Request chatcmpl-1 details: prompt: 'hello\\n\\n"
        + b"more " * 9000,
        b"INFO 11-22 [logger.py:76] Generated response chatcmpl-1 (streaming complete): output: 'it is ",
    ),
)
def test_what_clients_and_models_say_in_a_log_of_requests_is_no_line_of_the_server(before: bytes) -> None:
    seen = found(before + HIT + b" Error: none'\n")
    assert not seen.tallies and not seen.last_error
    assert found(before + b"x'\n" + HIT + b"\n").tallies["link"].hits[0].line == 2
