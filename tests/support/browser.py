"""Chromium without a window, as Debian packages it, driven by Playwright; it downloads no browser of its own."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.web_server import WebServer

SECONDS = 60  # generous: the machine may be busy
expect.set_options(timeout=SECONDS * 1000)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser for as long as the block lasts; skips where there is none."""
    executable = shutil.which("chromium") or shutil.which("chromium-browser")
    if executable is None:
        pytest.skip("needs Chromium (make system installs it)")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@contextlib.contextmanager
def watched_page(browser: Browser, **options: Any) -> Iterator[Page]:
    """A page that must not break a rule of its policy, raise, or open a dialog that a script asked for."""
    wrong: list[str] = []
    context = browser.new_context(**options)
    context.set_default_timeout(SECONDS * 1000)
    page = context.new_page()
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("request", lambda sent: wrong.append(sent.url) if not sent.url.startswith(own(page.url)) else None)
    yield page
    context.close()
    assert wrong == []


def own(url: str) -> tuple[str, ...]:
    """What the addresses begin with that a page may ask for."""
    origin = "/".join(url.split("/")[:3])
    return ("http://127.0.0.1:", "blob:", "data:") if origin.startswith("about:") else (f"{origin}/", "blob:", "data:")


def sign_in(page: Page, server: WebServer, key: str) -> None:
    """Signs in with a key."""
    page.goto(f"{server.origin}/sign-in?to=/models")
    page.fill("#code", key)
    page.click("main button.primary")
    page.wait_for_url(f"{server.origin}/models")
