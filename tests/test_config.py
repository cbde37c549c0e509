"""Files of settings that keep a parser busy, or that are none: one line, and no wait."""

import time
from pathlib import Path

import pytest

from cudadoctor.config import load_config
from cudadoctor.mistakes import UserMistake
from cudadoctor.registry import load


def mistake(text: str, tmp_path: Path, name: str = "cudadoctor.toml") -> str:
    file = tmp_path / name
    file.write_text(text)
    started = time.process_time()
    with pytest.raises(UserMistake) as caught:
        load_config(str(file), False, load(launch=False))
    assert time.process_time() - started < 1
    line = str(caught.value).removeprefix(f"{file}: ")
    assert line and len(line) < 400 and line.isprintable()
    return line


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = " + "[" * 2000 + "]" * 2000, "a = " + "{a=" * 9999]
)
def test_values_may_be_nested_as_deeply_as_they_like(text: str, tmp_path: Path) -> None:
    assert mistake(text, tmp_path) == "its values are nested too deeply"


@pytest.mark.parametrize(
    "text",
    [
        ".".join("a" * 20_000) + " = 1",
        " . ".join("a" * 20_000) + " = 1",
        ".".join(["'a'", '"b"'] * 10_000) + " = 1",
        "x = {" + ".".join("a" * 20_000) + " = 1}",
        "[" + ".".join("a" * 20_000) + "]",
    ],
)
def test_a_key_without_end_is_no_key(text: str, tmp_path: Path) -> None:
    assert mistake(text, tmp_path) == "a key of more than 50 parts"
    assert mistake(f"[tool.cudadoctor]\n{text}", tmp_path, "pyproject.toml") == "a key of more than 50 parts"


def test_texts_with_many_full_stops_are_no_keys(tmp_path: Path) -> None:
    file = tmp_path / "pyproject.toml"
    many = ", ".join(f'"package{n} >= 1.{n}.0.{n}"' for n in range(500))
    dots = "a.b.c.d.e.f.g.h.i.j" * 3
    file.write_text(f"[project]\nd = [{many}]\nu = 'https://{dots}/'\n[tool.cudadoctor]\nfail-on = 'note'\n")
    assert load_config(str(file), False, load(launch=False)).fail_on == "note"


def test_a_file_of_megabytes_is_none_of_settings(tmp_path: Path) -> None:
    assert mistake("[[a]]\n" * 300_000, tmp_path) == "larger than 1 MiB"


def test_what_is_quoted_of_a_file_is_cut(tmp_path: Path) -> None:
    assert mistake(f"{'x' * 10_000} = 1", tmp_path).endswith("xxx ...")
