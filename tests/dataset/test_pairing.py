"""Which picture a name means: identities, then stems, then folded letters, and no guess between two."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import pytest

from tintype.dataset.pairing import Claim, Pairing, beside, listed, pair


def paired(
    pictures: Sequence[str], files: Sequence[str] = (), rows: Mapping[str, str] | None = None, folder: str = ""
) -> Pairing:
    """Pairs caption files, given without their own suffix, or rows of one table, with pictures."""
    claims = [Claim(name, name, name, beside(name)) for name in files]
    claims += [Claim(text, name, "table", listed(name, folder)) for name, text in (rows or {}).items()]
    return pair(claims, {path: path for path in pictures}, {})


def found(pairing: Pairing) -> dict[str, str]:
    return {picture: claim.text for picture, claim in pairing.found.items()}


def test_two_pictures_of_one_stem_have_each_its_own_row() -> None:
    assert found(paired(["1.jpg", "1.png"], rows={"1.jpg": "a", "1.png": "b"})) == {"1.jpg": "a", "1.png": "b"}
    assert found(paired(["1.jpg", "1.png"], rows={"1.png": "b"})) == {"1.png": "b"}


def test_two_pictures_that_differ_in_case_or_unicode_form_alone_have_each_its_own_row() -> None:
    composed, apart = (unicodedata.normalize(form, "Zoë.jpg") for form in ("NFC", "NFD"))
    names = ["a.jpg", "A.JPG", composed, apart]
    assert found(paired(names, rows={name: f"of {name}" for name in names})) == {name: f"of {name}" for name in names}


@pytest.mark.parametrize(
    "names", [["a.v1.0.png", "a.v1.1.png", "a.v1.png", "a.png"], ["a.b.c.jpg", "a.b.jpg", "a.jpg"]]
)
def test_stems_with_dots_are_whole_stems(names: list[str]) -> None:
    stems = {name.rpartition(".")[0]: name for name in names}
    assert found(paired(names, rows=stems)) == {name: name for name in names}
    assert found(paired(names, files=list(stems))) == {name: stem for stem, name in stems.items()}


def test_a_stem_is_not_cut_at_its_number() -> None:
    assert paired(["a.v1.png"], rows={"a.v1.0": "x"}).found == {}
    assert paired(["a.png"], files=["a.2"]).found == {}


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("a.jpg", "a"), ("a.jpg", "a.jpg"), ("a.jpg", "a.png"), ("a.JPG", "A.jpg"), ("IMG_1.HEIC", "img_1"),
        ("Zoë.jpg", unicodedata.normalize("NFD", "zoë")), ("STRASSE.jpg", "straße"), ("a", "a"), ("a.jpg_large", "a"),
        ("a.jpg ", "a"), ("a.jpg (1)", "a.jpg (1)"), ("in/a.jpg", "in/a"),
    ],
)  # fmt: skip
def test_one_name_written_otherwise_is_found_where_it_is_the_only_one(picture: str, name: str) -> None:
    assert found(paired([picture, "other.png"], files=[name])) == {picture: name}
    assert found(paired([picture, "other.png"], rows={name: "x"})) == {picture: "x"}


@pytest.mark.parametrize(
    ("pictures", "name"),
    [
        (["a.jpg", "a.png"], "a"), (["a.jpg", "a.png"], "a.webp"), (["Ab.jpg", "aB.jpg"], "ab.jpg"),
        (["images/a.jpg", "photos/a.jpg"], "captions/a"), (["Zoë.jpg", unicodedata.normalize("NFD", "Zoë.jpg")], "zoë"),
        (["K.jpg", "\u212a.jpg"], "k.jpg"),
        (["a", "a.png"], "a"), (["a.v1", "a.v1.png"], "a.v1"),
    ],
)  # fmt: skip
def test_what_may_be_about_two_is_given_to_none_and_told(pictures: list[str], name: str) -> None:
    pairing = paired(pictures, files=[name])
    assert (pairing.found, pairing.unknown) == ({}, [])
    assert [(claim.name, hits) for claim, hits in pairing.doubtful] == [(name, sorted(pictures))]


def test_two_that_differ_about_one_picture_are_both_left() -> None:
    pairing = paired(["1.jpg"], rows={"/x/1.jpg": "a", "/y/1.jpg": "b"})
    assert pairing.found == {}
    assert [claim.text for claim in pairing.rivals["1.jpg"]] == ["a", "b"]


def test_two_that_say_the_same_about_one_picture_are_both_used() -> None:
    pairing = paired(["1.jpg"], rows={"/x/1.jpg": "a", "/y/1.jpg": "a"})
    assert [(claim.name, picture) for claim, picture in pairing.used()] == [
        ("/x/1.jpg", "1.jpg"),
        ("/y/1.jpg", "1.jpg"),
    ]


def test_the_first_of_several_captions_under_one_name_is_taken() -> None:
    claims = [Claim(text, "a.jpg", "table", listed("a.jpg", "")) for text in ("one", "two")]
    pairing = pair(claims, {"a.jpg": "a.jpg"}, {})
    assert pairing.found["a.jpg"].text == "one"
    assert [claim.text for claim, _ in pairing.repeated] == ["two"]


def test_a_name_that_is_taken_literally_leaves_the_other_to_the_stem() -> None:
    assert found(paired(["a.jpg", "a.png"], files=["a.png", "a"])) == {"a.png": "a.png", "a.jpg": "a"}
    pairing = paired(["a.jpg"], files=["a.jpg", "A", "a"])
    assert found(pairing) == {"a.jpg": "a.jpg"}
    assert [(claim.name, picture) for claim, picture in pairing.repeated] == [("A", "a.jpg"), ("a", "a.jpg")]
    assert [claim.name for claim in paired(["1.png"], rows={"1.png": "x", "1.jpg": "y"}).unknown] == ["1.jpg"]


def test_one_shot_in_two_formats_is_one_picture() -> None:
    claims = [Claim("x", "1.txt", "1.txt", beside("1"))]
    pictures = {name: name for name in ("1.heic", "1.jpg")}
    assert found(pair(claims, pictures, {"1.heic": "1.jpg"})) == {"1.jpg": "x"}


@pytest.mark.parametrize(
    ("picture", "name"),
    [
        ("a.jpg", "captions/a"), ("images/a.jpg", "captions/a"), ("train/images/a.jpg", "train/labels/a"),
        ("img/10_ohwx/a.jpg", "txt/10_ohwx/a"), ("Images/a.jpg", "Captions/a"), ("images/a.jpg", "a"),
    ],
)  # fmt: skip
def test_a_folder_of_captions_is_about_the_folder_beside_it(picture: str, name: str) -> None:
    assert found(paired([picture], files=[name])) == {picture: name}


@pytest.mark.parametrize(
    ("picture", "name"),
    [("x/a.jpg", "y/a"), ("x/a.jpg", "a"), ("a.jpg", "x/a"), ("train/images/a.jpg", "test/labels/a")],
)
def test_a_file_in_another_folder_is_about_another_picture(picture: str, name: str) -> None:
    pairing = paired([picture], files=[name])
    assert pairing.found == {}
    assert [claim.name for claim in pairing.unknown] == [name]


@pytest.mark.parametrize(
    ("picture", "name", "folder"),
    [
        ("set/images/a.jpg", "images/a.jpg", "set"), ("set/a.jpg", "/home/me/set/a.jpg", "set"),
        ("a.jpg", "C:\\set\\a.jpg", ""), ("set/a.jpg", "../set/a.jpg", "set"),
        ("set/a.jpg", "/home/me/photos/a.jpg", "set"), ("images/a.jpg", "../images/a.jpg", "captions"),
        ("images/a.jpg", "a.jpg", ""), ("images/a.jpg", "a", "captions"),
        ("a.jpg", "images/a.jpg", ""), ("deep/er/a.jpg", "er/a", ""), ("a.jpg", "./a.jpg", ""),
        ("10_x/a.jpg", "/mnt/d/10_x/a.jpg", ""), ("a.jpg", "https://me.example/set/a.jpg", ""),
    ],
)  # fmt: skip
def test_a_path_of_a_table_is_relative_to_it_or_of_another_computer(picture: str, name: str, folder: str) -> None:
    assert found(paired([picture, "other/b.jpg"], rows={name: "x"}, folder=folder)) == {picture: "x"}


def test_paths_of_another_computer_keep_their_folders() -> None:
    pictures = ["10_a/1.jpg", "5_b/1.jpg"]
    rows = {"/x/10_a/1.jpg": "a", "/x/5_b/1.jpg": "b"}
    assert found(paired(pictures, rows=rows)) == {"10_a/1.jpg": "a", "5_b/1.jpg": "b"}
    assert paired(["y/1.jpg"], rows={"x/1.jpg": "of another"}).found == {}


def test_what_names_a_file_that_is_no_picture_names_no_picture() -> None:
    claims = [Claim(name, name, name, beside(name)) for name in ("a.nef", "captions/b.v1", "c")]
    pictures, others = ({name: name for name in names} for names in (("a.jpg", "b.v1.png", "c.jpg"),
                                                                     ("a.nef", "captions/b.v1", "c.mov")))  # fmt: skip
    assert found(pair(claims, pictures, {}, others)) == {
        "a.nef": "a.nef",
        "captions/b.v1": "captions/b.v1",
        "c.jpg": "c",
    }


def test_a_long_table_about_other_photos_costs_little() -> None:
    rows = {f"/set/{number}.jpg": "x" for number in range(20_000)}
    assert list(found(paired(["7.jpg"], rows=rows))) == ["7.jpg"]
