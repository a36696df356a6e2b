"""A damaged picture is never trained, in whatever format, and what is odd about a good one costs nothing."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.support.images import display_p3, encoded, scene

from tintype.dataset.image import Photo, is_picture, read_photo, register_heif
from tintype.errors import ImageLoadError, UnsupportedImage

SIZE = (120, 90)
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {}), "progressive": ("JPEG", {"progressive": True}), "png": ("PNG", {}), "webp": ("WEBP", {}),
    "lossless": ("WEBP", {"lossless": True}), "gif": ("GIF", {}), "bmp": ("BMP", {}), "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}), "tiff-zip": ("TIFF", {"compression": "tiff_adobe_deflate"}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}), "heif": ("HEIF", {}), "avif": ("AVIF", {}),
}  # fmt: skip


def made(way: str) -> bytes:
    register_heif()
    form, options = WAYS[way]
    return encoded(scene(size=SIZE), form, **options)


def read(tmp_path: Path, content: bytes, name: str = "a.pic") -> Photo:
    (tmp_path / "file").write_bytes(content)
    return read_photo(tmp_path / "file", name, most_pixels=1_000_000)


def chunks(png: bytes) -> Iterable[tuple[int, bytes, int]]:
    """Where each chunk begins, its kind, and where it ends."""
    at = 8
    while at < len(png):
        end = at + 12 + int.from_bytes(png[at : at + 4], "big")
        yield at, png[at + 4 : at + 8], end
        at = end


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunks(png: bytes, added: Iterable[bytes], before: bytes = b"IDAT") -> bytes:
    at = next(begin for begin, kind, _ in chunks(png) if kind == before)
    return png[:at] + b"".join(added) + png[at:]


def flipped(content: bytes, at: int) -> bytes:
    changed = bytearray(content)
    changed[at] ^= 0x55
    return bytes(changed)


def pngs() -> dict[str, bytes]:
    image, exif = scene(size=SIZE), Image.Exif()
    exif[0x0112] = 6
    frames = [scene(seed, SIZE) for seed in range(3)]
    target = io.BytesIO()
    frames[0].save(target, "PNG", save_all=True, append_images=frames[1:])
    return {
        "rgb": encoded(image), "grey": encoded(image.convert("L")), "palette": encoded(image.convert("P")),
        "alpha": encoded(image.convert("RGBA")), "tagged": encoded(image, exif=exif), "animated": target.getvalue(),
        "deep": encoded(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)),
        "profile": encoded(image, icc_profile=display_p3()),
    }  # fmt: skip


@pytest.mark.parametrize("which", pngs())
def test_no_byte_of_a_png_can_change_unnoticed(tmp_path: Path, which: str) -> None:
    png = pngs()[which]
    assert read(tmp_path, png).size in (SIZE, SIZE[::-1])
    ends = [spot for begin, _, end in chunks(png) for spot in (begin, begin + 4, begin + 8, end - 4, end - 1)]
    for at in sorted({*ends, *range(8, len(png), len(png) // 12)} & set(range(len(png)))):
        with pytest.raises(ImageLoadError, match=r"a\.pic is damaged"):
            read(tmp_path, flipped(png, at))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("missing", [12, 40, 0.1, 0.5])
def test_a_picture_without_its_end_is_damaged(tmp_path: Path, way: str, missing: float) -> None:
    content = made(way)
    lost = missing if isinstance(missing, int) else int(len(content) * missing)
    with pytest.raises((ImageLoadError, UnsupportedImage), match=r"a\.pic"):
        read(tmp_path, content[:-lost])


@pytest.mark.parametrize("way", [way for way in WAYS if way not in ("bmp", "tiff")])  # there zeros are black
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_copy_that_was_never_finished_is_damaged(tmp_path: Path, way: str, share: float) -> None:
    content = made(way)
    whole = int(len(content) * share)
    with pytest.raises(ImageLoadError, match=r"a\.pic is damaged"):
        read(tmp_path, content[:whole] + bytes(len(content) - whole))


JPEGS: dict[str, tuple[str, dict[str, Any]]] = {
    "usual": ("RGB", {"quality": 90}), "small": ("RGB", {"quality": 60, "subsampling": 2}), "grey": ("L", {}),
    "progressive": ("RGB", {"progressive": True}), "restarts": ("RGB", {"restart_marker_blocks": 8}),
}  # fmt: skip


@pytest.mark.parametrize("way", JPEGS)
@pytest.mark.parametrize("share", [0.35, 0.6, 0.85])
def test_a_jpeg_that_lost_a_part_is_damaged_though_it_ends_as_it_should(tmp_path: Path, way: str, share: float) -> None:
    mode, options = JPEGS[way]
    jpeg = encoded(scene(size=(480, 360)).convert(mode), "JPEG", **options)
    assert read(tmp_path, jpeg).size == (480, 360)
    at = int(len(jpeg) * share)
    faults = [jpeg[:at] + b"\xff\xd9"]
    if way != "restarts":  # between two of these marks a decoder finds its way again
        faults += [jpeg[:at] + bytes(3000) + jpeg[at + 3000 :], jpeg[:at] + jpeg[at + 3000 :]]
    for damaged in faults:
        with pytest.raises(ImageLoadError, match=r"a\.pic is damaged"):
            read(tmp_path, damaged)


@pytest.mark.parametrize("behind", [b"\0", b"\xff\xff", b"ab" * 20, bytes(9000)])
def test_what_cameras_leave_behind_the_last_pixel_is_no_damage(tmp_path: Path, behind: bytes) -> None:
    jpeg = made("jpeg")
    for content in (jpeg[:-2] + behind + jpeg[-2:], jpeg + behind, jpeg + bytes(9000), jpeg + b"video" * 5000):
        assert read(tmp_path, content).crop().tobytes() == read(tmp_path, jpeg).crop().tobytes()


@pytest.mark.parametrize("way", JPEGS)
def test_a_jpeg_is_read_as_pillow_reads_it(tmp_path: Path, way: str) -> None:
    mode, options = JPEGS[way]
    jpeg = encoded(scene(size=(131, 77)).convert(mode), "JPEG", **options)
    with Image.open(io.BytesIO(jpeg)) as opened:
        assert read(tmp_path, jpeg).crop().tobytes() == opened.convert("RGB").tobytes()


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_with_nothing_but_its_first_bytes_is_damaged(tmp_path: Path, way: str) -> None:
    for rest in (b"", b"\xff" * 3000, bytes(3000)):
        with pytest.raises(ImageLoadError, match="damaged"):
            read(tmp_path, made(way)[:18] + rest)


def text(kind: bytes, size: int) -> bytes:
    content = b"x" * size
    return {
        b"tEXt": chunk(b"tEXt", b"prompt\0" + content),
        b"zTXt": chunk(b"zTXt", b"prompt\0\0" + zlib.compress(content)),
        b"iTXt": chunk(b"iTXt", b"prompt\0\0\0en\0\0" + content),
        b"iTXz": chunk(b"iTXt", b"prompt\0\1\0en\0\0" + zlib.compress(content)),
    }[kind]


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iTXz"])
@pytest.mark.parametrize("before", [b"IDAT", b"IEND"])
def test_long_texts_cost_nothing(tmp_path: Path, kind: bytes, before: bytes) -> None:
    png = made("png")
    for texts in ([text(kind, 2_000_000)], [text(kind, 1_048_577), text(kind, 20_000_000)]):
        photo = read(tmp_path, with_chunks(png, texts, before))
        assert photo.crop().tobytes() == read(tmp_path, png).crop().tobytes()


def test_many_texts_cost_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, with_chunks(made("png"), [text(b"zTXt", 1_000_000)] * 70)).size == SIZE


@pytest.mark.parametrize(
    "odd",
    [
        chunk(b"pHYs", b"\1"), chunk(b"gAMA", b""), chunk(b"sRGB", b""), chunk(b"cHRM", b"\0"), chunk(b"tIME", b"x"),
        chunk(b"caBX", bytes(3_000_000)), chunk(b"zTXt", b"k\0\0no zlib"), chunk(b"iTXt", b"\xff"),
        chunk(b"iCCP", b"p\0\0no zlib"), chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(50_000_000))),
        chunk(b"eXIf", b"no tags"),
    ],
    ids=lambda odd: odd[4:12],
)  # fmt: skip
def test_odd_chunks_beside_the_pixels_cost_nothing(tmp_path: Path, odd: bytes) -> None:
    png = made("png")
    assert read(tmp_path, with_chunks(png, [odd])).crop().tobytes() == read(tmp_path, png).crop().tobytes()


def test_a_long_profile_is_used(tmp_path: Path) -> None:
    profile = display_p3()
    long = struct.pack(">I", len(profile) + 3_000_000) + profile[4:] + bytes(3_000_000)
    png = made("png")
    plain = read(tmp_path, with_chunks(png, [chunk(b"iCCP", b"p\0\0" + zlib.compress(profile))]))
    photo = read(tmp_path, with_chunks(png, [chunk(b"iCCP", b"p\0\0" + zlib.compress(long))]))
    assert "colours converted to sRGB" in photo.repairs
    assert photo.crop().tobytes() == plain.crop().tobytes() != read(tmp_path, png).crop().tobytes()


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF", "HEIF", "AVIF", "PNG"])
def test_long_profiles_and_tags_cost_nothing_in_any_format(tmp_path: Path, form: str) -> None:
    register_heif()
    profile = display_p3()
    long = struct.pack(">I", len(profile) + 3_000_000) + profile[4:] + bytes(3_000_000)
    options = {"exif": b"Exif\0\0" + bytes(60_000)} if form == "JPEG" else {"xmp": b"x" * 2_000_000}
    target = io.BytesIO()
    scene(size=SIZE).save(target, form, icc_profile=long, **({} if form in ("PNG", "TIFF") else options))
    assert read(tmp_path, target.getvalue()).size == SIZE


def test_a_png_may_have_an_orientation_before_and_after_its_pixels(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    png = made("png")
    for before in (b"IDAT", b"IEND"):
        photo = read(tmp_path, with_chunks(png, [chunk(b"eXIf", exif.tobytes()[6:])], before))
        assert photo.size == SIZE[::-1]
        assert "turned upright" in photo.repairs


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_is_known_by_its_first_bytes(tmp_path: Path, way: str) -> None:
    (tmp_path / "a").write_bytes(made(way))
    assert is_picture(tmp_path / "a")


@pytest.mark.parametrize(
    "words", [b"", b"BMW in the street, a red car", b"GIF", b"MM and II", b"RIFF", b"{}", b"\xff\xfea\0", b"ftypheic"]
)
def test_words_are_no_picture(tmp_path: Path, words: bytes) -> None:
    (tmp_path / "a").write_bytes(words)
    assert not is_picture(tmp_path / "a")
