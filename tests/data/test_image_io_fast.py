"""The fast way from a JPEG to the model's size, against Pillow alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision.io
from PIL import ExifTags, Image

from openanimals.data import image_io
from openanimals.data.image_io import ImageError, jpeg_pixels, read_image

pytestmark = pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")

HEIGHT, WIDTH = 180, 240
SIZE = (64, 48)  # height, width
BICUBIC = Image.Resampling.BICUBIC
PHOTOGRAPHS = {
    "as it comes": {},
    "progressive": {"progressive": True},
    "full colour": {"subsampling": 0},
    "half colour": {"subsampling": 1},
    "restarts": {"restart_marker_blocks": 3},
    "own tables": {"optimize": True, "quality": 98},
    "stored as RGB": {"keep_rgb": True},
    "broken EXIF": {"exif": b"Exif\0\0no TIFF header here"},
}


def scene(height: int, width: int) -> np.ndarray:
    """Draw waves of several lengths, and some noise (uint8 ``[height, width, 3]``)."""
    y, x = np.mgrid[:height, :width] / 7
    waves = [np.sin(x + y / 3), np.sin(y * 1.7 - x), np.sin(x * y / 40)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (128 + 80 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, pixels: np.ndarray | None = None, mode: str = "RGB", **options) -> Path:
    pixels = scene(HEIGHT, WIDTH) if pixels is None else pixels
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path


def pillow(path: Path, size=SIZE, box=None) -> np.ndarray:
    """Return what Pillow alone makes of an upright photograph (``[H, W, 3]``, int)."""
    with Image.open(path) as image:
        cropped = image.convert("RGB").crop(box or (0, 0, *image.size))
    return np.asarray(cropped.resize(size[::-1], BICUBIC), dtype=int)


def fast(path: Path, size=SIZE, *where) -> np.ndarray:
    """Read for training (``[H, W, 3]``, int)."""
    pixels = read_image(path, size, *where, exact=False)
    assert pixels.dtype == np.uint8 and pixels.flags.c_contiguous and pixels.flags.writeable
    return pixels.astype(int)


def assert_nearly_equal(found: np.ndarray, expected: np.ndarray) -> None:
    difference = np.abs(found - expected)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.995


@pytest.fixture
def by_torch(monkeypatch):
    """Let the test fail where Pillow reads the pixels."""
    monkeypatch.setattr(image_io, "open_image", lambda *args: pytest.fail("read by Pillow"))


@pytest.fixture
def by_pillow(monkeypatch):
    """Let the test fail where torchvision reads the pixels."""
    monkeypatch.setattr(
        torchvision.io, "decode_jpeg", lambda *args: pytest.fail("read by torchvision")
    )


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_decoded_pixels_are_pillows(tmp_path, kind):
    path = save(tmp_path / "photo.jpg", **PHOTOGRAPHS[kind])
    found = jpeg_pixels(torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8))
    np.testing.assert_array_equal(found, np.asarray(Image.open(path)))


@pytest.mark.parametrize("kind", PHOTOGRAPHS)
def test_photographs_are_resized_as_by_pillow(tmp_path, by_torch, kind):
    path = save(tmp_path / "photo.jpg", **PHOTOGRAPHS[kind])
    assert_nearly_equal(fast(path), pillow(path))


def test_gray_becomes_three_equal_channels(tmp_path, by_torch):
    path = save(tmp_path / "photo.jpg", mode="L")
    found = fast(path)
    assert_nearly_equal(found, pillow(path))
    assert (found == found[..., :1]).all()


def test_the_first_of_several_pictures_in_a_file_is_read(tmp_path, by_torch):
    other = Image.new("RGB", (WIDTH, HEIGHT))
    path = save(tmp_path / "photo.jpg", format="MPO", save_all=True, append_images=[other])
    assert Image.open(path).format == "MPO"
    assert_nearly_equal(fast(path), pillow(path))


@pytest.mark.parametrize("name", ["Löwe äöü 狮子.jpg", "no_suffix", "photo.png"])
def test_the_name_of_the_file_does_not_count(tmp_path, by_torch, name):
    path = save(tmp_path / name, format="JPEG")
    assert_nearly_equal(fast(str(path)), pillow(path))


@pytest.mark.parametrize("box", [(0, 0, 240, 180), (100, 30, 240, 170), (3, 5, 101, 135)])
def test_a_box_within_the_image(tmp_path, by_torch, box):
    path = save(tmp_path / "photo.jpg")
    left, top, right, bottom = box
    found = fast(path, SIZE, (left, top, right - left, bottom - top))
    assert_nearly_equal(found, pillow(path, box=box))


@pytest.mark.parametrize(
    ("height", "width"), [(128, 96), (129, 177), (160, 96), (800, 900), (140, 1500)]
)
def test_all_shapes_that_are_shrunk_fast(tmp_path, by_torch, height, width):
    path = save(tmp_path / "photo.jpg", scene(height, width))
    assert_nearly_equal(fast(path), pillow(path))


@pytest.mark.parametrize(
    ("height", "width"),
    [(127, 96), (128, 95), (161, 96), (3000, 100), (30, 20), (64, 48), (1, 1), (1, 300)],
)
def test_shapes_that_pillow_resizes_otherwise_are_left_to_it(tmp_path, by_pillow, height, width):
    path = save(tmp_path / "photo.jpg", scene(height, width))
    found = fast(path)
    np.testing.assert_array_equal(found, pillow(path))


def test_an_exact_image_is_pillows(tmp_path, by_pillow):
    path = save(tmp_path / "photo.jpg")
    np.testing.assert_array_equal(read_image(path, SIZE), pillow(path))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_photographs_are_left_to_pillow(tmp_path, by_pillow, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path = save(tmp_path / "photo.jpg", exif=exif)
    exact = read_image(path, SIZE, (10, 20, 130, 140))
    np.testing.assert_array_equal(fast(path, SIZE, (10, 20, 130, 140)), exact)


@pytest.mark.parametrize(
    "options",
    [{"mode": "CMYK", "format": "JPEG"}, {"format": "PNG"}, {"mode": "P", "format": "PNG"}],
)
def test_other_formats_are_left_to_pillow_whatever_their_name(tmp_path, by_pillow, options):
    path = save(tmp_path / "photo.jpg", **options)
    np.testing.assert_array_equal(fast(path), pillow(path))


def test_a_box_over_the_border_is_left_to_pillow(tmp_path, by_pillow):
    path = save(tmp_path / "photo.jpg")
    for box in ((-1, 0, 200, 170), (0, -1, 200, 170), (50, 0, 191, 170), (0, 20, 200, 161)):
        found = fast(path, SIZE, box)
        x, y, width, height = box
        expected = pillow(path, box=(x, y, x + width, y + height))
        np.testing.assert_array_equal(found, expected)


def test_masked_photographs_are_left_to_pillow(tmp_path, by_pillow):
    path = save(tmp_path / "photo.jpg")
    square = json.dumps([60, 45, 180, 45, 180, 135, 60, 135])
    found = fast(path, SIZE, None, square)
    pixels = np.asarray(Image.open(path)).copy()
    pixels[:45] = pixels[135:] = pixels[:, :60] = pixels[:, 180:] = 0
    expected = np.asarray(Image.fromarray(pixels).resize(SIZE[::-1], BICUBIC))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", [*PHOTOGRAPHS, "thumbnail"])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.05, 0.2, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_the_same_error_as_ever(tmp_path, kind, share):
    thumbnail = save(tmp_path / "small.jpg", scene(30, 40)).read_bytes()
    options = PHOTOGRAPHS.get(kind, {"exif": b"Exif\0\0" + thumbnail})
    path = save(tmp_path / "photo.jpg", **options)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    messages = []
    for exact in (False, True):
        with pytest.raises(ImageError, match=r"cannot read image .*photo\.jpg: \w+") as caught:
            read_image(path, SIZE, exact=exact)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]


def test_a_file_without_its_last_marker_is_truncated(tmp_path):
    path = save(tmp_path / "photo.jpg")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ImageError, match=r"photo\.jpg: image file is truncated"):
        fast(path)


def test_what_stands_behind_the_picture_does_not_count(tmp_path, by_torch):
    path = save(tmp_path / "photo.jpg")
    expected = pillow(path)
    path.write_bytes(path.read_bytes() + b"\xff\xd8\xff and a film")
    assert_nearly_equal(fast(path), expected)


def test_damage_in_the_pixels_shows_as_with_pillow(tmp_path):
    data = bytearray(save(tmp_path / "photo.jpg").read_bytes())
    data[len(data) // 2] ^= 0x55
    (tmp_path / "photo.jpg").write_bytes(data)
    found = jpeg_pixels(torch.frombuffer(data, dtype=torch.uint8))
    np.testing.assert_array_equal(found, np.asarray(Image.open(tmp_path / "photo.jpg")))


def test_pillow_has_the_last_word_on_a_file_that_torchvision_refuses(tmp_path, monkeypatch):
    def refuse(*args):
        raise RuntimeError("Unsupported marker type")

    monkeypatch.setattr(torchvision.io, "decode_jpeg", refuse)
    path = save(tmp_path / "photo.jpg")
    np.testing.assert_array_equal(fast(path), pillow(path))


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda data: data.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"), "Pillow"),
        (lambda data: b"GIF89a" + data[6:], r"\w+"),
        (lambda data: data.replace(b"\xff\xd8\xff", b"\xff\xd8\x00", 1), "not an image"),
        (lambda data: data.replace(b"\xff\xdb", b"\xff\xfe"), r"\w+"),
    ],
    ids=["12 bits", "a GIF's name", "no second marker", "no quantisation tables"],
)
def test_a_corrupt_header_is_an_error(tmp_path, damage, cause):
    path = save(tmp_path / "photo.jpg")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ImageError, match=rf"cannot read image .*photo\.jpg: .*{cause}"):
        fast(path)


def test_a_missing_file_and_a_bad_box_are_errors(tmp_path):
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file"):
        fast(tmp_path / "missing.jpg")
    path = save(tmp_path / "photo.jpg")
    for box in ((5, 5, 0, 10), (WIDTH, 0, 500, 500), (float("nan"), 0, 200, 170)):
        with pytest.raises(ImageError, match=r"cannot crop .*photo\.jpg to the box"):
            fast(path, SIZE, box)


def test_an_image_too_large_to_be_true_is_an_error(tmp_path, monkeypatch):
    path = save(tmp_path / "photo.jpg")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"photo\.jpg: Image size"):
        fast(path)
