"""A person at the pages, in real Chromium: by a link in, photos dropped, a training stopped and kept, its LoRA used.

The worker is that of the web tests, which trains nothing; acceptance has the journey with real trainings.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, expect
from tests.support.browser import chromium, sign_in, watched_page
from tests.support.javascript import HERE
from tests.support.web_server import WebServer, serving

from tintype import catalog
from tintype.settings import Settings
from tintype.sign_in import sign_in_url

HOSTILE = "slow <img src=x onerror=alert(1)><script>alert(2)</script>"
TRAINER = "/models/fal-ai/flux-lora-portrait-trainer"
DRAWER = "/models/fal-ai/flux-lora"
PAGES = [
    "/sign-in", "/", "/models", "/datasets", TRAINER, DRAWER, f"{DRAWER}/api", "/requests", "/loras", "/custom-models",
    "/files", "/keys", "/usage", "/doctor",
]  # fmt: skip

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with serving(Settings(data_dir=tmp_path_factory.mktemp("data")), as_declared=True) as running:
        yield running


def photos(folder: Path, count: int) -> list[Path]:
    """Pictures of different colours, the first of which has a name that means harm."""
    names = ["<img src=x onerror=alert(3)>.png", *(f"photo {number}.jpg" for number in range(1, count))]
    for number, name in enumerate(names):
        Image.new("RGB", (64, 64), (20 * number, 90, 160)).save(folder / name)
    return [folder / name for name in names]


def test_a_person_trains_stops_keeps_uses_and_deletes(browser: Browser, studio: WebServer, tmp_path: Path) -> None:
    link = sign_in_url(studio.origin, studio.settings.data_dir, studio.key.partition(":")[0])
    with watched_page(browser, viewport={"width": 1280, "height": 900}) as page:
        page.goto(link)
        page.wait_for_url(f"{studio.origin}/")
        assert "Three things are needed" in page.inner_text("main")

        page.goto(studio.origin + TRAINER)
        page.click("#more summary")
        page.fill("[data-path=learning_rate]", "7")
        page.click("#send")  # nothing is here to train on
        page.wait_for_selector("[data-field=learning_rate] .wrong-input")
        assert "URL is needed" in page.inner_text("[data-field=images_data_url]") or page.inner_text(
            "[data-field=images_data_url] .wrong-input"
        )
        page.fill("[data-path=learning_rate]", "0.0001")
        page.set_input_files("[data-archive] input[type=file]", photos(tmp_path, 3))
        expect(page.locator(".photos li")).to_have_count(3)
        expect(page.locator("[data-told]")).to_contain_text("3 photos.")
        page.fill(".photos li:nth-child(2) textarea", "a red caption")
        page.fill("[data-path=trigger_phrase]", HOSTILE)
        page.fill("[data-path=steps]", "10")
        assert page.inner_text("#send") == "Train 10 steps on 3 photos"
        expect(page.locator("#cost")).to_contain_text("$2.40")
        assert '"steps": 10' in page.inner_text("#code")

        page.click("#send")
        page.wait_for_selector("#run-stop:visible")
        assert "step 2 / 10" in page.inner_text("#run-where") or "step 1 / 10" in page.inner_text("#run-where")
        page.wait_for_selector("#run-curve circle, #run-curve path", state="attached")
        assert "line 2" in page.inner_text("#run-log")
        page.reload()  # all is as it was
        page.wait_for_selector("#run-stop:visible")
        assert page.input_value("[data-path=trigger_phrase]") == HOSTILE
        expect(page.locator(".photos li")).to_have_count(3)
        assert page.input_value(".photos li:nth-child(2) textarea") == "a red caption"

        page.click("#run-stop")
        page.wait_for_selector("#run-state.good")
        page.click("text=Use it: Images from FLUX.1 [dev] with LoRAs")
        page.wait_for_selector("[data-rows=loras] .part")
        assert page.input_value("[data-path='loras.0.path']").endswith("/lora.safetensors")
        assert page.input_value("[data-path=prompt]") == f"a portrait of {HOSTILE}"
        page.fill("[data-path=prompt]", "a portrait")
        page.fill("[data-path=num_images]", "4")
        assert page.inner_text("#send") == "Generate 4 images"
        page.click("#send")
        page.wait_for_selector("#run-state.good")

        page.goto(f"{studio.origin}/requests")
        assert HOSTILE[:40] in page.inner_text("table")
        page.click(f"table >> text={HOSTILE[:12]}")
        page.wait_for_selector("#run-state.good")
        page.on("dialog", lambda dialog: dialog.accept())
        page.click("text=Delete everything of it")
        page.wait_for_selector("#receipt")
        assert "sha256" in page.inner_text("#receipt")
        page.reload()
        assert "This request was forgotten" in page.inner_text("main")


def test_a_broken_connection_is_taken_up_and_a_failure_says_its_cause(browser: Browser, studio: WebServer) -> None:
    with watched_page(browser) as page:
        sign_in(page, studio, studio.key)
        page.goto(studio.origin + DRAWER)
        page.fill("[data-path=prompt]", "fail 422")
        page.click("#send")
        page.wait_for_selector("#run-problem:visible")
        told = page.inner_text("#run-problem")
        assert "Not an archive." in told
        assert "line 2" in told
        page.fill("[data-path=prompt]", "slow")
        page.click("#send")
        page.wait_for_selector("#run-cancel:visible")
        page.context.set_offline(True)
        page.context.set_offline(False)
        page.click("#run-cancel")
        expect(page.locator("#run-state")).to_have_text("cancelled")


@pytest.mark.long
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_on_a_page_keeps_anybody_out(browser: Browser, studio: WebServer, scheme: str, width: int) -> None:
    axe = HERE / "node_modules" / "axe-core" / "axe.min.js"
    if not axe.exists():
        pytest.skip("needs `npm ci` in tests/acceptance/js (make test does it)")
    with studio.client() as client:
        client.post("/queue/fal-ai/flux-lora-portrait-trainer", json={"images_data_url": "data:,x", "steps": 9})
        done = client.post("/run/fal-ai/flux-lora", json={"prompt": "a"}).headers["x-fal-request-id"]
    with watched_page(browser, viewport={"width": width, "height": 800}, color_scheme=scheme, bypass_csp=True) as page:
        sign_in(page, studio, studio.key)
        for path in (*PAGES, f"/requests/{done}"):
            page.goto(studio.origin + path)
            page.wait_for_load_state("networkidle" if path == "/sign-in" else "load")
            page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
            page.evaluate(axe.read_text())
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found] == [], path
            assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), f"{path} is too wide"


@pytest.mark.long
def test_every_form_can_be_sent_by_keyboard_alone(browser: Browser, studio: WebServer) -> None:
    with watched_page(browser) as page:
        sign_in(page, studio, studio.key)
        for endpoint in catalog.ENDPOINTS:
            page.goto(f"{studio.origin}/models/{endpoint.id}")
            page.focus("body")
            for _ in range(200):
                page.keyboard.press("Tab")
                if page.evaluate("document.activeElement.id") == "send":
                    break
            assert page.evaluate("document.activeElement.id") == "send", endpoint.id
