"""Takes webhooks out of the outbox and to their receivers, side by side, so that a slow one delays nobody else.

A receiver that does not answer holds a few tries of its own at most. Several processes may send from one outbox: what
one has claimed, no other has. A process that stops hands back what it had begun. Who may send a request must not be
able to make this machine talk to its neighbours, so webhooks go only where the settings let them.

The signature is fal's: ED25519, in hex, over four lines joined by line feeds: request id, user id, unix seconds, and
the SHA-256 of the body in hex. The body is the same at every try; the time, and with it the signature, is the try's.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import Counter
from contextvars import ContextVar
from urllib.parse import urlsplit

import anyio
import httpx
import structlog

from tintype import __version__
from tintype.errors import BadRequest, Json
from tintype.fal import is_fal_host
from tintype.files import render
from tintype.files.addresses import Address, is_loopback, is_plainly_private, is_public, parsed_url, plain_address
from tintype.files.safe_http import PrivateAddress, SafeClient
from tintype.settings import Settings
from tintype.store.records import Delivery, SigningKey
from tintype.store.webhooks import FIRST_TRY_SECONDS, LATER_TRY_SECONDS, signing_key
from tintype.web.access import host_name
from tintype.web.responses import linked_body, to_json
from tintype.web.services import Services

USER_ID = "local-user"  # an installation is one account
SEEN_AS = f"tintype/{__version__}"
_PRIVATE_REMEDY = (
    "Send it elsewhere, or start the server with TINTYPE_WEBHOOK_TARGETS=private (loopback: this machine only)."
)
MOST_UNDERWAY = 256  # tries at once
MOST_PER_TARGET = 8
_LOOK_SECONDS = 0.5  # how often the outbox is looked into
# All that is told of a private receiver: more would tell whoever may send requests which ports are open there.
_PRIVATE_ANSWER = f"Not taken in by a receiver at a private address; the server's log says why. {_PRIVATE_REMEDY}"
_reached_private: ContextVar[bool] = ContextVar("reached_private", default=False)

log = structlog.get_logger("tintype.web")


class WebhookSender:
    """Sends webhooks until cancelled."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._store = services.store
        self._settings = services.settings
        self._first_wait = services.settings.webhook_retry_seconds
        self._client = SafeClient(self._allows)
        self._underway: Counter[str] = Counter()  # by target

    async def run(self) -> None:
        async with anyio.create_task_group() as tries:
            while True:
                try:
                    for delivery in await self._take():
                        tries.start_soon(self._try, delivery)
                except Exception:  # a database that is away for a moment must not end deliveries for good
                    log.exception("the outbox could not be read; it is tried again")
                await anyio.sleep(_LOOK_SECONDS)

    async def _take(self) -> list[Delivery]:
        taken: list[Delivery] = []
        while (free := min(MOST_UNDERWAY - self._underway.total(), MOST_PER_TARGET)) > 0:
            busy = [target for target, count in self._underway.items() if count >= MOST_PER_TARGET]
            claimed = await self._store.webhooks.claim(free, busy=busy)
            if not claimed:
                break
            self._underway.update(delivery.target for delivery in claimed)
            taken += claimed
        return taken

    async def _try(self, delivery: Delivery) -> None:
        try:
            await self._deliver(delivery)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                await self._store.webhooks.hand_back(delivery)
            raise
        except Exception:  # one webhook must not end the others; its lease runs out, and it is tried again
            log.exception("a webhook could not be tried", request_id=delivery.request_id)
        finally:
            self._underway -= Counter((delivery.target,))

    def _allows(self, address: Address) -> bool:
        _reached_private.set(_reached_private.get() or not is_public(address))
        return may_receive(self._settings, address, self._services.is_behind_proxy)

    def _origin(self, origin: str) -> str:
        """Where a receiver finds files: as the sender reached us, unless that was by one of fal's names."""
        if not is_fal_host(host_name(urlsplit(origin).netloc)):
            return origin
        return self._settings.public_url or f"http://{self._settings.host}:{self._settings.port}"

    async def _deliver(self, delivery: Delivery) -> None:
        request = await self._store.requests.get(delivery.request_id)
        if request is None or delivery.message is None:
            await self._store.webhooks.not_delivered(delivery, "Its content is gone.", first_wait=0.0, final=True)
            return
        body = body_of(delivery.message, self._origin(request.origin))
        now = time.time()
        headers = headers_of(
            delivery.request_id, body, signing_key(await self._store.webhooks.signing_keys(), now), now
        )
        seconds = FIRST_TRY_SECONDS if delivery.tries == 1 else LATER_TRY_SECONDS
        final = False
        _reached_private.set(False)
        try:
            url = parsed_url(delivery.url)
            asked = self._client.stream("POST", url, headers=headers, content=body)
            async with asyncio.timeout(seconds), asked as response:
                status = response.status_code  # what else the receiver says is not read
        except PrivateAddress as problem:
            answer, final = str(problem), True
        except httpx.InvalidURL as problem:
            answer, final = str(problem), True
        except TimeoutError:
            answer = f"No answer within {seconds:g} seconds."
        except (OSError, httpx.HTTPError) as problem:
            answer = f"No answer: {str(problem) or type(problem).__name__}"
        else:
            answer = f"Answered {status}."
            if 200 <= status < 300:
                await self._store.webhooks.delivered(delivery, answer)
                return
            if 300 <= status < 400:
                answer, final = f"Answered {status}: redirects are not followed.", True
        log.info("webhook not delivered", request_id=delivery.request_id, tries=delivery.tries, answer=answer)
        if _reached_private.get() and not serves_only_itself(self._settings, self._services.is_behind_proxy):
            answer = _PRIVATE_ANSWER
        await self._store.webhooks.not_delivered(delivery, answer, first_wait=self._first_wait, final=final)


