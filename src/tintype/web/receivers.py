"""Where webhooks may go: who may send a request must not be able to make this machine talk to its neighbours."""

from __future__ import annotations

from tintype.errors import BadRequest
from tintype.files.addresses import Address, is_loopback, is_plainly_private, is_public, parsed_url, plain_address
from tintype.settings import Settings

PRIVATE_REMEDY = (
    "Send it elsewhere, or start the server with TINTYPE_WEBHOOK_TARGETS=private (loopback: this machine only)."
)


def check_receiver(settings: Settings, url: str) -> None:
    """Refuses a webhook's URL that can be told to be private when it is asked for. Raises BadRequest."""
    host = parsed_url(url).host
    address = plain_address(host)
    allowed = may_receive(settings, address) if address is not None else not is_plainly_private(host)
    if not allowed and settings.webhook_targets != "private":
        raise BadRequest(f"{host[:200]} is a private address, and webhooks are not sent there.", remedy=PRIVATE_REMEDY)


def may_receive(settings: Settings, address: Address) -> bool:
    """Tells whether webhooks may go to an address."""
    targets = settings.webhook_targets
    if targets == "auto":
        targets = "loopback" if _serves_only_itself(settings) else "public"
    return targets == "private" or is_public(address) or (targets == "loopback" and is_loopback(address))


def _serves_only_itself(settings: Settings) -> bool:
    """Tells whether only programs on this machine can reach the server: they need no server to reach each other."""
    host = plain_address(settings.host)
    return host is not None and is_loopback(host) and settings.public_url is None
