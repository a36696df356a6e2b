"""Reports how many images were made to Black Forest Labs, for owners whose commercial licence asks for that.

Nothing is sent, and nothing is connected to, unless TINTYPE_BFL_LICENSE_KEY is set. A day is reported once it is over,
until it was taken in: a crash between the answer and the note of it sends the day again, under the same key.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import anyio
import anyio.to_thread
import httpx
import structlog

from tintype.files.generations import unreported
from tintype.web.services import Services

_LOOK_SECONDS = 3600.0
_ANSWER_SECONDS = 30.0

log = structlog.get_logger("tintype.web")


async def report_licensed_use(services: Services) -> None:
    """Runs until cancelled; where no licence key is set, it does nothing."""
    while services.settings.bfl_license_key:
        try:
            await report_days(services)
        except Exception:  # a network or database that is away must not end reports for good
            log.exception("the use of a licensed model could not be reported; it is tried again")
        await anyio.sleep(_LOOK_SECONDS)


async def report_days(services: Services) -> int:
    """Reports the days that are over. Returns how many were taken in."""
    settings, taken_in = services.settings, 0
    days = await anyio.to_thread.run_sync(unreported, settings, datetime.now(UTC))
    if not settings.bfl_license_key or not days:
        return 0
    installation = await services.store.keys.secret("installation")
    async with httpx.AsyncClient(timeout=_ANSWER_SECONDS) as client:
        for day in days:
            name = hashlib.sha256(installation + f"/{day.model}/{day.day}".encode()).hexdigest()
            answer = await client.post(
                f"{settings.bfl_report_url.rstrip('/')}/{day.model}/usage",
                headers={"x-key": settings.bfl_license_key, "Idempotency-Key": name[:32]},
                json={"number_of_generations": day.images},
            )
            if answer.is_success:
                day.mark_reported()
                taken_in += 1
                log.info("the use of a licensed model was reported", model=day.model, day=day.day)
            else:
                log.warning("a report was not taken in", model=day.model, day=day.day, status=answer.status_code)
    return taken_in
