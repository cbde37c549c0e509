"""Every check and every fix has its page, its test file and its row in the generated list."""

from pathlib import Path

import pytest

from cudadoctor.commands import man
from cudadoctor.commands.list import fixes_table, table
from cudadoctor.commands.schema import KINDS, published
from cudadoctor.declare import FIX_HEADINGS, HEADINGS, Check, Fix
from cudadoctor.registry import load, load_fixes

ROOT = Path(__file__).resolve().parents[1]
CHECKS = sorted(load().own())
FIXES = sorted(name for name, origin in load_fixes().origins.items() if origin == "cudadoctor")


def must_be_whole(page: Check | Fix, headings: tuple[str, ...]) -> None:
    title = page.doc.partition("\n\n")[0]
    assert title.endswith("."), "the first paragraph is one sentence"
    places = [page.doc.find(heading) for heading in headings]
    assert -1 not in places and places == sorted(places), f"the headings are {headings}, in this order"


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_has_a_whole_page(name: str) -> None:
    must_be_whole(load().checks[name], HEADINGS)


@pytest.mark.parametrize("name", FIXES)
def test_a_fix_has_a_whole_page(name: str) -> None:
    must_be_whole(load_fixes().fixes[name], FIX_HEADINGS)


@pytest.mark.parametrize("name", [*(f"checks/{n}" for n in CHECKS), *(f"fixes/{n}" for n in FIXES)])
def test_each_has_a_test_file_of_its_name(name: str) -> None:
    folder, _, own = name.partition("/")
    assert (ROOT / f"tests/{folder}/test_{own.replace('-', '_')}.py").is_file()


def test_no_check_and_fix_share_a_name() -> None:
    assert not set(CHECKS) & set(FIXES), "`cudadoctor docs NAME` shows one page"


def test_the_generated_lists_are_current() -> None:
    assert table(load()) in (ROOT / "docs/checks.md").read_text(), "run: python -m docs"
    assert fixes_table(load_fixes()) in (ROOT / "docs/fixes.md").read_text(), "run: python -m docs"


@pytest.mark.parametrize("kind", KINDS)
def test_the_published_schema_is_current(kind: str) -> None:
    import msgspec

    there = msgspec.json.decode((ROOT / f"docs/{kind}.schema.json").read_bytes())
    assert there == msgspec.json.decode(published(kind)), "run: python -m docs"


def test_the_manual_page_is_current() -> None:
    assert (ROOT / "docs/cudadoctor.1").read_text() == man.page(), "run: python -m docs"
