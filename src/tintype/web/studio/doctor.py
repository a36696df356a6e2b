"""The page that says whether everything here works: what `tintype doctor` finds, and how each lane is."""

from __future__ import annotations

import anyio.to_thread
from starlette.responses import Response

from tintype.checks import all_findings
from tintype.web.services import Call
from tintype.web.studio.models import lanes_of
from tintype.web.studio.page import page, show


@page
async def show_doctor(call: Call) -> Response:
    """Answers `GET /doctor`."""
    findings = await anyio.to_thread.run_sync(all_findings, call.settings)
    return await show(call, "doctor.html", findings=findings, lanes=await lanes_of(call))
