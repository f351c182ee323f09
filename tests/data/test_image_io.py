"""Reading one image, against recorded values and against plain numpy on hand-made files."""

import os
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import ExifTags, Image

from openanimals.data.boxes import rows_with_bad_boxes
from openanimals.data.catalogue import Catalogue
from openanimals.data.image_io import (
    ImageError,
    image_size,
    open_image,
    read_image,
)

REFERENCE = np.load(Path(__file__).parents[1] / "reference" / "transforms.npz")
SOURCE = REFERENCE["rgb_source"]  # uint8 [80, 104, 3]
HEIGHT, WIDTH = SOURCE.shape[:2]


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[ExifTags.Base.Orientation] = orientation
    return block


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    Image.fromarray(SOURCE).save(path)
    return path


# Which numpy operations make an array of each EXIF orientation upright, from the EXIF standard.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: a[::-1].swapaxes(0, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: a[:, ::-1].swapaxes(0, 1),
}


@pytest.mark.parametrize(
    ("case", "channels", "orientation", "bbox"),
    [
        ("rgb", slice(3), 1, None),
        ("gray", 0, 1, None),
        ("exif6", slice(3), 6, None),
        ("bbox", slice(3), 1, (10, 5, 60, 40)),
        ("bbox_out_of_image", slice(3), 1, (-8, 50, 70, 60)),
    ],
)
def test_equals_the_recorded_test_transform(tmp_path, case, channels, orientation, bbox):
    path = tmp_path / "image.png"
    Image.fromarray(SOURCE[..., channels]).save(path, exif=exif(orientation))
    pixels = read_image(path, size=(64, 48), bbox=bbox)
    assert pixels.dtype == np.uint8
    assert pixels.flags.writeable
    np.testing.assert_array_equal(pixels.transpose(2, 0, 1), REFERENCE[case])


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_rotates_by_exif_before_it_crops(tmp_path, orientation, suffix):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(SOURCE).save(path, exif=exif(orientation), lossless=True)
    upright = UPRIGHT[orientation](SOURCE)
    np.testing.assert_array_equal(read_image(path), upright)
    np.testing.assert_array_equal(read_image(path, bbox=(4, 7, 30, 20)), upright[7:27, 4:34])
    assert image_size(path) == (upright.shape[1], upright.shape[0])


def test_exif_after_the_pixels_of_a_png_counts(photo):
    chunks = photo.read_bytes()
    end = chunks.index(b"IEND") - 4
    rotated = photo.with_name("rotated.png")
    Image.fromarray(SOURCE).save(rotated, exif=exif(6))
    with_exif = rotated.read_bytes()
    start = with_exif.index(b"eXIf") - 4
    length = int.from_bytes(with_exif[start : start + 4], "big") + 12
    photo.write_bytes(chunks[:end] + with_exif[start : start + length] + chunks[end:])
    assert image_size(photo) == (HEIGHT, WIDTH)
    np.testing.assert_array_equal(read_image(photo), UPRIGHT[6](SOURCE))


