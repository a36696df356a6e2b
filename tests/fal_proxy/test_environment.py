"""The environment of a program of `tintype run`: what is set, what stays, and that twice is once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tintype.errors import SettingsError
from tintype.fal_proxy.certificates import CertificateAuthority
from tintype.fal_proxy.environment import PLACEHOLDER_KEY, original_environment, variables
from tintype.fal_proxy.proxy import UpstreamProxy
from tintype.installation import ServerInfo

HERE = ServerInfo("127.0.0.1:8787", 4242, "password", "/tmp/t/fal")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority.open(tmp_path_factory.mktemp("installation"))


def test_only_https_is_sent_to_the_proxy_in_both_spellings(authority: CertificateAuthority) -> None:
    given = variables(HERE, authority, {"HTTP_PROXY": "http://company:3128"})
    assert given["HTTPS_PROXY"] == given["https_proxy"] == "http://direct:password@127.0.0.1:4242"
    assert "HTTP_PROXY" not in given
    assert given["SSL_CERT_FILE"] == given["REQUESTS_CA_BUNDLE"] == given["CURL_CA_BUNDLE"]


@pytest.mark.parametrize(
    ("direct", "left"),
    [
        ("localhost,127.0.0.1, .intern", "localhost,127.0.0.1,.intern"),
        ("*", ""),
        ("fal.run,.fal.ai,v3.fal.media,other.example", "other.example"),
        ("run,media", ""),
        ("rest.fal.ai, *.FAL.media:443 v3b.fal.media. notfal.ai", "notfal.ai"),
        ("", ""),
    ],
)
def test_no_proxy_keeps_what_does_not_lead_around_the_proxy(
    authority: CertificateAuthority, direct: str, left: str
) -> None:
    given = variables(HERE, authority, {"NO_PROXY": direct})
    assert given["NO_PROXY"] == given["no_proxy"] == left


def test_what_the_person_has_set_is_added_to_rather_than_lost(authority: CertificateAuthority) -> None:
    own = {"PYTHONPATH": "/mine", "NODE_OPTIONS": "--max-old-space-size=99", "BUN_OPTIONS": "--smol", "FAL_KEY": "real"}
    given = variables(HERE, authority, own)
    assert given["PYTHONPATH"].endswith(":/mine")
    assert given["NODE_OPTIONS"].startswith("--max-old-space-size=99 --require ")
    assert given["BUN_OPTIONS"].startswith('"--preload=/')
    assert given["BUN_OPTIONS"].endswith('/fal_proxy.cjs" --smol')
    assert "FAL_KEY" not in given
    assert variables(HERE, authority, {})["FAL_KEY"] == PLACEHOLDER_KEY
    assert "FAL_KEY" not in variables(HERE, authority, {"FAL_KEY_ID": "a", "FAL_KEY_SECRET": "b"})


def test_the_programs_own_proxy_travels_in_the_user_name(authority: CertificateAuthority) -> None:
    own = {"https_proxy": "http://me:secret@company:3128", "NO_PROXY": "*.intern"}
    user = variables(HERE, authority, own)["HTTPS_PROXY"].removeprefix("http://").partition(":")[0]
    assert UpstreamProxy.from_username(user) == UpstreamProxy("http://me:secret@company:3128", "*.intern")
    assert not set(user) & set("@:/?#")


def test_changing_a_changed_environment_begins_from_the_original_one(authority: CertificateAuthority) -> None:
    own = {"PYTHONPATH": "/mine", "HTTPS_PROXY": "http://company:3128", "LANG": "C"}
    once = own | variables(HERE, authority, own)
    twice = once | variables(HERE, authority, once)
    assert twice == once
    assert original_environment(once) == own


def test_a_proxy_that_cannot_be_chained_is_said_without_its_password(authority: CertificateAuthority) -> None:
    with pytest.raises(SettingsError, match="company:1080, is neither http nor https") as caught:
        variables(HERE, authority, {"ALL_PROXY": "socks5://me:secret@company:1080"})
    assert "secret" not in caught.value.message


def test_the_hooks_are_there(authority: CertificateAuthority) -> None:
    given = variables(HERE, authority, {})
    assert (Path(given["PYTHONPATH"]) / "sitecustomize.py").is_file()
    assert Path(json.loads(given["NODE_OPTIONS"].removeprefix("--require "))).is_file()
