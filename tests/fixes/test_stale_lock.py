import pytest

from cudadoctor.actions import Action, MoveAside
from cudadoctor.facts import Caches, Facts, Unknown
from cudadoctor.findings import Remedy
from cudadoctor.registry import load_fixes
from tests.checks.cached import EXTENSIONS, caches, lock

SEEN = caches(locks=(lock("a", False), lock("held", True), lock("unsure", None, "nfs"), lock("b", False)))
A, B = f"{EXTENSIONS}/a/lock", f"{EXTENSIONS}/b/lock"


def planned(seen: Caches | Unknown, *paths: str) -> list[Action]:
    fix = load_fixes().fixes["stale-lock"]
    return list(fix.plan(Remedy("stale-lock", dict.fromkeys(paths, "")), Facts(caches=seen)))


def test_moves_the_lock_of_the_finding_aside() -> None:
    assert planned(SEEN, B) == [MoveAside(B)]


def test_by_its_name_alone_it_takes_every_lock_that_nobody_holds() -> None:
    assert planned(SEEN) == [MoveAside(A), MoveAside(B)]


@pytest.mark.parametrize("name", ["held", "unsure", "unseen"])
def test_refuses_a_lock_that_may_be_held(name: str) -> None:
    with pytest.raises(ValueError, match="stale-lock"):
        planned(SEEN, f"{EXTENSIONS}/{name}/lock")


def test_refuses_where_the_locks_are_not_known() -> None:
    with pytest.raises(ValueError, match="timed out"):
        planned(Unknown("timed out"))