def check_receiver(settings: Settings, url: str, is_behind_proxy: bool = False) -> None:
    """Refuses a webhook's URL that can be told to be private when it is asked for. Raises BadRequest."""
    host = parsed_url(url).host
    address = plain_address(host)
    allowed = may_receive(settings, address, is_behind_proxy) if address is not None else not is_plainly_private(host)
    if not allowed and settings.webhook_targets != "private":
        raise BadRequest(f"{host[:200]} is a private address, and webhooks are not sent there.", remedy=_PRIVATE_REMEDY)


def may_receive(settings: Settings, address: Address, is_behind_proxy: bool = False) -> bool:
    """Tells whether webhooks may go to an address."""
    targets = settings.webhook_targets
    if targets == "auto":
        targets = "loopback" if serves_only_itself(settings, is_behind_proxy) else "public"
    return targets == "private" or is_public(address) or (targets == "loopback" and is_loopback(address))


def serves_only_itself(settings: Settings, is_behind_proxy: bool) -> bool:
    """Tells whether only programs on this machine can reach the server: they need no server to reach each other. A
    proxy in front of it, by its settings or by what it has added to a request, lets others in."""
    host = plain_address(settings.host)
    reached_by_others = settings.public_url or settings.allowed_hosts or settings.trusted_proxies or is_behind_proxy
    return host is not None and is_loopback(host) and not reached_by_others


def body_of(message: Json, origin: str) -> bytes:
    """The message with URLs that its receiver can open: `origin` is where the sender of the request reached us."""
    payload = message.get("payload")
    if isinstance(payload, dict):
        message = {**message, "payload": linked_body(payload, origin)}
    return to_json(render(message, origin))


def headers_of(request_id: str, body: bytes, key: SigningKey, at: float, *, user_id: str = USER_ID) -> dict[str, str]:
    """All headers of a webhook sent at `at` (unix seconds)."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # 0.1 s that a start can do without

    timestamp = str(int(at))
    lines = (request_id, user_id, timestamp, hashlib.sha256(body).hexdigest())
    signature = Ed25519PrivateKey.from_private_bytes(key.seed).sign("\n".join(lines).encode())
    return {
        "Content-Type": "application/json",
        "User-Agent": SEEN_AS,
        "X-Fal-Webhook-Request-Id": request_id,
        "X-Fal-Webhook-User-Id": user_id,
        "X-Fal-Webhook-Timestamp": timestamp,
        "X-Fal-Webhook-Signature": signature.hex(),
    }
