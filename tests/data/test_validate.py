import numpy as np
import pandas as pd
import pytest
from PIL import Image

from openanimals.data.catalogue import Catalogue
from openanimals.data.splits import Split
from openanimals.data.validate import check_data
from tests.data.pictures import save_noise, save_picture


def checked(catalogue, *arguments, **keywords):
    """What the table says: the text of each line by its label, and of the last under ""."""
    title, *lines, last = check_data(catalogue, *arguments, **keywords)[0].splitlines()
    assert title == catalogue.name
    pairs = (line.strip().split("  ", 1) for line in lines)
    return {**{label: text.strip() for label, text in pairs}, "": last.strip()}


@pytest.fixture
def herd(tmp_path):
    """A catalogue with one of each fault; the numbers in the tests are counted by hand."""
    rows = [
        ("a/1.png", "a", (1, 1, 4, 4)),
        ("a/2.png", "a", (5, 2, 9, 3)),  # leaves the image of 8 x 6
        ("a/3.png", "a", (8, 0, 3, 3)),  # wholly outside
        ("a/4.png", "a", (2, 2, 0, 3)),  # empty
        ("b/1.png", "b", None),
        ("b/2.png", "b", None),
        ("b/gone.png", "b", None),
        ("c/1.png", "c", None),
        ("c/1.png", "d", None),  # one photograph, two names
        ("c/1.png", "c", None),  # twice the same
        ("u/1.png", "unknown", None),
    ]
    for number, (path, _, _) in enumerate(rows):
        if "gone" not in path:
            save_noise(tmp_path / path, number, (6, 8))
    save_noise(tmp_path / "b/1.png", 0, (10, 40))
    whole = save_picture(tmp_path / "b/2.png", (200, 200)).read_bytes()
    (tmp_path / "b/2.png").write_bytes(whole[: len(whole) // 2])
    table = pd.DataFrame(rows, columns=["path", "identity", "bbox"], dtype=object)
    return Catalogue("herd", tmp_path, table)


def test_every_fault_is_found(herd):
    found = checked(herd, Split([0, 1, 2, 3], [4], [5, 6]))
    broken, bad = found.pop("broken files"), found.pop("unusable boxes")
    assert broken.startswith("1 (") and str(herd.root / "b/2.png") in broken
    assert bad.startswith(f"2 ({herd.root / 'a/3.png'} (8.0, ")
    assert f"; {herd.root / 'a/4.png'} (2.0, 2.0, 0.0, 3.0))" in bad
    assert found == {
        "images": "11",
        "individuals": "4 (and 1 images of unknown ones)",
        "images each": "min 1, median 2.5, max 4",  # a 4, b 3, c 2, d 1
        **{f"with a {what}": "0" for what in ("date", "time of day", "sequence", "known side")},
        "with a mask": "0",
        "image width": "min 8, median 8, max 40",
        "image height": "min 6, median 6, max 10",
        "box width": "min 4, median 6.5, max 9",
        "box height": "min 3, median 3.5, max 4",
        "train": "4 images of 1 individuals  <- near empty",
        "query": "1 images of 1 individuals  <- near empty",
        "gallery": "2 images of 1 individuals  <- near empty",
        "missing files": f"1 ({herd.root / 'b/gone.png'})",
        "nearly constant pictures": "0",
        "masks that remove nothing": "0",
        "boxes partly outside": "1",
        "images of two individuals": "1 (c/1.png: c, d)",
        "copies of images": "0",
        "rows repeated": "1",
        "names nearly equal": "0",
        "names of nobody": "0",
        "individuals with 1 image": "1 (d)",
        "... with less than 4": "2 (b; c)",
        "queries without a match": "0",
        "": "6 faults to mend",
    }


def test_what_evaluation_can_use_is_counted(tmp_path):
    save_picture(tmp_path / "1.png")
    columns = {
        "date": ["2025-04-01", "2025-04-01 09:32", None, None],
        "sequence": ["s1", None, None, None],
        "viewpoint": ["left", "front", "Right", "backright"],
        "mask": ["1.png", "gone.png", "[[0, 0, 4, 0, 4, 4]]", None],
    }
    table = pd.DataFrame({"path": "1.png", "identity": list("abcd"), **columns}, dtype=object)
    found = checked(Catalogue("x", tmp_path, table))
    counts = {"date": "2", "time of day": "1", "sequence": "1", "known side": "3", "mask": "3"}
    assert {what: found[f"with a {what}"] for what in counts} == counts
    assert found["missing files"] == f"1 ({tmp_path / 'gone.png'})"


def test_masks_that_cannot_be_used_are_found(tmp_path):
    save_noise(tmp_path / "1.png", 0, (6, 8))
    save_picture(tmp_path / "tall.png", (6, 8))
    (tmp_path / "broken.png").write_text("no picture")
    masks = ["broken.png", "tall.png", "[[0, 0, 1]]", "[[0, 0, 4, 0, 4, 4]]", "gone.png", None]
    table = pd.DataFrame({"path": "1.png", "identity": "a", "mask": masks}, dtype=object)
    found = checked(Catalogue("x", tmp_path, table))
    assert found["missing files"] == f"1 ({tmp_path / 'gone.png'})"
    assert found["broken files"].startswith("3 (")
    causes = found["broken files"].split("; cannot read image")
    for cause, word in zip(causes, ["broken.png", "6 x 8", "not a shape"], strict=True):
        assert word in cause
    assert (found[""], found["image width"]) == ("4 faults to mend", "min 8, median 8, max 8")


def test_masks_without_effect_are_faults(tmp_path):
    """Of 20 x 30 pixels, a mask that takes a row off is worth its place, one of a pixel is not."""
    ones = np.ones((20, 30), np.uint8)
    masks = {"ones": ones, "white": ones * 255, "small": ones[:10, :15], "row": ones.copy()}
    masks["row"][0] = 0
    masks["alpha"] = np.dstack([ones, ones, ones, 0 * ones])  # what is see-through does not count
    files = {}
    for number, (name, pixels) in enumerate(masks.items()):
        Image.fromarray(pixels).save(tmp_path / f"mask_{name}.png")
        files[name] = f"mask_{name}.png"
        save_noise(tmp_path / f"{name}.png", number, (20, 30))
    files |= {"whole": "[[0, 0, 30, 0, 30, 20, 0, 20]]", "half": "[[0, 0, 30, 0, 0, 20]]"}
    files |= {"runs": '{"size": [20, 30], "counts": [1, 599]}', "none": None}
    for number, name in enumerate(("whole", "half", "runs", "none")):
        save_noise(tmp_path / f"{name}.png", 10 + number, (20, 30))
    rows = {"path": [f"{name}.png" for name in files], "mask": [*files.values()], "identity": "a"}
    images = Catalogue("x", tmp_path, pd.DataFrame(rows, dtype=object))
    names = [tmp_path / f"{name}.png" for name in ("ones", "white", "small")]
    assert checked(images)["masks that remove nothing"] == f"6 ({'; '.join(map(str, names))}; ...)"
    assert checked(images)[""] == "6 faults to mend"


def test_pictures_of_one_grey_are_faults(tmp_path):
    levels = np.random.default_rng(0).normal(0, 1, (40, 50))
    flat, dark = 90 + 0.5 * levels, 6 + 3 * levels  # noise of a sensor, and a picture at night
    for name, grey in {"flat": flat, "dark": dark}.items():
        pixels = np.dstack([grey.round().clip(0, 255).astype(np.uint8)] * 3)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    save_picture(tmp_path / "one.png")
    files = ["flat.png", "dark.png", "one.png", "one.png"]
    masks = [None, None, None, "[[0, 0, 4, 0, 4, 4]]"]  # a mask gives the picture no content
    table = pd.DataFrame({"path": files, "mask": masks, "identity": "a"}, dtype=object)
    found = checked(Catalogue("x", tmp_path, table))
    expected = f"2 ({tmp_path / 'flat.png'}; {tmp_path / 'one.png'})"
    assert (found["nearly constant pictures"], found[""]) == (expected, "2 faults to mend")


def test_individuals_with_too_few_images_depend_on_the_sampler(herd):
    assert checked(herd, min_images=5)["... with less than 5"] == "3 (a; b; c)"
    assert checked(herd, min_images=2)["... with less than 2"] == "0"


def test_splits_are_looked_at(tmp_path):
    names = ["a"] * 12 + ["b"] * 12 + ["c", "c", "d", "e"]
    save_picture(tmp_path / "1.png")
    catalogue = Catalogue("x", tmp_path, pd.DataFrame({"path": "1.png", "identity": names}))
    found = checked(catalogue, Split(list(range(24)), [24, 26], [25, 27]))
    assert found["train"] == "24 images of 2 individuals"
    assert found["query"] == found["gallery"] == "2 images of 2 individuals  <- near empty"
    assert found["queries without a match"] == "1"
    one_individual = checked(catalogue, Split(list(range(12)), list(range(12, 24)), [24]))
    assert one_individual["train"] == "12 images of 1 individuals  <- near empty"


def test_a_sound_catalogue_has_no_faults(tmp_path):
    paths = [f"{identity}/{number}.png" for identity in "ab" for number in range(4)]
    for number, path in enumerate(paths):
        save_noise(tmp_path / path, number)
    table = pd.DataFrame({"path": paths, "identity": [path[0] for path in paths]})
    found = checked(Catalogue("x", tmp_path, table))
    assert found[""] == "no faults"
    assert not {"box width", "train", "queries without a match"} & set(found)


def test_long_lists_are_cut_and_without_files_there_are_no_sizes(tmp_path):
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(1, 9)], "identity": "unknown"})
    found = checked(Catalogue("x", tmp_path, table))
    three = "; ".join(str(tmp_path / f"{n}.png") for n in (1, 2, 3))
    assert found["missing files"] == f"8 ({three}; ...)"
    assert found["image width"] == found["images each"] == "-"
