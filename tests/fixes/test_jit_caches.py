import pytest

from cudadoctor.actions import Action, MoveAside, Safety, Show
from cudadoctor.declare import FIX_HEADINGS
from cudadoctor.facts import BuiltOp, CacheFolder, Caches, Facts, Lock, Unknown
from cudadoctor.findings import Remedy
from cudadoctor.registry import load_fixes
from tests.checks.cached import EXTENSIONS, OPS, caches, op


def planned(seen: Caches | Unknown, *paths: str) -> list[Action]:
    fix = load_fixes().fixes["jit-caches"]
    return list(fix.plan(Remedy("jit-caches", dict.fromkeys(paths, "")), Facts(caches=seen)))


def test_moves_the_operators_of_the_finding_aside() -> None:
    seen = caches(op("silu"), op("gelu"), op("page"))
    assert planned(seen, f"{OPS}/silu", f"{OPS}/page") == [
        MoveAside(f"{OPS}/silu"), MoveAside(f"{OPS}/page"),
    ]  # fmt: skip


def test_moves_an_operator_that_is_built_and_cannot_be_used_aside() -> None:
    seen = Caches(built=(BuiltOp(f"{OPS}/silu", "silu", "/usr/local/cuda", "libcudart.so.12"),))
    assert planned(seen, f"{OPS}/silu") == [MoveAside(f"{OPS}/silu")]


def test_moves_the_one_cache_of_a_finding_aside() -> None:
    addon = CacheFolder("tvm-ffi", "/home/ada/.cache/tvm-ffi", "the default")
    assert planned(Caches(folders=(*caches().folders, addon)), addon.path) == [MoveAside(addon.path)]


def test_by_its_name_alone_it_takes_every_cache_once() -> None:
    folders = [CacheFolder("triton", "/t/cache", "TRITON_CACHE_DIR")]
    folders += [CacheFolder("torchinductor", "/t", "TORCHINDUCTOR_CACHE_DIR")] * 2
    seen = Caches(folders=(*caches().folders, *folders))
    assert planned(seen) == [MoveAside(OPS), MoveAside(EXTENSIONS), MoveAside("/t")]
    assert planned(Caches()) == []


def test_leaves_a_folder_alone_in_which_a_build_is_at_work() -> None:
    held = Lock(f"{OPS}/tmp/silu.lock", "advisory", True)
    first, second = planned(caches(locks=(held,)))
    assert isinstance(first, Show) and OPS in first.text
    assert second == MoveAside(EXTENSIONS)


@pytest.mark.parametrize("path", ["/home/ada", f"{OPS}/../../x", f"{OPS}/gelu", "", "/"])
def test_refuses_what_is_no_operator_that_was_seen(path: str) -> None:
    with pytest.raises(ValueError, match="jit-caches"):
        planned(caches(op("silu")), path)


def test_refuses_where_the_caches_are_not_known() -> None:
    with pytest.raises(ValueError, match="timed out"):
        planned(Unknown("timed out"))


@pytest.mark.parametrize("name", ["jit-caches", "stale-lock"])
def test_the_page_is_whole(name: str) -> None:
    fix = load_fixes().fixes[name]
    assert fix.safety is Safety.SAFE and fix.title.endswith(".")
    places = [fix.doc.find(heading) for heading in FIX_HEADINGS]
    assert -1 not in places and places == sorted(places)
