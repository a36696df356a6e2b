"""What is to be read here: the pages of endpoints and errors as Markdown, and where in them something stands.

Assistants read Markdown rather than HTML: every page has it at its own address for whoever accepts `text/markdown`, and
at that address with `.md` behind it.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

from starlette.responses import PlainTextResponse, Response

from tintype import catalog
from tintype.errors import Json
from tintype.web import llms, pages
from tintype.web.operation import answers
from tintype.web.services import Call
from tintype.web.submit import endpoint_of

_TEXT = ("text/markdown", "text/plain")
_MOST_FOUND = 5
_LONGEST = 2000  # characters of a part that are told
_SMALL_WORDS = frozenset(
    {"a", "an", "and", "are", "can", "do", "does", "for", "from", "how", "i", "in", "into", "is", "me", "my", "of",
     "on", "the", "to", "use", "what", "which", "with"}
)  # fmt: skip


@answers(_TEXT)
async def model_text(call: Call) -> Response:
    """Answers `GET /models/{endpoint id}`, `….md` and `…/llms.txt`: what it takes and returns, and programs."""
    return _markdown(call, llms.describe(await endpoint_of(call), call.params["endpoint"], call.origin))


@answers(_TEXT)
async def site_text(call: Call) -> Response:
    """Answers `GET /llms.txt`, `/models` and `/models.md`: what there is, each with the address of its own page."""
    return _markdown(call, llms.describe_site(call.origin))


@answers((pages.FRONT_JSON, "text/html", *_TEXT))
async def front(call: Call) -> Response:
    """Answers `GET /`: what this is, for people, programs and assistants."""
    return await (site_text(call) if _accepts_markdown(call) else pages.front(call))


@answers(_TEXT)
async def errors_text(call: Call) -> Response:
    """Answers `GET /docs/errors.md`: what each type of error means."""
    told = "\n".join(f"- **`{name}`**: {text}" for name, text in error_types())
    return _markdown(call, f"# Errors\n\n{told}\n")


@answers(("text/html", *_TEXT))
async def error_page(call: Call) -> Response:
    """Answers `GET /docs/errors`, where the `url` of every error leads."""
    return await (errors_text(call) if _accepts_markdown(call) else pages.error_page(call))


def search(query: str, origin: str) -> list[Json]:
    """Finds the parts that have most of what is looked for, the best first."""
    looked_for = words(query)
    scored = [(len(looked_for & words(f"{title} {text}")), title, url, text) for title, url, text in _parts(origin)]
    best = sorted((one for one in scored if one[0]), key=lambda one: -one[0])[:_MOST_FOUND]
    return [{"title": title, "url": url, "text": text[:_LONGEST]} for _, title, url, text in best]


def as_text(found: Json) -> str:
    """Writes a part that was found as the search of fal's documentation does."""
    return f"Title: {found['title']}\nLink: {found['url']}\nContent: {found['text']}"


def words(text: str) -> set[str]:
    """Takes the words that may tell something, and their beginnings: training and train are to meet, if not as well."""
    told = set(re.findall(r"\w+", text.lower())) - _SMALL_WORDS
    return told | {word[:5].rstrip("s") for word in told}


def error_types() -> Iterator[tuple[str, str]]:
    """Yields each type of error and what it means."""
    for name, text in re.findall(r"<dt id='(\w+)'>.*?</dt>\s*<dd>(.*?)</dd>", pages.ERRORS_PAGE, re.DOTALL):
        yield name, html.unescape(re.sub(r"<[^>]+>", "", text))


def _parts(origin: str) -> Iterator[tuple[str, str, str]]:
    """Yields title, URL and text of each part: the sections of every model's page, and what each error means."""
    for endpoint in catalog.ENDPOINTS:
        for section in llms.describe(endpoint, endpoint.id, origin).split("\n## ")[1:]:
            title, _, text = section.partition("\n")
            yield f"{endpoint.title}: {title}", f"{origin}/models/{endpoint.id}/llms.txt", text.strip()
    for name, text in error_types():
        yield f"Error {name}", f"{origin}/docs/errors#{name}", text


def _markdown(call: Call, text: str) -> Response:
    """Answers with Markdown; a browser would save what is called so, and shows it as plain text."""
    is_browser = "text/html" in call.http.headers.get("accept", "")
    return PlainTextResponse(text, media_type=_TEXT[is_browser], headers={"Vary": "Accept"})


def _accepts_markdown(call: Call) -> bool:
    accepted = call.http.headers.get("accept", "")
    return "text/markdown" in accepted and "text/html" not in accepted
