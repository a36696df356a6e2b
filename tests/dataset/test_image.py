"""Every kind of picture a person might send comes out as upright RGB, or as a sentence about what is wrong with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps
from tests.support.images import display_p3, scene

from tintype.dataset.framing import Box
from tintype.dataset.image import Photo, read_photo, register_heif
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


def read(path: Path) -> Photo:
    return read_photo(path, path.name, most_pixels=PIXELS)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "AVIF", "GIF", "BMP", "TIFF"])
def test_common_formats_are_read_whatever_the_file_is_called(tmp_path: Path, form: str) -> None:
    register_heif()
    left_red_right_blue().save(tmp_path / "a", form)
    image = read(tmp_path / "a").crop()
    assert (image.mode, image.size) == ("RGB", (96, 64))
    assert corners(image) == ["red", "blue"]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF", "TIFF"])
@pytest.mark.parametrize("turn", range(1, 9))
def test_the_camera_tag_turns_the_picture_upright(tmp_path: Path, turn: int, form: str) -> None:
    register_heif()
    image = scene(size=(96, 64))
    exif = Image.Exif()
    exif[0x0112] = turn
    image.save(tmp_path / "a", form, exif=exif, **({"quality": 95} if form not in ("PNG", "TIFF") else {}))
    with Image.open(tmp_path / "a") as opened:
        expected = ImageOps.exif_transpose(opened).convert("RGB")
    photo = read(tmp_path / "a")
    assert photo.size == expected.size
    assert photo.crop().tobytes() == expected.tobytes()
    if form != "HEIF":  # there the writer turns it
        assert photo.size == ((96, 64) if turn < 5 else (64, 96))
        assert ("turned upright" in photo.repairs) == (turn != 1)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_part_of_a_turned_photo_is_the_part_of_the_upright_one(turn: int) -> None:
    stored = scene(size=(90, 60))
    photo = Photo("a", stored, turn, alpha=stored.convert("L"))
    whole = photo.crop()
    box = Box(5, 10, 47, 31)
    assert photo.crop(box).tobytes() == whole.crop(box.edges).tobytes()
    alpha = photo.crop_alpha(box)
    assert alpha is not None
    assert alpha.size == box.size


@pytest.mark.parametrize("size", [(4032, 3024), (1700, 1100), (700, 500), (1024, 768)])
def test_a_cut_covers_what_is_asked_and_not_much_more_and_is_never_enlarged(size: tuple[int, int]) -> None:
    photo = Photo("a", Image.new("RGB", size))
    cut = photo.crop(at_least=(512, 384))
    assert cut.width >= 512
    assert cut.height >= 384
    assert min(cut.width / 512, cut.height / 384) <= 1.71
    assert photo.crop(at_least=(9000, 9000)).size == size


def test_a_reduced_cut_shows_the_same_as_the_whole() -> None:
    stored = scene(size=(1200, 900))
    cut = Photo("a", stored).crop(Box(100, 100, 1100, 820), at_least=(250, 180))
    expected = stored.crop((100, 100, 1100, 820)).resize(cut.size, Image.Resampling.BOX)
    assert np.abs(np.asarray(cut).astype(int) - np.asarray(expected).astype(int)).mean() < 3


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_tags_do_not_cost_a_good_picture(tmp_path: Path) -> None:
    left_red_right_blue().save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xffrubbish")
    assert corners(read(tmp_path / "a.jpg").crop()) == ["red", "blue"]


def test_sixteen_bit_greys_keep_their_tones(tmp_path: Path) -> None:
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)[None].repeat(16, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    assert read(tmp_path / "a.png").crop().getpixel((128, 8)) == (128, 128, 128)


@pytest.mark.parametrize("mode", ["CMYK", "L", "P", "1", "LA", "RGBA", "LAB", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    image = left_red_right_blue()
    if mode == "LAB":
        srgb = ImageCms.createProfile("sRGB")
        image = ImageCms.profileToProfile(image, srgb, ImageCms.createProfile("LAB"), outputMode="LAB") or image
        image.save(tmp_path / "a.tif")
    elif mode == "LA":
        image.convert("L").convert("LA").save(tmp_path / "a.tif", "PNG")
    else:
        image.convert(mode).save(tmp_path / "a.tif", "JPEG" if mode == "YCbCr" else "TIFF")
    assert read(tmp_path / "a.tif").crop().mode == "RGB"


def test_presses_write_jpeg_in_four_inks(tmp_path: Path) -> None:
    left_red_right_blue().convert("CMYK").save(tmp_path / "a.jpg")
    photo = read(tmp_path / "a.jpg")
    assert corners(photo.crop()) == ["red", "blue"]
    assert "CMYK converted to RGB" in photo.repairs


def test_transparency_is_laid_on_white_and_kept_as_a_mask(tmp_path: Path) -> None:
    image = left_red_right_blue().convert("RGBA")
    image.putalpha(Image.new("L", image.size, 0))
    image.paste((0, 200, 0, 255), (30, 20, 60, 50))
    image.save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    assert photo.crop().getpixel((2, 2)) == (255, 255, 255)
    alpha = photo.crop_alpha()
    assert alpha is not None
    assert (alpha.getpixel((2, 2)), alpha.getpixel((40, 30))) == (0, 255)


def test_a_palette_with_a_transparent_colour_is_transparent(tmp_path: Path) -> None:
    image = Image.new("P", (40, 40), 0)
    image.putpalette([0, 0, 0, 250, 10, 10])
    image.paste(1, (10, 10, 30, 30))
    image.save(tmp_path / "a.gif", transparency=0)
    photo = read(tmp_path / "a.gif")
    assert photo.alpha is not None
    assert photo.crop().getpixel((20, 20)) == (250, 10, 10)
    assert photo.crop().getpixel((1, 1)) == (255, 255, 255)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "HEIF", "TIFF", "AVIF"])
def test_wide_colours_mean_in_srgb_what_their_profile_says(tmp_path: Path, form: str) -> None:
    register_heif()
    seen = (180, 140, 100)
    options = {"quality": 100} if form not in ("PNG", "TIFF") else {}
    Image.new("RGB", (64, 64), seen).save(tmp_path / "a", form, icc_profile=display_p3(), **options)
    photo = read(tmp_path / "a")
    # Display P3 to sRGB by their published matrices, with the profile's gamma of 2.2.
    linear = (np.array(seen) / 255) ** 2.2
    to_srgb = np.array([[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]])
    light = to_srgb @ linear
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(np.array(photo.crop().getpixel((30, 30))) - expected).max() <= 4
    assert expected[0] - seen[0] > 4, "the test would not notice"
    assert "colours converted to sRGB" in photo.repairs


def test_profiles_that_change_nothing_or_make_no_sense_leave_the_colours(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), (128, 100, 90))
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for profile in (srgb, lab, b"no profile at all"):
        image.save(tmp_path / "a.png", icc_profile=profile)
        photo = read(tmp_path / "a.png")
        assert photo.crop().getpixel((1, 1)) == (128, 100, 90)
        assert photo.repairs == ()


def test_what_cameras_call_a_pair_is_its_first_picture(tmp_path: Path) -> None:
    left_red_right_blue().save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64))])
    photo = read(tmp_path / "a.jpg")
    assert corners(photo.crop()) == ["red", "blue"]
    assert photo.repairs == ()


def test_an_opaque_alpha_channel_is_no_mask(tmp_path: Path) -> None:
    left_red_right_blue().convert("RGBA").save(tmp_path / "a.png")
    photo = read(tmp_path / "a.png")
    assert photo.alpha is None
    assert photo.repairs == ()


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
def test_a_moving_picture_gives_its_first_frame_and_says_so(tmp_path: Path, form: str) -> None:
    frames = [left_red_right_blue(), Image.new("RGB", (96, 64))]
    frames[0].save(tmp_path / "a", form, save_all=True, append_images=frames[1:])
    photo = read(tmp_path / "a")
    assert corners(photo.crop()) == ["red", "blue"]
    assert any("frame" in repair for repair in photo.repairs)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIF", "AVIF"])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_truncated_picture_is_found_out(tmp_path: Path, form: str, share: float) -> None:
    register_heif()
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 300, 3), dtype=np.uint8))
    noise.save(tmp_path / "a.pic", form)
    whole = (tmp_path / "a.pic").read_bytes()
    (tmp_path / "a.pic").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises((ImageLoadError, UnsupportedImage), match=r"a\.pic") as caught:
        read(tmp_path / "a.pic")
    assert "\n" not in caught.value.message


def test_text_called_jpg_is_an_unsupported_format(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("hello")
    with pytest.raises(UnsupportedImage) as caught:
        read(tmp_path / "a.jpg")
    assert "jpg" in caught.value.details[0]["ctx"]["supported_formats"]


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_500, 20_000])
def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, side: int) -> None:
    Image.new("1", (side, side)).save(tmp_path / "a.png")
    asked: list[int] = []
    with pytest.raises(ImageTooLarge) as caught:
        read_photo(tmp_path / "a.png", "a.png", most_pixels=PIXELS, reserve=asked.append)
    assert caught.value.details[0]["ctx"]["max_width"] == int(PIXELS**0.5)
    assert asked == []


def test_a_very_large_jpeg_is_decoded_at_half_and_that_is_said(tmp_path: Path) -> None:
    left_red_right_blue((8064, 600)).save(tmp_path / "a.jpg")
    photo = read(tmp_path / "a.jpg")
    assert photo.size == (4032, 300)
    assert photo.repairs == ("reduced to 4032x300",)
