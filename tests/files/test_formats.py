from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest

from tintype.files.formats import (
    FORMATS,
    content_type_of_name,
    suffix_for,
    suffix_of_bytes,
    suffix_of_name,
    suffix_of_type,
)


def test_the_name_in_the_url_speaks_first() -> None:
    assert suffix_for("https://h/a/photos.tar.gz?x=.zip", content_type="application/zip") == ".tar.gz"
    assert suffix_for("https://h/PHOTOS.ZIP") == ".zip"
    assert suffix_for("https://h/l%C3%B6ra.safetensors") == ".safetensors"


def test_then_the_disposition_the_bytes_and_the_content_type() -> None:
    assert suffix_for("https://h/get", disposition='attachment; filename="a.tgz"') == ".tgz"
    assert suffix_for("https://h/get", content_type="text/plain", head=b"PK\x03\x04") == ".zip"
    assert suffix_for("https://h/get", content_type="image/webp; q=1") == ".webp"
    assert suffix_for("https://h/get.php") == ".bin"


def test_archives_and_weights_are_known_by_their_bytes() -> None:
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("a", "b")
    assert suffix_of_bytes(tar.getvalue()[:512]) == ".tar"
    assert suffix_of_bytes(zipped.getvalue()[:512]) == ".zip"
    assert suffix_of_bytes(gzip.compress(b"x")) == ".tar.gz"
    assert suffix_of_bytes((40).to_bytes(8, "little") + b'{"__metadata__":{}}') == ".safetensors"


@pytest.mark.parametrize("head", [b"", b"x", b"{" * 20, b"\0" * 512])
def test_nothing_known_is_nothing(head: bytes) -> None:
    assert suffix_of_bytes(head) == ""
    assert suffix_of_name("photos") == ""


def test_suffixes_and_content_types_lead_to_each_other() -> None:
    for kind in FORMATS:
        for suffix in kind.suffixes:
            assert suffix_of_name("A" + suffix.upper()) == suffix
            assert content_type_of_name("a" + suffix) == (kind.types or ("application/octet-stream",))[0]
        assert {suffix_of_type(name) for name in kind.types} <= {kind.suffixes[0]}
    assert content_type_of_name("a.exe") == "application/octet-stream"
