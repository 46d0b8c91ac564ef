"""Where an archive may be, and who asks it: nothing that gives images or secrets away is begun."""

from __future__ import annotations

import pytest

from ttr.errors import ArchiveError, OptionError
from ttr.hospital.web.access import PASSWORD, TOKEN, USER, Access, check_url

HERE = "http://127.0.0.1:8042/dicom-web"


@pytest.mark.parametrize(
    "url", ["https://pacs.example.org/dicom-web/", "http://localhost:8042/d", HERE, "http://[::1]:1/d"]
)
def test_tls_anywhere_and_plain_http_on_this_machine_are_addresses(url):
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://pacs.example.org/dicom-web", "without TLS"),
        ("http://127.0.0.1.example.org/d", "without TLS"),
        ("http://localhost.example.org/d", "without TLS"),
        ("https://me:secret@pacs.example.org/d", "login"),
        ("ftp://pacs.example.org", "no address"),
        ("pacs.example.org", "no address"),
        ("https://", "no address"),
        ("https://[::1", "no address"),
        ("https://pacs:port/d", "no address"),
        ("https://pacs/d\nx", "no address"),
        ("https://pacs/d?x=1", "query"),
    ],
)
def test_other_addresses_are_refused_and_no_secret_is_repeated(url, says):
    with pytest.raises(OptionError, match=says) as refused:
        check_url(url)
    assert "secret" not in str(refused.value)


def test_plain_http_elsewhere_must_be_said():
    assert check_url("http://pacs.example.org/d", plain_http=True) == "http://pacs.example.org/d"


def test_who_asks_stands_in_the_environment_and_is_not_shown():
    access = Access.of(HERE, {USER: "eve", PASSWORD: "secret"})
    assert access.login == ("eve", "secret")
    token = Access.of(HERE, {TOKEN: "secret"})
    assert token.headers()["Authorization"] == "Bearer secret"
    assert "secret" not in f"{access!r} {token!r}"
    assert Access.of(HERE, {}).login is None


@pytest.mark.parametrize(
    "environment",
    [{USER: "a"}, {PASSWORD: "a"}, {USER: "a", PASSWORD: "b", TOKEN: "c"}, {TOKEN: "a\nb"}, {TOKEN: "ä"}],
)
def test_half_a_login_or_two_are_refused(environment):
    with pytest.raises(OptionError, match="TTR_PACS_"):
        Access.of(HERE, environment)


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_certificates_that_are_none_are_refused(content, tmp_path):
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with pytest.raises(ArchiveError, match=r"ca\.pem"):
        Access.of(HERE, {}, ca=tmp_path / "ca.pem")
