"""Captions in every form in which trainers leave them: what a file says about its own photo, and about others."""

from __future__ import annotations

import json

import pytest

from tintype.dataset.caption_forms import Reading, read_caption_file, summary_of

STRUCTURED = {
    "high_level_description": "a portrait of zwx",
    "compositional_deconstruction": {"background": "a wall", "elements": [{"type": "obj", "desc": "zwx smiling"}]},
}
COMPACT = json.dumps(STRUCTURED, separators=(",", ":"))


@pytest.mark.parametrize("field", ["file_name", "image", "image_path", "path", "File Name", "img_path"])
@pytest.mark.parametrize("text", ["text", "caption", "prompt", "Caption", "tags"])
def test_json_lines_are_read_under_every_common_name(field: str, text: str) -> None:
    lines = "\n".join(json.dumps({field: f"{n}.jpg", text: f"[trigger] {n}"}) for n in (1, 2))
    assert read_caption_file(lines, ".jsonl").rows == [("1.jpg", "[trigger] 1"), ("2.jpg", "[trigger] 2")]


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", '{"a.jpg": "one"}'),
        (".json", '{"a.jpg": {"caption": "one", "tags": "x"}}'),
        (".json", '{"a.jpg": {"tags": ["one"]}}'),
        (".json", '{"a.jpg": ["one", "two"]}'),
        (".json", '[{"file_name": "a.jpg", "text": "one"}]'),
        (".json", '{"file_name": "a.jpg", "text": "one"}'),
        (".json", '{"version": 1, "data": [{"image": "a.jpg", "caption": "one"}]}'),
        (".json", '{"images": [{"id": 7, "file_name": "a.jpg"}], "annotations": [{"image_id": 7, "caption": "one"}]}'),
        (".json", '{"file_name": "a.jpg", "text": "one"}\n{"text": "nobody"}'),
        (".csv", "file_name,text\r\na.jpg,one\r\n"),
        (".csv", "\ufeffImage;Caption\na.jpg;one\n"),
        (".csv", "sep=;\nfile_name;text\na.jpg;one\n"),
        (".csv", "id\tfile name\tcaption\n1\ta.jpg\tone\n"),
        (".csv", "a.jpg,one\n"),
        (".csv", 'a.jpg|"one"\n'),
        (".tsv", "path\tprompt\na.jpg\tone\n"),
        (".tsv", "a.jpg\tone"),
        (".txt", "image,caption\na.jpg,one\n"),
        (".txt", "a.jpg\tone\n"),
        (".jsonl", "\ufeff" + '{"file_name": "a.jpg", "text": ["one", "two"]}'),
    ],
)
def test_tables_in_other_forms_say_the_same(suffix: str, content: str) -> None:
    assert read_caption_file(content, suffix).rows == [("a.jpg", "one")]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_sentence_that_nobody_quoted_stays_whole(delimiter: str) -> None:
    table = f"file_name{delimiter}text\na.jpg{delimiter}one{delimiter} two{delimiter} three\n"
    for text in (table, table.split("\n")[1]):
        told = " ".join(f"one{delimiter} two{delimiter} three".split())
        assert read_caption_file(text, ".csv").rows == [("a.jpg", told)]


@pytest.mark.parametrize(
    "content",
    [
        '"one"', '["one"]', '{"caption": "one"}', '{"text": ["one", "two"]}', '[{"prompt": "one"}]',
        '{"caption": "", "tags": ["one"]}', '{"width": 3, "description": " one "}', '{"name": "Ann", "caption": "one"}',
    ],
)  # fmt: skip
def test_json_about_one_photo_is_its_caption(content: str) -> None:
    assert read_caption_file(content, ".json").own == "one"


@pytest.mark.parametrize("suffix", [".json", ".txt", ".caption"])
@pytest.mark.parametrize("wrap", ["{}", '{{"caption": {}}}', '{{"text": {}}}', "[{}]"])
def test_a_caption_in_ideograms_schema_is_kept_as_one(suffix: str, wrap: str) -> None:
    assert read_caption_file(wrap.format(json.dumps(STRUCTURED, indent=2)), suffix).own == COMPACT


