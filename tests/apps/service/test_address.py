"""Where the page is: which names, origins and options are its own."""

from __future__ import annotations

import pytest

from ttr.apps.service.address import Address, is_loopback
from ttr.errors import OptionError

PUBLIC = "https://ttr.example.org/page"


def test_loopback_is_what_never_leaves_this_machine():
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        assert is_loopback(host)
    for host in ("0.0.0.0", "192.168.1.2", "::", "example.org", ""):
        assert not is_loopback(host)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.org", "https://", "example.org", "//example.org", "https://a b.org", "javascript:x"),
        *("https://user:pass@example.org", "https://example.org:99999", "https://example.org/?q=1"),
        *(
            "https://example.org/#part",
            "https://example.org/a//b",
            "https://example.org/../b",
            "https://[::1",
        ),
        *("https://example.org/a b", "https://example.org\n.evil.org", "https://exämple.org/ä"),
    ],
)
def test_a_public_url_that_no_page_can_have_is_refused(url):
    with pytest.raises(OptionError, match="--public-url"):
        Address.of("127.0.0.1", url)


@pytest.mark.parametrize(
    "path", ["ttr", "//evil.org", "/a/../b", "/a?b", "/a#b", "/a b", "/..", "/a//b", "/\n"]
)
def test_a_root_path_that_is_none_is_refused(path):
    with pytest.raises(OptionError, match="--root-path"):
        Address.of("127.0.0.1", "", path)


def test_what_links_begin_with():
    assert Address.of("127.0.0.1").seen is None
    assert Address.of("127.0.0.1", "", "/ttr/").seen == "/ttr"
    assert Address.of("127.0.0.1", PUBLIC + "/").seen == PUBLIC
    assert Address.of("127.0.0.1", PUBLIC, "/page").seen == PUBLIC
    with pytest.raises(OptionError, match="is not the path of --public-url"):
        Address.of("127.0.0.1", PUBLIC, "/other")


def test_a_page_on_loopback_answers_to_loopback_alone():
    here = Address.of("127.0.0.1")
    assert not here.open
    for name in ("127.0.0.1:7860", "localhost:7860", "LOCALHOST", "[::1]:7860", "[::1]"):
        assert here.answers_to(name), name
    for name in (
        "evil.example:7860",
        "127.0.0.1.evil.example",
        "",
        "a@127.0.0.1",
        "localhost/x",
        "127.0.0.1:x",
    ):
        assert not here.answers_to(name), name


def test_a_page_behind_a_proxy_answers_to_its_public_name_and_to_loopback():
    shown = Address.of("127.0.0.1", PUBLIC)
    assert shown.open
    for name in ("ttr.example.org", "ttr.example.org:443", "127.0.0.1:7860"):
        assert shown.answers_to(name), name
    for name in ("evil.example", "ttr.example.org:8443", "ttr.example.org.evil.example"):
        assert not shown.answers_to(name), name
    wide = Address.of("0.0.0.0", PUBLIC)
    assert not wide.answers_to("evil.example")
    assert wide.answers_to("10.0.0.7:7860")
    assert not shown.answers_to("10.0.0.7:7860")
    assert Address.of("0.0.0.0").answers_to("any-name-of-this-machine:7860")


def test_an_origin_is_scheme_name_and_port():
    here = Address.of("127.0.0.1")
    assert here.owns("http://127.0.0.1:7860", "http", "127.0.0.1:7860")
    assert here.owns("http://localhost", "http", "localhost:80")
    for source in (
        "null",
        "",
        "http://127.0.0.1:8000",
        "https://127.0.0.1:7860",
        "http://localhost:7860",
        "file://",
    ):
        assert not here.owns(source, "http", "127.0.0.1:7860"), source
    shown = Address.of("127.0.0.1", PUBLIC)
    assert shown.owns("https://ttr.example.org", "http", "127.0.0.1:7860")
    for source in ("http://ttr.example.org", "http://127.0.0.1:7860", "https://example.org"):
        assert not shown.owns(source, "http", "127.0.0.1:7860"), source
