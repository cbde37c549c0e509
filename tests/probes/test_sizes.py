"""Sizes of folders: what is counted, and that looking ends."""

import os
from pathlib import Path

from cudadoctor.host import RealHost
from cudadoctor.probes.sizes import Budget, Size, measure
from cudadoctor.testing import FakeHost, Link


class Counting(FakeHost):
    """A machine that counts what it is asked."""

    asked = 0

    def kind(self, path: str, follow: bool = True) -> str:
        self.asked += 1
        return super().kind(path, follow)


def many(folders: int, files: int) -> Counting:
    return Counting({f"/c/{a}/{b}": b"12345678" for a in range(folders) for b in range(files)})


def test_the_files_below_a_folder_are_added_up() -> None:
    host = FakeHost({"/c/a": b"123", "/c/d/e/f": b"45", "/c/empty/": None, "/other": b"x" * 999})
    assert measure(host, "/c", Budget(60, 1000)) == Size(5, True)


def test_no_link_is_followed() -> None:
    host = FakeHost(
        {"/c/file": Link("/big"), "/c/up": Link(".."), "/c/loop": Link("loop"), "/big": b"x" * 99}
    )
    assert measure(host, "/c", Budget(60, 1000)) == Size(0, True)


def test_what_cannot_be_listed_counts_for_nothing() -> None:
    host = FakeHost({"/c/closed/": PermissionError(13, "Permission denied"), "/c/a": b"1"})
    assert measure(host, "/c", Budget(60, 1000)) == Size(1, True)
    assert measure(host, "/nowhere", Budget(60, 1000)) == Size(0, True)


def test_after_so_many_entries_it_says_at_least() -> None:
    host = many(30, 30)
    found = measure(host, "/c", Budget(60, 100))
    assert not found.complete and 0 < found.bytes <= 800
    assert host.asked == 100


def test_when_the_time_is_over_it_says_at_least() -> None:
    ticks = iter(range(1000))
    found = measure(many(3, 300), "/c", Budget(50, 10_000, lambda: float(next(ticks))))
    assert not found.complete and found.bytes <= 8 * 50


def test_several_looks_share_one_budget() -> None:
    budget, host = Budget(60, 12), many(1, 10)
    assert measure(host, "/c", budget) == Size(80, True)
    assert measure(host, "/c", budget) == Size(0, False)


def test_a_real_folder_is_left_where_the_budget_ends(tmp_path: Path) -> None:
    for number in range(2_000):
        os.close(os.open(f"{tmp_path}/{number}", os.O_CREAT | os.O_WRONLY))
    assert measure(RealHost(), str(tmp_path), Budget(60, 1_500)) == Size(0, False)
    assert measure(RealHost(), str(tmp_path), Budget(60, 2_000)) == Size(0, True)
