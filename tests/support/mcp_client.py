"""The official SDK's own MCP client, pointed at a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

Json = dict[str, Any]


class Assistant:
    """Calls tools as a program does that has this server's address and a key."""

    def __init__(self, client: Client) -> None:
        self.client = client

    async def call(self, tool: str, **fields: Any) -> Json:
        """Returns what a tool answers well."""
        failed, answer = await self.try_to(tool, **fields)
        assert not failed, answer
        return answer

    async def refused(self, tool: str, **fields: Any) -> Json:
        """Returns the error that a tool answers."""
        failed, answer = await self.try_to(tool, **fields)
        assert failed, answer
        return answer

    async def try_to(self, tool: str, **fields: Any) -> tuple[bool, Json]:
        result = await self.client.call_tool(tool, fields)
        return result.is_error, result.structured_content


@asynccontextmanager
async def assistant(origin: str, key: str, scheme: str = "Bearer") -> AsyncIterator[Assistant]:
    """An assistant that has introduced itself."""
    headers = {"Authorization": f"{scheme} {key}"}
    async with (
        httpx2.AsyncClient(headers=headers, timeout=120, trust_env=False) as http,
        Client(streamable_http_client(f"{origin}/mcp", http_client=http)) as client,
    ):
        yield Assistant(client)
