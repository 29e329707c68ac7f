"""Image files by their header, whole or not, upright, and in eight bits."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageOps

from ymir_nb.backend import boxes, images
from ymir_nb.backend.images import BadImage, inspect, is_plain, open_upright, thumbnail, to_plain_png

FORMATS = {"JPEG": "jpg", "PNG": "png", "BMP": "bmp", "WEBP": "webp", "TIFF": "tif", "GIF": "gif"}


def picture(width: int = 40, height: int = 30) -> Image.Image:
    """Four corners of different colours, so that every turn shows."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (255, 0, 0)
    pixels[: height // 2, width // 2 :] = (0, 255, 0)
    pixels[height // 2 :, : width // 2] = (0, 0, 255)
    return Image.fromarray(pixels)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def with_exif(kind: str, orientation: int, image: Image.Image | None = None) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95, "subsampling": 0} if kind == "JPEG" else {}
    return saved(image or picture(), kind, exif=exif, **options)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_described_by_its_header(kind):
    data = saved(picture(), kind)
    info = inspect(data, f"a.{FORMATS[kind]}")
    assert (info.format, info.width, info.height, info.orientation, info.n_bytes) == (kind, 40, 30, 1, len(data))
    assert info.mode == ("P" if kind == "GIF" else "RGB")
    assert open_upright(data).size == (40, 30)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_case_10_a_truncated_file_of_any_format_is_refused(kind, share):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (60, 80, 3), dtype=np.uint8))
    data = saved(noise, kind)
    with pytest.raises(BadImage):
        inspect(data[: int(len(data) * share)], f"a.{FORMATS[kind]}")


@pytest.mark.parametrize(
    ("data", "name", "reason", "remedy"),
    [
        (b"", "a.jpg", "empty file", "again"),
        (b"\0" * 500, "a.jpg", "zero bytes", "again"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "a.jpg", "a web page", "download the image"),
        (b"\xef\xbb\xbf \n<HTML>", "a.png", "a web page", "download the image"),
        (b"hello, I am text", "a.bmp", "not an image", "convert"),
        (saved(picture(), "PNG"), "dir/a.jpg", "a PNG file named as JPEG", "'a.png'"),
        (saved(picture(), "JPEG"), "a.PNG", "a JPEG file named as PNG", "'a.jpg'"),
        (saved(picture(), "JPEG")[:-2], "a.jpg", "truncated", "again"),
    ],
)
def test_case_10_empty_misnamed_and_foreign_files_say_what_they_are(data, name, reason, remedy):
    with pytest.raises(BadImage) as caught:
        inspect(data, name)
    assert reason in caught.value.reason
    assert remedy in caught.value.remedy


def test_case_10_a_flipped_bit_in_a_png_is_found_without_decoding():
    data = bytearray(saved(picture(), "PNG"))
    data[data.index(b"IDAT") + 10] ^= 1
    with pytest.raises(BadImage, match="checksum"):
        inspect(bytes(data), "a.png")


def test_case_10_appended_bytes_do_not_make_a_picture_truncated():
    for kind in ("JPEG", "PNG", "BMP"):
        assert inspect(saved(picture(), kind) + b"\0" * 40, f"a.{FORMATS[kind]}").width == 40


@pytest.mark.parametrize("kind", FORMATS)
def test_case_10_damage_anywhere_raises_nothing_but_bad_image(kind):
    whole = saved(picture(12, 9), kind)
    generator = np.random.default_rng(1)
    for _ in range(150):
        data = bytearray(whole)
        data[int(generator.integers(len(data)))] = int(generator.integers(256))
        for call in (lambda d: inspect(d, "a"), open_upright, lambda d: thumbnail(d, side_px=8)):
            with suppress(BadImage):
                call(bytes(data))


