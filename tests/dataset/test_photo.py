"""Every kind of picture a person might send comes out as upright RGB, or as a sentence about what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tintype.dataset.photo import read_photo
from tintype.errors import ImageLoadError, ImageTooLarge, UnsupportedImage

PIXELS = 120_000_000


def left_red_right_blue(size: tuple[int, int] = (96, 64)) -> Image.Image:
    image = Image.new("RGB", size, (230, 20, 20))
    image.paste((20, 20, 230), (size[0] // 2, 0, *size))
    return image


def corners(image: Image.Image) -> list[str]:
    """What is at the top left and the bottom right."""
    spots = [image.getpixel((4, 4)), image.getpixel((image.width - 5, image.height - 5))]
    return ["red" if spot[0] > spot[2] else "blue" for spot in spots]  # type: ignore[index]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read_whatever_the_file_is_called(tmp_path: Path, form: str) -> None:
    import pillow_heif

    pillow_heif.register_heif_opener()
    left_red_right_blue().save(tmp_path / "a", form)
    photo = read_photo(tmp_path / "a", "a", most_pixels=PIXELS)
    assert (photo.image.mode, photo.image.size) == ("RGB", (96, 64))
    assert corners(photo.image) == ["red", "blue"]


@pytest.mark.parametrize(
    ("turn", "seen"), [(1, ["red", "blue"]), (3, ["blue", "red"]), (6, ["red", "blue"]), (8, ["blue", "red"])]
)
def test_the_camera_tag_turns_the_picture_upright(tmp_path: Path, turn: int, seen: list[str]) -> None:
    image = left_red_right_blue()
    exif = image.getexif()
    exif[0x0112] = turn
    image.save(tmp_path / "a.jpg", exif=exif)
    photo = read_photo(tmp_path / "a.jpg", "a.jpg", most_pixels=PIXELS)
    assert photo.image.size == ((96, 64) if turn in (1, 3) else (64, 96))
    assert corners(photo.image) == seen
    assert ("turned upright" in photo.repairs) == (turn != 1)


def test_sixteen_bit_greys_keep_their_tones(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    image = read_photo(tmp_path / "a.png", "a.png", most_pixels=PIXELS).image
    assert image.getpixel((128, 8)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "LA", "RGBA"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    name = "a.tif" if mode == "CMYK" else "a.png"
    left_red_right_blue().convert(mode).save(tmp_path / name)
    assert read_photo(tmp_path / name, name, most_pixels=PIXELS).image.mode == "RGB"


def test_transparency_is_laid_on_white_and_kept_as_a_mask(tmp_path: Path) -> None:
    image = left_red_right_blue().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste((0, 200, 0, 255), (30, 20, 60, 50))
    image.save(tmp_path / "a.png")
    photo = read_photo(tmp_path / "a.png", "a.png", most_pixels=PIXELS)
    assert photo.image.getpixel((2, 2)) == (255, 255, 255)
    assert photo.alpha is not None
    assert (photo.alpha.getpixel((2, 2)), photo.alpha.getpixel((40, 30))) == (0, 255)


def test_colours_mean_what_their_profile_says(tmp_path: Path) -> None:
    from PIL import ImageCms

    image = Image.new("RGB", (32, 32), (128, 128, 128))
    linear = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    for name, profile in [("srgb", ImageCms.createProfile("sRGB")), ("wrong", linear)]:
        icc = ImageCms.ImageCmsProfile(profile).tobytes() if name == "srgb" else linear.tobytes()
        image.save(tmp_path / f"{name}.png", icc_profile=icc)
        assert read_photo(tmp_path / f"{name}.png", name, most_pixels=PIXELS).image.getpixel((1, 1)) == (128, 128, 128)
    image.save(tmp_path / "broken.png", icc_profile=b"no profile at all")
    assert read_photo(tmp_path / "broken.png", "broken", most_pixels=PIXELS).image.getpixel((1, 1)) == (128, 128, 128)


def test_what_cameras_call_a_pair_is_its_first_picture(tmp_path: Path) -> None:
    left_red_right_blue().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    photo = read_photo(tmp_path / "a.jpg", "a.jpg", most_pixels=PIXELS)
    assert corners(photo.image) == ["red", "blue"]
    assert photo.repairs == ()


def test_an_opaque_alpha_channel_is_no_mask(tmp_path: Path) -> None:
    left_red_right_blue().convert("RGBA").save(tmp_path / "a.png")
    assert read_photo(tmp_path / "a.png", "a.png", most_pixels=PIXELS).alpha is None


def test_a_moving_picture_gives_its_first_frame_and_says_so(tmp_path: Path) -> None:
    frames = [left_red_right_blue(), Image.new("RGB", (96, 64))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    photo = read_photo(tmp_path / "a.gif", "a.gif", most_pixels=PIXELS)
    assert corners(photo.image) == ["red", "blue"]
    assert any("frame" in repair for repair in photo.repairs)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_picture_is_found_out(tmp_path: Path, form: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    noise.save(tmp_path / "a", form)
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((ImageLoadError, UnsupportedImage), match=r"a\.pic"):
        read_photo(tmp_path / "a", "a.pic", most_pixels=PIXELS)


def test_text_called_jpg_is_an_unsupported_format(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(UnsupportedImage) as caught:
        read_photo(tmp_path / "a.jpg", "a.jpg", most_pixels=PIXELS)
    assert "jpg" in caught.value.details[0]["ctx"]["supported_formats"]


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(tmp_path / "a.png")
    with pytest.raises(ImageTooLarge) as caught:
        read_photo(tmp_path / "a.png", "a.png", most_pixels=PIXELS)
    assert caught.value.details[0]["ctx"]["max_width"] == int(PIXELS**0.5)


def test_a_large_jpeg_is_reduced(tmp_path: Path) -> None:
    left_red_right_blue((6000, 3000)).save(tmp_path / "a.jpg")
    assert max(read_photo(tmp_path / "a.jpg", "a.jpg", most_pixels=PIXELS).image.size) <= 4096
