from __future__ import annotations

import ipaddress

import pytest

from tintype.errors import BadRequest
from tintype.settings import Settings
from tintype.web.receivers import check_receiver, may_receive

LOOPBACK = ("http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]:9/", "http://0x7f.1/", "http://a.localhost/")
PRIVATE = ("http://10.0.0.1/", "http://192.168.1.2/", "http://169.254.169.254/", "http://0.0.0.0/",
           "http://metadata.google.internal/", "http://printer.local/", "http://[fd00::1]/")  # fmt: skip


def refused(url: str, **settings: object) -> bool:
    try:
        check_receiver(Settings(**settings), url)
    except BadRequest:
        return True
    return False


@pytest.mark.parametrize("url", LOOPBACK)
def test_a_server_of_this_machine_only_may_call_programs_of_this_machine(url):
    assert not refused(url)
    assert refused(url, host="0.0.0.0")
    assert refused(url, public_url="https://pictures.example")
    assert refused(url, webhook_targets="public")
    assert not refused(url, host="0.0.0.0", webhook_targets="loopback")


@pytest.mark.parametrize("url", PRIVATE)
def test_private_networks_are_called_by_setting_only(url):
    assert refused(url)
    assert refused(url, webhook_targets="loopback")
    assert not refused(url, webhook_targets="private")


def test_public_receivers_are_always_allowed():
    for targets in ("auto", "public", "loopback", "private"):
        assert not refused("https://hooks.example/x", webhook_targets=targets)


def test_where_a_name_leads_is_checked_by_the_same_rules():
    public, loopback, private = (ipaddress.ip_address(a) for a in ("93.184.216.34", "127.0.0.1", "10.0.0.1"))
    for targets, allowed in (
        ("auto", {public, loopback}),
        ("public", {public}),
        ("private", {public, loopback, private}),
    ):
        settings = Settings(webhook_targets=targets)
        assert {address for address in (public, loopback, private) if may_receive(settings, address)} == allowed
