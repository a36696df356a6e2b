"""The manual cannot rot: its links lead somewhere, its error tables are the code's, its quotes are what is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tintype import catalog, errors
from tintype.catalog.endpoint import _FAL_TYPES
from tintype.web.pages import ERRORS_PAGE

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("*.md"))
SOURCE = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
ERROR_TYPES = re.findall(r"<dt id='(\w+)'>", ERRORS_PAGE)
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target, anchor in LINK.findall(page.read_text()):
        if "://" in target:
            continue
        led = page.parent / target if target else page
        assert led.exists(), f"{page.name} links {target}"
        if anchor:
            assert anchor in anchors(led), f"{page.name} links {target}#{anchor}"


def test_the_index_lists_every_page() -> None:
    linked = {target for target, _ in LINK.findall((ROOT / "docs" / "README.md").read_text())}
    assert linked == {page.name for page in PAGES} - {"README.md"}


def rows(title: str) -> list[list[str]]:
    """The cells of the table below a title of the page on errors."""
    text = (ROOT / "docs" / "errors.md").read_text()
    section = text.split(f"\n## {title}", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]


def descendants(kind: type[errors.TintypeError]) -> set[type[errors.TintypeError]]:
    return {kind}.union(*(descendants(child) for child in kind.__subclasses__()))


def test_every_error_of_an_input_is_explained() -> None:
    explained = {name for row in rows("What was sent cannot be used") for name in re.findall(r"`([a-z_]+)`", row[0])}
    ours = {kind.type for kind in descendants(errors.InputError)} | set(_FAL_TYPES.values())
    assert ours <= explained
    assert ours <= set(ERROR_TYPES)


def test_every_error_of_a_request_is_explained_with_its_status() -> None:
    table = rows("The request itself cannot be served")
    explained = {(int(row[0]), row[1].strip("`")) for row in table}
    answered = descendants(errors.RequestError) | descendants(errors.JobError)
    assert explained == {(kind.status, kind.type) for kind in answered if kind is not errors.RequestError}
    assert {type_ for _, type_ in explained} <= set(ERROR_TYPES)
    assert all(row[2] and row[3] for row in table)


def test_every_type_on_the_servers_own_page_is_in_the_manual() -> None:
    text = (ROOT / "docs" / "errors.md").read_text()
    assert [type_ for type_ in ERROR_TYPES if f"`{type_}`" not in text] == []


@pytest.mark.parametrize("title", ["When the work itself failed", "When nothing starts"])
def test_what_the_manual_quotes_is_what_the_program_says(title: str) -> None:
    for quoted, *told in rows(title):
        assert quoted.strip('"') in SOURCE, quoted
        assert all(told)


def test_every_setting_that_the_manual_names_is_one() -> None:
    from tintype.settings import known_variables

    known = known_variables()
    for page in (ROOT / "README.md", *PAGES):
        named = set(re.findall(r"\bTINTYPE_[A-Z0-9_]*[A-Z0-9]\b(?!…)", page.read_text()))
        assert named <= known, page.name


def test_every_module_that_opens_a_file_for_writing_has_its_bound_in_the_manual() -> None:
    writes = re.compile(
        r"""open\(\s*["'](w|a|x|r\+)|fdopen\([^)]*["'][wa]|write_text|write_bytes|copyfile|save_file\(|shutil\.move|mkstemp"""
        r"|(image|mask)\.save\(path|snapshot_download|symlink_to|create_async_engine|NamedTemporaryFile|extractall"
    )
    source = ROOT / "src" / "tintype"
    writing = {
        str(path.relative_to(source))
        for path in source.rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8"))
    }
    assert {"files/spool.py", "dataset/prepare.py", "worker/child_process.py", "cli/weights.py"} <= writing
    page = (ROOT / "docs" / "disk.md").read_text()
    assert [module for module in sorted(writing) if f"`{module}`" not in page] == []


def test_the_readme_lists_every_endpoint_with_its_aliases() -> None:
    table = (ROOT / "README.md").read_text().split("\n## Endpoints\n", 1)[1].split("\n## ", 1)[0]
    listed = [re.findall(r"`([^`]+)`", row.split("|")[1]) for row in table.splitlines() if row.startswith("| `")]
    assert sorted(listed) == sorted([endpoint.id, *endpoint.aliases] for endpoint in catalog.ENDPOINTS)


def test_conformance_names_a_test_for_each_of_the_fourteen_groups() -> None:
    groups = re.findall(r"^\| (\d+) \|.*\| (.+) \|$", (ROOT / "docs" / "conformance.md").read_text(), re.MULTILINE)
    assert [int(number) for number, _ in groups] == list(range(1, 15))
    for number, named in groups:
        files = re.findall(r"`(tests/[\w/]+\.py)`", named)
        assert files, f"group {number} has no test"
        assert all((ROOT / name).is_file() for name in files), named
