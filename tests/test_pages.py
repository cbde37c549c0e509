"""Every check has its page, its test file and its row in the generated list."""

from pathlib import Path

import pytest

from cudadoctor.commands.list import table
from cudadoctor.declare import HEADINGS
from cudadoctor.registry import load

ROOT = Path(__file__).resolve().parents[1]
NAMES = sorted(load().own())


@pytest.mark.parametrize("name", NAMES)
def test_a_check_has_a_whole_page(name: str) -> None:
    page = load().checks[name].doc
    title = page.partition("\n\n")[0]
    assert title.endswith("."), "the first paragraph is one sentence"
    places = [page.find(heading) for heading in HEADINGS]
    assert -1 not in places and places == sorted(places), f"the headings are {HEADINGS}, in this order"


@pytest.mark.parametrize("name", NAMES)
def test_a_check_has_a_test_file_of_its_name(name: str) -> None:
    assert (ROOT / f"tests/checks/test_{name.replace('-', '_')}.py").is_file()


def test_the_generated_list_is_current() -> None:
    assert table(load()) in (ROOT / "docs/checks.md").read_text(), "run: python -m docs"


def test_the_published_schema_is_current() -> None:
    import msgspec

    from cudadoctor.report import schema

    published = msgspec.json.decode((ROOT / "docs/report.schema.json").read_bytes())
    assert published == msgspec.json.decode(msgspec.json.encode(schema())), "run: python -m docs"