def test_a_broken_caption_in_the_schema_is_left_to_the_trainer_that_knows_it() -> None:
    assert read_caption_file(COMPACT[:-1], ".json").own == COMPACT[:-1]


def test_a_long_caption_in_the_schema_is_not_cut() -> None:
    said = json.dumps({"high_level_description": "x" * 20_000})
    assert json.loads(read_caption_file(said, ".json").own or "") == json.loads(said)


def test_a_table_may_hold_captions_in_the_schema() -> None:
    assert read_caption_file(json.dumps({"file_name": "a.jpg", "text": STRUCTURED}), ".jsonl").rows == [
        ("a.jpg", COMPACT)
    ]


@pytest.mark.parametrize(
    ("said", "summary"),
    [
        (COMPACT, "a portrait of zwx"),
        (
            json.dumps({"compositional_deconstruction": STRUCTURED["compositional_deconstruction"]}),
            "zwx smiling, a wall",
        ),
        ('{"a": "b"}', '{"a": "b"}'),
        ("a portrait", "a portrait"),
        ("{broken", "{broken"),
        ('{"high_level_description": 3, "compositional_deconstruction": [3]}', ""),
    ],
)
def test_a_model_without_a_schema_gets_the_summary(said: str, summary: str) -> None:
    assert summary_of(said) == summary


def test_lines_that_cannot_be_used_are_named_and_the_others_count() -> None:
    lines = ['{"file_name": "a.jpg", "text": "one"}', "not json", "[1]", '{"text": "x"}', '{"file_name": "b.jpg"}']
    table = read_caption_file("\n".join(lines), ".jsonl")
    assert table.rows == [("a.jpg", "one")]
    assert [problem.split(" ")[:2] for problem in table.problems] == [["line", str(n)] for n in (2, 3, 4, 5)]


@pytest.mark.parametrize(
    "content",
    ["", "[" * 100_000, '{"a": ' * 50_000, "null", "9" * 5000, "[[[]]]", "[" * 900 + "]" * 900, '"', "\x00,\x00"],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv"])
def test_nonsense_has_no_captions_and_no_crash(suffix: str, content: str) -> None:
    reading = read_caption_file(content, suffix)
    assert (reading.own, reading.rows) == (None, [])


def test_a_cell_beyond_reason_is_said_and_what_was_before_it_counts() -> None:
    reading = read_caption_file(f"file_name,text\na.jpg,one\nb.jpg,{'x' * 200_000}\n", ".csv")
    assert reading.rows == [("a.jpg", "one")]
    assert "it is no CSV" in reading.problems[0]


@pytest.mark.parametrize("nowhere", [".", "/", "./", "\\\\", " ", "./ ", ".."])
def test_a_path_to_nothing_names_no_picture(nowhere: str) -> None:
    table = read_caption_file(json.dumps({"file_name": nowhere, "text": "one"}), ".jsonl")
    assert (table.rows, table.problems) == ([], ["line 1 names no picture"])


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".json", '{"title": "a.jpg", "description": "", "photoTakenTime": {"timestamp": "1"}, "url": "x"}'),
        (".json", '{"title": "Album", "description": "", "access": "protected", "date": {"timestamp": "1"}}'),
        (".json", '{"id": "1", "name": "a", "description": "b", "date_imported": "x", "count_views": 3}'),
        (".csv", "imgName,fileChecksum,favorite,hidden\na.jpg,x,no,no\n"),
    ],
)
def test_what_a_photo_service_says_is_no_caption(suffix: str, content: str) -> None:
    assert read_caption_file(content, suffix) == Reading(of_service=True)


def test_what_cannot_be_written_is_not_read() -> None:
    half = "\\ud83d"  # of a letter, as JSON may spell it
    for content in (f'"a{half}b"', f'{{"caption": "a{half}b"}}', f'{{"high_level_description": "a{half}b"}}'):
        assert "a?b" in (read_caption_file(content, ".json").own or "")
    table = read_caption_file(f'{{"x{half}.jpg": "a{half}b", "y{half}\\n.jpg": 3}}', ".json")
    assert table.rows[0][1] == "a?b"
    assert table.problems == ["entry y\ufffd\ufffd.jpg says nothing about y\ufffd\ufffd.jpg"]