def test_case_11_a_decompression_bomb_is_refused_by_its_header():
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0))
    body = png_chunk(b"IDAT", zlib.compress(b"\0" * 10_000)) + png_chunk(b"IEND", b"")
    bomb = b"\x89PNG\r\n\x1a\n" + header + body
    jpeg = bytearray(saved(picture(), "JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 50_000, 50_000)
    bmp = bytearray(saved(picture(), "BMP"))
    for data, name in ((bomb, "a.png"), (bytes(jpeg), "a.jpg")):
        for call in (lambda d, n=name: inspect(d, n), open_upright, lambda d: thumbnail(d, side_px=64)):
            with pytest.raises(BadImage, match="50000 x 50000 pixels, the limit is"):
                call(data)
    bmp[18:26] = struct.pack("<ii", 50_000, 50_000)
    with pytest.raises(BadImage):
        inspect(bytes(bmp), "a.bmp")


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_case_12_pixels_boxes_and_thumbnails_agree_for_every_orientation(kind, orientation):
    data = with_exif(kind, orientation)
    info = inspect(data, f"a.{FORMATS[kind]}")
    assert info.orientation == orientation
    assert (info.width, info.height) == ((30, 40) if orientation >= 5 else (40, 30))
    upright = open_upright(data)
    assert upright.size == (info.width, info.height)
    golden = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    assert np.abs(np.asarray(upright).astype(int) - np.asarray(golden)).max() == 0
    # The red corner, as a box on the stored pixels, is the red corner of the upright picture.
    place = {"orientation": orientation, "width": info.width, "height": info.height}
    x1, y1, x2, y2 = boxes.orient([[0, 0, 20, 15]], **place)[0].astype(int)
    red = np.asarray(upright)[y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].astype(int)
    assert (np.abs(red - (255, 0, 0)) < 20).all()
    small = Image.open(io.BytesIO(thumbnail(data, side_px=20)))
    assert max(small.size) == 20
    assert (small.width > small.height) == (info.width > info.height)
    r, g, b = small.convert("RGB").getpixel(((x1 + x2) // 4, (y1 + y2) // 4))
    assert r > 150
    assert g < 100
    assert b < 100


def test_case_12_an_orientation_behind_the_pixels_of_a_png_counts_as_well():
    data = with_exif("PNG", 6)
    at = data.index(b"eXIf") - 4
    end = at + 12 + int.from_bytes(data[at : at + 4], "big")
    late = data[:at] + data[end:-12] + data[at:end] + data[-12:]
    assert inspect(late, "a.png").orientation == 6
    assert open_upright(late).size == (30, 40)


def test_case_12_a_broken_exif_block_means_upright():
    data = with_exif("JPEG", 6)
    for broken in (data.replace(b"MM\0*", b"MM\0\xff"), with_exif("JPEG", 77)):
        assert inspect(broken, "a.jpg").orientation == 1


def test_case_13_unusual_pixels_have_a_defined_form():
    ramp = (np.arange(256, dtype=np.uint16) * 257).reshape(16, 16)
    for kind in ("PNG", "TIFF"):
        deep = saved(Image.fromarray(ramp), kind)
        assert inspect(deep, f"a.{FORMATS[kind]}").mode.startswith("I;16")
        assert (np.asarray(open_upright(deep))[..., 0] == np.arange(256).reshape(16, 16)).all()
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    assert open_upright(saved(clear, "PNG")).getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("LA", (4, 4), (0, 128))
    assert open_upright(saved(half, "PNG")).getpixel((0, 0)) == (127, 127, 127)
    palette = picture().quantize(8)
    assert open_upright(saved(palette, "PNG")).getpixel((0, 0)) == (255, 0, 0)
    assert open_upright(saved(palette, "GIF", transparency=palette.getpixel((0, 0)))).getpixel((0, 0)) == (
        255,
        255,
        255,
    )
    cmyk = open_upright(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")).getpixel((0, 0))
    assert cmyk[0] > 240
    assert max(cmyk[1:]) < 15
    for mode in ("1", "L"):
        assert open_upright(saved(picture().convert(mode), "PNG")).mode == "RGB"


def test_case_13_animations_pages_and_float_pixels_are_refused_with_a_remedy():
    frames = [picture(), picture().rotate(180)]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
        with pytest.raises(BadImage, match="animated, or of several pages") as caught:
            inspect(data, f"a.{FORMATS[kind]}")
        assert "file of its own" in caught.value.remedy
    with pytest.raises(BadImage, match="pixels of the kind F"):
        inspect(saved(Image.new("F", (4, 4)), "TIFF"), "a.tif")


@pytest.mark.parametrize("size", [(1, 1), (1, 20_000), (20_000, 1), (3, 2)])
def test_case_14_extreme_sizes_are_resized_without_losing_a_side(size):
    data = saved(Image.new("RGB", size), "PNG")
    assert (inspect(data, "a.png").width, inspect(data, "a.png").height) == size
    small = Image.open(io.BytesIO(thumbnail(data, side_px=256)))
    assert small.size == (min(size[0], 256), min(size[1], 256))
    assert Image.open(io.BytesIO(thumbnail(saved(Image.new("RGB", size), "JPEG"), side_px=1))).size == (1, 1)


def test_case_17_more_metadata_than_the_limit_is_refused():
    jpeg, png = saved(picture(), "JPEG"), saved(picture(), "PNG")
    segment = b"\xff\xe2\xff\xff" + b"ICC_PROFILE\0\1\1" + b"x" * (0xFFFF - 16)
    n = images.MAX_METADATA_BYTES // len(segment) + 1
    with pytest.raises(BadImage, match="MiB of metadata"):
        inspect(jpeg[:2] + segment * n + jpeg[2:], "a.jpg")
    text = png_chunk(b"tEXt", b"Comment\0" + b"x" * images.MAX_METADATA_BYTES)
    with pytest.raises(BadImage, match="MiB of metadata"):
        inspect(png[:33] + text + png[33:], "a.png")
    packed = png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"x" * (64 << 20)))
    with pytest.raises(BadImage):
        inspect(png[:33] + packed + png[33:], "a.png")


def test_plain_images_may_be_handed_on_and_others_become_plain():
    assert is_plain(inspect(saved(picture(), "JPEG"), "a.jpg"))
    assert is_plain(inspect(saved(picture().convert("L"), "PNG"), "a.png"))
    for data, name in (
        (with_exif("JPEG", 6), "a.jpg"),
        (saved(picture(), "WEBP"), "a.webp"),
        (saved(Image.new("RGBA", (4, 4)), "PNG"), "a.png"),
        (saved(Image.new("CMYK", (4, 4)), "JPEG"), "a.jpg"),
    ):
        assert not is_plain(inspect(data, name))
        plain = to_plain_png(data)
        info = inspect(plain, "a.png")
        assert is_plain(info)
        assert (np.asarray(open_upright(plain)) == np.asarray(open_upright(data))).all()
        assert plain == to_plain_png(data)


def test_thumbnails_never_grow():
    small = Image.open(io.BytesIO(thumbnail(saved(picture(), "PNG"), side_px=512)))
    assert (small.format, small.size) == ("JPEG", (40, 30))
