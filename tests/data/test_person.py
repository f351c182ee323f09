import pytest

from openanimals.data.catalogue import CatalogueError
from openanimals.data.datasets import load_catalogue
from tests.data.pictures import save_picture

MARKET = {
    "bounding_box_train/0002_c1s1_000451_03.jpg": ("0002", "1", "train"),
    "bounding_box_train/0007_c3s3_077419_03.jpg": ("0007", "3", "train"),
    "query/0001_c6s1_001051_00.jpg": ("0001", "6", "query"),
    "bounding_box_test/0000_c1s1_000151_01.jpg": ("0000", "1", "gallery"),
    "bounding_box_test/0001_c2s1_000301_00.jpg": ("0001", "2", "gallery"),
}
JUNK = "bounding_box_test/-1_c1s1_000401_03.jpg"
DUKE = {
    "bounding_box_train/0001_c2_f0046182.jpg": ("0001", "2", "train"),
    "query/0005_c2_f0046985.jpg": ("0005", "2", "query"),
    "bounding_box_test/0005_c8_f0045000.jpg": ("0005", "8", "gallery"),
}
MSMT = {  # list, line, folder of V1, folder of V2, expected identity, camera and split
    "list_train.txt": ("0000/0000_000_01_0303morning_0015_1.jpg 0", "train", "train-0", "01"),
    "list_val.txt": ("0001/0001_004_11_0303noon_0020_0.jpg 1", "train", "train-1", "11"),
    "list_query.txt": ("0000/0000_012_02_0303afternoon_0110_0.jpg 0", "test", "test-0", "02"),
    "list_gallery.txt": ("0000/0000_013_15_0303evening_0111_0.jpg 0", "test", "test-0", "15"),
}


def rows(catalogue):
    columns = (catalogue.column(column) for column in ("path", "identity", "camera", "split"))
    return {path: tuple(rest) for path, *rest in zip(*columns, strict=True)}


def make_msmt(base, folders):
    for file, (line, part, _, _) in MSMT.items():
        base.mkdir(parents=True, exist_ok=True)
        (base / file).write_text(f"{line}\n")
        save_picture(base / folders[part] / line.split()[0])


@pytest.mark.parametrize(
    ("name", "folder", "files"),
    [
        ("Market1501", "Market-1501-v15.09.15", MARKET),
        ("Market1501", "Market1501", MARKET),
        ("DukeMTMC", "DukeMTMC-reID", DUKE),
        ("DukeMTMC", "DukeMTMC", DUKE),
    ],
)
def test_junk_is_dropped_and_distractors_are_kept(tmp_path, name, folder, files):
    for path in [*files, JUNK]:
        save_picture(tmp_path / folder / path)
    (tmp_path / folder / "query" / "Thumbs.db").touch()
    catalogue = load_catalogue(name, tmp_path)
    assert rows(catalogue) == files
    assert all(catalogue.path(row).is_file() for row in range(len(catalogue)))


@pytest.mark.parametrize(
    ("version", "folders"),
    [
        ("MSMT17_V1", {"train": "train", "test": "test"}),
        ("MSMT17_V2", {"train": "mask_train_v2", "test": "mask_test_v2"}),
    ],
)
def test_msmt17_keeps_train_and_test_people_apart(tmp_path, version, folders):
    make_msmt(tmp_path / version, folders)
    catalogue = load_catalogue("MSMT17", tmp_path)
    splits = ["train", "train", "query", "gallery"]
    assert rows(catalogue) == {
        f"{folders[part]}/{line.split()[0]}": (identity, camera, split)
        for (line, part, identity, camera), split in zip(MSMT.values(), splits, strict=True)
    }
    assert all(catalogue.path(row).is_file() for row in range(len(catalogue)))


@pytest.mark.parametrize("name", ["Market1501", "DukeMTMC", "MSMT17"])
def test_missing_data_says_where_it_was_looked_for(tmp_path, name):
    with pytest.raises(CatalogueError, match=f"{name}: not found; looked for {tmp_path}/"):
        load_catalogue(name, tmp_path)


def test_a_missing_folder_an_empty_split_and_a_strange_name(tmp_path):
    base = tmp_path / "DukeMTMC-reID"
    for path in DUKE:
        save_picture(base / path)
    query = base / "query" / "0005_c2_f0046985.jpg"
    query.rename(base / "query" / "holiday.jpg")
    with pytest.raises(CatalogueError, match=r"query/holiday.jpg should be called <identity>_c"):
        load_catalogue("DukeMTMC", tmp_path)
    (base / "query" / "holiday.jpg").unlink()
    with pytest.raises(CatalogueError, match="has no query image"):
        load_catalogue("DukeMTMC", tmp_path)
    (base / "query").rmdir()
    with pytest.raises(CatalogueError, match=f"no folder {base}/query"):
        load_catalogue("DukeMTMC", tmp_path)


def test_msmt17_lists(tmp_path):
    base = tmp_path / "MSMT17_V1"
    make_msmt(base, {"train": "train", "test": "test"})
    (base / "list_val.txt").write_text("0001/0001_004_11_0303noon_0020_0.jpg 1\nnonsense\n")
    with pytest.raises(CatalogueError, match="list_val.txt, line 2 is 'nonsense'"):
        load_catalogue("MSMT17", tmp_path)
    (base / "list_val.txt").unlink()
    with pytest.raises(CatalogueError, match=f"no list {base}/list_val.txt"):
        load_catalogue("MSMT17", tmp_path)
