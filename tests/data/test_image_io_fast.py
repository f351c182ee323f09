"""The fast way from a JPEG to the model's size, against Pillow alone."""

from functools import cache
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
    "grey": {"mode": "L"},
    "of two pictures": {
        "format": "MPO",
        "save_all": True,
        "append_images": [Image.new("RGB", (WIDTH, HEIGHT))],
    },
}
BY_TORCH = [
    *(("photo.jpg", (HEIGHT, WIDTH), None, options) for options in PHOTOGRAPHS.values()),
    *((name, (HEIGHT, WIDTH), None, {"format": "JPEG"}) for name in ("Löwe 狮子", "photo.png")),
    *(("photo.jpg", (HEIGHT, WIDTH), box, {}) for box in ((0, 0, 240, 180), (3, 5, 98, 130))),
    *(("photo.jpg", shape, None, {}) for shape in ((128, 96), (129, 177), (160, 96), (800, 900))),
]
SHAPES = [(127, 96), (128, 95), (161, 96), (3000, 100), (30, 20), (64, 48), (1, 1), (1, 300)]
BOXES = [(-1, 0, 200, 170), (0, -1, 200, 170), (50, 0, 191, 170), (0, 20, 200, 161)]
FORMATS = [{"mode": "CMYK"}, {"format": "PNG"}, {"mode": "P", "format": "PNG"}]
TURNED = [{"exif": Image.Exif()} for _ in range(2, 9)]
for orientation, options in enumerate(TURNED, 2):
    options["exif"][ExifTags.Base.Orientation] = orientation
BY_PILLOW = [
    *((shape, None, {}) for shape in SHAPES),
    *(((HEIGHT, WIDTH), box, {}) for box in BOXES),
    *(((HEIGHT, WIDTH), None, options) for options in FORMATS),
    *(((HEIGHT, WIDTH), (10, 20, 130, 140), options) for options in TURNED),
]


@cache
def scene(height: int, width: int) -> np.ndarray:
    """Draw waves of several lengths, and some noise (uint8 ``[height, width, 3]``)."""
    y, x = np.mgrid[:height, :width] / 7
    waves = [np.sin(x + y / 3), np.sin(y * 1.7 - x), np.sin(x * y / 40)]
    noise = np.random.default_rng(0).normal(0, 6, (height, width, 3))
    return (128 + 80 * np.stack(waves, axis=2) + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, shape=(HEIGHT, WIDTH), mode: str = "RGB", **options) -> Path:
    Image.fromarray(scene(*shape)).convert(mode).save(path, **options)
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
    np.testing.assert_array_equal(found, np.asarray(Image.open(path).convert("RGB")))


@pytest.mark.parametrize(("name", "shape", "box", "options"), BY_TORCH)
def test_photographs_are_resized_as_by_pillow(tmp_path, by_torch, name, shape, box, options):
    path = save(tmp_path / name, shape, **options)
    x, y, width, height = box or (0, 0, *shape[::-1])
    assert_nearly_equal(fast(path, SIZE, box), pillow(path, box=(x, y, x + width, y + height)))


@pytest.mark.parametrize(("shape", "box", "options"), BY_PILLOW)
def test_what_torch_would_resize_otherwise_is_left_to_pillow(
    tmp_path, by_pillow, shape, box, options
):
    path = save(tmp_path / "photo.jpg", shape, **{"format": "JPEG", **options})
    np.testing.assert_array_equal(fast(path, SIZE, box), read_image(path, SIZE, box))


def test_an_exact_or_masked_image_is_pillows(tmp_path, by_pillow):
    path = save(tmp_path / "photo.jpg")
    np.testing.assert_array_equal(read_image(path, SIZE), pillow(path))
    square = "[60, 45, 180, 45, 180, 135, 60, 135]"
    found = fast(path, SIZE, None, square)
    np.testing.assert_array_equal(found, read_image(path, SIZE, None, square))


@pytest.mark.parametrize("kind", [*[*PHOTOGRAPHS][:-1], "thumbnail"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9999])
def test_a_truncated_file_is_the_same_error_as_ever(tmp_path, kind, share):
    thumbnail = save(tmp_path / "small.jpg", (30, 40)).read_bytes()
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


def test_pillow_reads_where_torchvision_decodes_no_more(tmp_path, monkeypatch):
    monkeypatch.delattr(torchvision.io, "decode_jpeg")
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
