"""Files of photographs that are none, and those that are the same."""

import os

import pytest

from openanimals.data.datasets import load_catalogue
from openanimals.data.files import find_copies, unusable_files
from openanimals.data.image_io import ImageError, open_image
from tests.data.pictures import save_noise


def test_files_that_are_none_are_told_with_a_hint_at_the_case(tmp_path):
    for name in ("Kesi/1.JPG", "Kesi/n\u00e4h.jpg", "Kesi/2.jpeg", "there.png"):
        save_noise(tmp_path / name, 0)
    os.mkfifo(tmp_path / "fifo.jpg")
    for link, target in (("loop.jpg",) * 2, ("device.jpg", "/dev/zero"), ("ok.jpg", "there.png")):
        (tmp_path / link).symlink_to(target)
    (tmp_path / "folder.jpg").mkdir()
    with pytest.raises(ValueError) as refusal:
        os.stat("\0")
    nul = refusal.value  # in the words of this Python
    expected = {
        "Kesi/1.jpg": f"(did you mean {tmp_path}/Kesi/1.JPG?)",
        "kesi/1.jpg": f"(did you mean {tmp_path}/Kesi/1.JPG?)",
        "Kesi/na\u0308h.jpg": f"(did you mean {tmp_path}/Kesi/n\u00e4h.jpg?)",
        "Kesi/2.jpg": f"(did you mean {tmp_path}/Kesi/2.jpeg?)",
        "fifo.jpg": "(a FIFO, not a file)",
        "device.jpg": "(a device, not a file)",
        "folder.jpg": "(a folder, not a file)",
        "loop.jpg": "(Too many levels of symbolic links)",
        "gone.jpg": "",
        "no/gone.jpg": "",
        "a\0b.jpg": f"({nul})",
    }
    files = [f"{tmp_path}/{name}" for name in [*expected, "there.png", "ok.jpg"]]
    assert unusable_files(files) == {
        f"{tmp_path}/{name}": f"{tmp_path}/{name} {why}".strip() for name, why in expected.items()
    }
    with pytest.raises(ImageError, match="a directory, FIFO or device, not a file"):
        open_image(tmp_path / "fifo.jpg")


def test_copies_are_found_by_content_and_boxes_count(tmp_path):
    pictures = [save_noise(tmp_path / f"{n}.bmp", n, (60, 60)) for n in range(3)]  # of one size
    whole = bytearray(pictures[0].read_bytes())
    (tmp_path / "copy.bmp").write_bytes(whole)
    whole[60] ^= 1  # as long, and equal at its end
    (tmp_path / "other.bmp").write_bytes(whole)
    (tmp_path / "link.bmp").symlink_to("1.bmp")
    os.mkfifo(tmp_path / "fifo.bmp")
    for name in ("empty.bmp", "empty2.bmp"):
        (tmp_path / name).touch()
    left, right = (0.0, 0.0, 5.0, 5.0), (6.0, 0.0, 5.0, 5.0)
    rows = [
        *(("0.bmp", None), ("1.bmp", left), ("1.bmp", right), ("2.bmp", None), ("copy.bmp", None)),
        *(("other.bmp", None), ("link.bmp", right), ("gone.bmp", None), ("fifo.bmp", None)),
        *(("empty.bmp", None), ("empty2.bmp", None), ("2.bmp", None), ("2.bmp", left)),
    ]
    files = [str(tmp_path / name) for name, _ in rows]
    assert find_copies(files, [box for _, box in rows]) == [[0, 4], [2, 6], [3, 11]]


def test_the_eight_pairs_of_nyala(shared, package):
    catalogue = load_catalogue("Animals-NyalaData", shared / "data")
    files = [str(catalogue.path(row)) for row in range(len(catalogue))]
    groups = find_copies(files, catalogue.column("bbox"))
    contents = {}
    for row, file in enumerate(files):
        with open(file, "rb") as handle:
            contents.setdefault(handle.read(), []).append(row)
    assert sorted(groups) == sorted(rows for rows in contents.values() if len(rows) > 1)
    assert [len(rows) for rows in groups] == [2] * 8
