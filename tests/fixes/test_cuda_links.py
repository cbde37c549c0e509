"""Broken links are turned to the library by a relative text, or removed."""

import pytest

from cudadoctor.actions import RemoveLink, Show, TurnLink
from cudadoctor.facts import LibraryFile, LinkDirectory, Unknown
from tests.checks.build import CUDA, PREFIX, dangling, libraries, shared

from .ask import HOSTILE_PATHS, plan, refused

LIB64 = f"{CUDA}/lib64"
TARGET = f"{PREFIX}/targets/x86_64-linux/lib"
GONE = "/old/libcudart.so.12.6"
SEEN = libraries(
    {
        LIB64: LinkDirectory(
            True,
            {
                "libcudart.so": dangling(GONE),
                "libcudart.so.12": shared(),
                "libcublas.so": shared(),
                "libcudart.so*": shared("/env/libcudart.so.12", "/env/libcudart.so.12"),
                "libcufft.so*": shared(),
                "libcufft.so": LibraryFile("loop", link="libcufft.so"),
            },
        ),
        f"{PREFIX}/lib64": LinkDirectory(True, {"libnvrtc.so": dangling("/gone")}, f"{PREFIX}/lib"),
        TARGET: LinkDirectory(True, {"libnvrtc.so": shared()}),
    }
)


def test_turns_a_link_to_the_library_beside_it() -> None:
    values = {f"{LIB64}/libcudart.so": f"{LIB64}/libcudart.so.12"}
    made = plan("cuda-links", values, libraries=SEEN)
    assert made == [TurnLink(f"{LIB64}/libcudart.so", "libcudart.so.12", GONE)]


def test_reckons_from_the_folder_that_the_link_is_really_in() -> None:
    values = {f"{PREFIX}/lib64/libnvrtc.so": f"{TARGET}/libnvrtc.so"}
    (made,) = plan("cuda-links", values, libraries=SEEN)
    text = "../targets/x86_64-linux/lib/libnvrtc.so"
    assert made == TurnLink(f"{PREFIX}/lib/libnvrtc.so", text, "/gone")


@pytest.mark.parametrize(
    ("name", "before"),
    [("libcudart.so", GONE), ("libcufft.so", "libcufft.so"), ("libcudart.so*", "/env/libcudart.so.12")],
)
def test_removes_a_link(name: str, before: str) -> None:
    path = f"{LIB64}/{name}"
    assert plan("cuda-links", {path: ""}, libraries=SEEN) == [RemoveLink(path, before)]


def test_a_file_that_is_called_like_a_pattern_is_left_to_the_user() -> None:
    (shown,) = plan("cuda-links", {f"{LIB64}/libcufft.so*": ""}, libraries=SEEN)
    assert isinstance(shown, Show) and shown.text.startswith(f"rm '{LIB64}/libcufft.so*'")


@pytest.mark.parametrize(
    "link", [*HOSTILE_PATHS, "/etc/passwd", f"{LIB64}/libcublas.so", f"{LIB64}/libcudart.so.12"]
)
def test_refuses_what_was_not_seen_as_a_broken_link(link: str) -> None:
    refused("cuda-links", {link: ""}, libraries=SEEN)


@pytest.mark.parametrize(
    "target", ["libcudart.so.12", "/tmp/evil.so", f"{LIB64}/libcudart.so", f"{LIB64}/gone.so"]
)
def test_refuses_a_target_that_is_no_library_that_was_seen(target: str) -> None:
    refused("cuda-links", {f"{LIB64}/libcudart.so": target}, libraries=SEEN)


def test_refuses_a_remedy_without_links_and_facts_without_libraries() -> None:
    refused("cuda-links", {}, libraries=SEEN)
    assert "denied" in refused("cuda-links", {f"{LIB64}/libcudart.so": ""}, libraries=Unknown("denied"))
