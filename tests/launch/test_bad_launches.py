"""Files that no launch was ever written in: one clear line with its place, soon."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cudadoctor.facts.launch import Launch
from cudadoctor.host import Host, RealHost
from cudadoctor.launch import compose, dockerfile, script
from cudadoctor.launch.texts import LaunchUnreadable
from cudadoctor.launch.yaml_text import parse
from tests.launch.read import composed, host

READERS: dict[str, Callable[[Host, str], Launch]] = {
    "compose": compose.read,
    "dockerfile": dockerfile.read,
    "script": script.read,
}
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n"
    for old, new in zip("abcdefghi", "bcdefghij", strict=True)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 50)}], k{n}: v}}\n" for n in range(1, 200)
)
SERVICE = "services:\n  a:\n    image: x\n    command: vllm serve m\n"


@pytest.fixture(autouse=True)
def soon() -> Iterator[None]:
    """Whatever is wrong with a file, it is said within a few seconds."""
    start = time.monotonic()
    yield
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("kind", READERS)
def test_a_file_of_two_gigabytes_is_refused_by_its_size(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(LaunchUnreadable, match="huge: larger than 1024 KiB, which no launch file is"):
        READERS[kind](RealHost({}), str(path))


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"FROM x\nvllm \0", ":2: holds a NUL byte: this is no text"),
        (b"a\nb\n\xff\xfe", ":3: this is no UTF-8 text"),
    ],
)
def test_what_is_no_text_is_told_with_its_line(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(LaunchUnreadable) as error:
        READERS[kind](host({"f": data}), "/home/ada/f")
    assert str(error.value) == f"/home/ada/f{said}"


@pytest.mark.parametrize("kind", READERS)
def test_what_is_no_file_is_told(kind: str, tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "gone", Path("/dev/zero"), Path("/dev/tty")):
        with pytest.raises(LaunchUnreadable, match=f"^{path}: "):
            READERS[kind](RealHost({}), str(path))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("services:\n  a: [\n", ":3: no valid YAML: "),
        ("services:\n\ta: b\n", ":2: no valid YAML: "),
        ("a: &a [*a]\n" + SERVICE, ":1: *a stands inside itself"),
        ("a: *b\n", ":1: nothing is called &b"),
        ("[" * 100_000, "nested more than 40 deep"),
        ("{" * 100_000, "nested more than 40 deep"),
        ("- " * 50_000, "nested more than 40 deep"),
        (MERGES + SERVICE, "more than 50000 values"),
        ("".join(f"k{n}: v\n" for n in range(40_000)), "more than 50000 values"),
        ("", "no services in it, so this is no compose file"),
        ("version: 3\n", "no services in it"),
        ("services: []\n", "no services in it"),
        ("services: {a: }\n", "the service a has nothing in it"),
        ("services: {a: {image: x, command: {a: b}}}\n", "command is neither a text nor a list"),
        ("services: {a: {image: x, command: \"vllm 'x\"}}\n", "the quote ' is never closed"),
        ("services: {a: {image: x, command: vllm (x)}}\n", "compose takes no '(' in a command without"),
        ("services: {a: {image: '${x', command: y}}\n", ":1: the ${ is never closed"),
        ("services: {a: {image: '${1}', command: y}}\n", ":1: ${1} names no variable"),
        ("services: {a: {build: nowhere, command: y}}\n", "/home/ada/nowhere/Dockerfile: "),
    ],
)  # fmt: skip
def test_a_compose_file_that_cannot_be_read_is_one_line(text: str, said: str) -> None:
    with pytest.raises(LaunchUnreadable) as error:
        composed(text)
    assert (
        said in str(error.value)
        and str(error.value).startswith("/home/ada/")
        and "\n" not in str(error.value)
    )


def test_a_bomb_of_anchors_stays_as_small_as_it_is_written() -> None:
    assert composed(BOMB + SERVICE).model == "m"
    tree = parse(BOMB, "x")
    bottom = tree.get("j")
    assert bottom is not None
    with pytest.raises(ValueError, match="too large"):
        bottom.plain()
    used = BOMB.replace("a: &a", "x-a: &a", 1) + "services:\n  a: {image: x, command: *j}\n"
    with_bomb = composed(used)
    assert with_bomb.kind == "other"


def test_tags_make_no_objects() -> None:
    text = "services:\n  a:\n    image: !!python/object/apply:os.system ['x']\n    command: vllm serve m\n"
    assert composed(text).model == "m"
    assert composed(SERVICE.replace("vllm serve m", "!!python/name:os.system 'vllm serve m'")).model == "m"


def test_numbers_of_a_million_digits_are_texts() -> None:
    start = time.monotonic()
    assert composed(SERVICE + "    mem_limit: " + "9" * 900_000 + "\n").kind == "vllm-serve"
    assert time.monotonic() - start < 3


def test_values_that_refer_to_each_other_without_end_stay_small() -> None:
    files = {".env": "A=aaaaaaaaaaaaaaaa\n" + "".join('A="${A}${A}${A}${A}"\n' for _ in range(30))}
    with pytest.raises(LaunchUnreadable, match="a value longer than any command line"):
        composed(SERVICE, files)
    deep = SERVICE.replace("vllm serve m", f"'{'${A:-' * 60}{'}' * 60}'")
    with pytest.raises(LaunchUnreadable, match="variables are nested more than 20 deep"):
        composed(deep)


@pytest.mark.parametrize("text", ["A='x\n", 'A="x\ny\n', "?\n", "= x\n"])
def test_an_env_file_that_cannot_be_read_is_one_line(text: str) -> None:
    with pytest.raises(LaunchUnreadable, match=r"^/home/ada/\.env:1: "):
        composed(SERVICE, {".env": text})


@given(st.text(st.sampled_from("FROMxCMD ENVARG\n\\\"'[]{}$:-=#, `<a"), max_size=80))
def test_any_text_is_a_dockerfile_or_refused(text: str) -> None:
    try:
        dockerfile.read(host({"D": f"FROM x\n{text}"}), "/home/ada/D")
    except LaunchUnreadable as error:
        assert "\n" not in str(error)


@given(st.text(st.sampled_from("ab: -[]{}&*<>|!'\"#\n\t$,?%@"), max_size=80))
def test_any_text_is_a_compose_file_or_refused(text: str) -> None:
    for whole in (text, f"services:\n  a:\n    image: x\n    command: {text}"):
        try:
            composed(whole)
        except LaunchUnreadable as error:
            assert "\n" not in str(error)
