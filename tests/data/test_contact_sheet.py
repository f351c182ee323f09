import warnings

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from openanimals.data.catalogue import Catalogue, CatalogueError
from openanimals.data.contact_sheet import contact_sheet
from tests.data.pictures import save_picture


def drawn(path):
    """The pixels of a saved picture ``[H, W, 3]``."""
    return np.asarray(Image.open(path).convert("RGB"))


def herd(folder, *names):
    """A catalogue with one photograph for each name."""
    save_picture(folder / "1.png")
    return Catalogue("x", folder, pd.DataFrame({"path": "1.png", "identity": names}))


@pytest.mark.parametrize(("suffix", "kind"), [("png", "PNG"), ("JPG", "JPEG")])
def test_a_row_for_each_individual(tmp_path, suffix, kind):
    colours = {"a": (250, 0, 0), "b": (0, 250, 0), "c": (0, 0, 250)}
    rows = []
    for identity, colour in colours.items():
        for number in range(5):
            picture = Image.new("RGB", (30, 20), (90, 90, 90))
            picture.paste(colour, (10, 5, 20, 15))
            picture.save(save_picture(tmp_path / identity / f"{number}.png"))
            rows.append((f"{identity}/{number}.png", identity, (10, 5, 10, 10)))
    table = pd.DataFrame(rows, columns=["path", "identity", "bbox"], dtype=object)
    target = tmp_path / "new" / f"sheet.{suffix}"
    contact_sheet(Catalogue("x", tmp_path, table), target, columns=4, rows=2, thumb=50)
    with Image.open(target) as saved:
        assert saved.format == kind
    if kind == "PNG":
        # The crops fill their places, so 2 of 3 individuals show 4 squares of pure colour each.
        places = [(drawn(target) == colour).all(2) for colour in colours.values()]
        assert [place.sum() for place in places] == [4 * 2500, 4 * 2500, 0]
        top, below = (np.flatnonzero(place.any(1)) for place in places[:2])
        assert len(top) == len(below) == 50 and below[0] == top[-1] + 5


def test_what_cannot_be_read_is_crossed_out(tmp_path):
    catalogue = herd(tmp_path, "a")
    (tmp_path / "1.png").write_bytes(b"no picture")
    contact_sheet(catalogue, tmp_path / "sheet.png", thumb=40)
    assert (drawn(tmp_path / "sheet.png") == (200, 40, 40)).all(2).sum() == 80


def test_names_of_many_scripts(tmp_path, monkeypatch):
    names = ["Éloïse", "Żółć", "Åsa", "Ñandú", "Эльза", "Ελένη", "Nguyễn"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        contact_sheet(herd(tmp_path, *names), tmp_path / "s.png")
        contact_sheet(herd(tmp_path, "象"), tmp_path / "s.png")  # not in the font, and not told
        monkeypatch.setattr(warnings, "filterwarnings", lambda *_: None)
        contact_sheet(herd(tmp_path, *names), tmp_path / "s.png")
        with pytest.raises(UserWarning, match="Glyph"):
            contact_sheet(herd(tmp_path, "象"), tmp_path / "s.png")


def test_what_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"sheet.gif: expected a file name in .png, .jpg"):
        contact_sheet(herd(tmp_path, "a"), "sheet.gif")
    with pytest.raises(CatalogueError, match="no individual"):
        contact_sheet(herd(tmp_path, "unknown"), "sheet.png")