def test_a_broken_exif_block_counts_as_none(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(SOURCE).save(path, exif=b"Exif\0\0no TIFF header here")
    assert image_size(path) == (WIDTH, HEIGHT)
    assert read_image(path).shape == SOURCE.shape


@pytest.mark.parametrize(
    ("dtype", "mode", "least", "most"),
    [("<u2", "I;16", 0, 65535), (">u2", "I;16B", 0, 65535), ("<i4", "I", -300, 70000)],
)
def test_sixteen_bit_gray_keeps_its_high_byte(tmp_path, dtype, mode, least, most):
    levels = np.linspace(least, most, HEIGHT * WIDTH).astype(dtype).reshape(HEIGHT, WIDTH)
    path = tmp_path / "image.tif"
    Image.frombytes(mode, (WIDTH, HEIGHT), levels.tobytes()).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    expected = np.minimum(np.maximum(levels, 0), 65535) // 256
    np.testing.assert_array_equal(read_image(path), np.stack([expected] * 3, axis=2))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize(
    ("suffix", "dtype", "mode"),
    [("tif", "<u2", "I;16"), ("png", "<u2", "I;16"), ("tif", "<i4", "I")],
)
def test_fewer_bits_in_sixteen_or_more_are_scaled_to_white(tmp_path, bits, suffix, dtype, mode):
    levels = np.linspace(0, 2**bits - 1, HEIGHT * WIDTH).astype(dtype).reshape(HEIGHT, WIDTH)
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(levels).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    expected = np.stack([levels // 2 ** (bits - 8)] * 3, axis=2)
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_colour_of_fewer_bits_in_sixteen_is_scaled_to_white(tmp_path, bits, channels, suffix):
    """Each pixel is of 16 bits, which Pillow cannot write; OpenCV can."""
    cv2 = pytest.importorskip("cv2")
    draws = np.random.default_rng(bits)
    levels = draws.integers(0, 2**bits, (HEIGHT, WIDTH, channels), np.uint16)
    levels[0, 0] = 2**bits - 1
    path = tmp_path / f"image.{suffix}"
    assert cv2.imwrite(str(path), levels[..., [2, 1, 0, 3][:channels]])  # it takes BGR
    expected = levels[..., :3] // 2 ** (bits - 8)
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_image(path, bbox=(4, 7, 30, 20)), expected[7:27, 4:34])


@pytest.mark.parametrize(
    ("dtype", "what"), [(np.int32, "pixels of 32 bits"), (np.float32, "float pixels")]
)
def test_pixels_without_a_defined_white_are_refused(tmp_path, dtype, what):
    Image.fromarray(np.full((8, 8), 2**30, dtype)).save(tmp_path / "depth.tif")
    with pytest.raises(ImageError, match=rf"depth\.tif: {what} have no defined white"):
        read_image(tmp_path / "depth.tif")


def test_palette_is_looked_up_also_with_transparency(tmp_path):
    indices = (np.arange(HEIGHT * WIDTH) % 4).astype(np.uint8).reshape(HEIGHT, WIDTH)
    colours = np.array([[10, 20, 30], [200, 100, 0], [0, 255, 7], [90, 90, 90]], dtype=np.uint8)
    image = Image.fromarray(indices).convert("L")
    image.putpalette(colours.tobytes())
    for name, options in {"plain": {}, "clear": {"transparency": bytes([255, 0, 128])}}.items():
        path = tmp_path / f"{name}.png"
        image.save(path, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(read_image(path), colours[indices])


def test_alpha_is_dropped_and_shows_the_colour_beneath(tmp_path):
    alpha = np.tile(np.linspace(0, 255, WIDTH).astype(np.uint8), (HEIGHT, 1))
    path = tmp_path / "image.png"
    Image.fromarray(np.dstack([SOURCE, alpha])).save(path)
    np.testing.assert_array_equal(read_image(path), SOURCE)


def test_cmyk_becomes_rgb_and_black_outside(tmp_path):
    path = tmp_path / "image.tif"
    Image.new("CMYK", (8, 8), (0, 255, 0, 0)).save(path)  # magenta
    pixels = read_image(path, bbox=(4, 0, 8, 8))
    assert (pixels[:, :4] == (255, 0, 255)).all()
    assert (pixels[:, 4:] == 0).all()


def test_the_first_frame_of_an_animation_is_read(tmp_path):
    path = tmp_path / "image.webp"
    first, second = Image.fromarray(SOURCE), Image.new("RGB", (WIDTH, HEIGHT))
    first.save(path, save_all=True, append_images=[second], lossless=True)
    np.testing.assert_array_equal(read_image(path), SOURCE)


@pytest.mark.parametrize(
    ("bbox", "expected"),
    [
        ((10.4, 5.5, 20.2, 10.0), (10, 6, 31, 16)),  # 5.5 -> 6, 15.5 -> 16: half to even
        ((10.6, 4.5, 20.0, 10.0), (11, 4, 31, 14)),
        ((0, 0, WIDTH, HEIGHT), (0, 0, WIDTH, HEIGHT)),
        ((-0.4, 0, 5, 5), (0, 0, 5, 5)),
    ],
)
def test_edges_of_a_box_are_rounded(photo, bbox, expected):
    left, top, right, bottom = expected
    np.testing.assert_array_equal(read_image(photo, bbox=bbox), SOURCE[top:bottom, left:right])


NAN, INF = float("nan"), float("inf")
BAD_BOXES = [
    (5, 5, 0, 10),
    (5, 5, 10, -3),
    (5, 5, 0.3, 10),
    (5, NAN, 10, 10),
    (5, 5, INF, 10),
    (WIDTH, 0, 10, 10),
    (0, HEIGHT, 10, 10),
    (-10, 0, 10, 10),
    (0, -10.4, 10, 10),
]
GOOD_BOXES = [(WIDTH - 1, HEIGHT - 1, 10, 10), (-9, -9, 10, 10), (-50, -50, 500, 500)]


@pytest.mark.parametrize("bbox", BAD_BOXES)
def test_cropping_to_a_bad_box_names_file_box_and_size(photo, bbox):
    with pytest.raises(ImageError) as caught:
        open_image(photo, bbox)
    for part in (photo.name, str(bbox), f"{WIDTH} x {HEIGHT}"):
        assert part in str(caught.value)


def test_rows_with_bad_boxes(tmp_path, photo):
    lying = tmp_path / "lying.jpg"
    Image.fromarray(SOURCE).save(lying, exif=exif(6))  # upright it is HEIGHT wide
    (tmp_path / "broken.png").write_bytes(b"no image")
    rows = [(photo.name, box) for box in GOOD_BOXES + BAD_BOXES]
    rows += [(photo.name, None), ("broken.png", (0, 0, 9, 9)), ("missing.png", (0, 0, 9, 9))]
    rows += [("broken.png", None), ("missing.png", (0, 0, 0, 0))]
    rows += [(lying.name, (HEIGHT - 1, WIDTH - 1, 5, 5)), (lying.name, (HEIGHT, 0, 5, 5))]
    table = pd.DataFrame({"path": [r[0] for r in rows], "bbox": [r[1] for r in rows]})
    catalogue = Catalogue("herd", tmp_path, table.assign(identity="a"))
    bad = list(range(len(GOOD_BOXES), len(GOOD_BOXES) + len(BAD_BOXES)))
    assert rows_with_bad_boxes(catalogue) == [*bad, len(rows) - 3, len(rows) - 1]


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "gif", "bmp"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.9])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, suffix, share):
    path = tmp_path / f"image.{suffix}"
    Image.fromarray(SOURCE).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ImageError, match=rf"cannot read image .*image\.{suffix}: \w+"):
        read_image(path)


def test_errors_name_the_cause(tmp_path):
    with pytest.raises(ImageError, match=r"missing\.jpg: no such file"):
        read_image(tmp_path / "missing.jpg")
    (tmp_path / "empty.jpg").touch()
    with pytest.raises(ImageError, match=r"empty\.jpg: the file is empty"):
        image_size(tmp_path / "empty.jpg")
    (tmp_path / "page.jpg").write_text("<html>404</html>")
    with pytest.raises(ImageError, match=r"page\.jpg: not an image in a format"):
        image_size(tmp_path / "page.jpg")
    with pytest.raises(ImageError, match="directory"):
        read_image(tmp_path)


def test_an_image_too_large_to_be_true_is_an_error(photo, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"photo\.png: Image size.*raise INPUT.MAX_MEGAPIXELS"):
        read_image(photo)


def test_files_are_closed_again(photo):
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc to count open files")
    before = len(os.listdir(descriptors))
    images = [open_image(photo) for _ in range(5)]
    assert len(os.listdir(descriptors)) == before
    assert len(images) == 5


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "RGB"])
def test_tiffs_that_exif_turns(tmp_path, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 3), np.uint8)
    lying = Image.fromarray(pixels).convert(mode)
    lying.save(tmp_path / "a.tif", exif=exif(6))
    expected = np.rot90(np.asarray(lying.convert("RGB")), -1)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)
