import hashlib
import json
import pickle

import numpy as np
import pandas as pd
import pytest
from pyarrow import parquet
from safetensors.numpy import load_file, save_file

from openanimals.evaluation import archive, evaluate, store
from openanimals.evaluation.rows import SavedResultError, TestRows

COLUMNS = ["path", "identity", "bbox", "camera", "date"]
BOX, BAD_BOX = (1.0, 2.5, 3.0, 1e-9), (float("nan"),) * 4
QUERY = [["a/1.jpg", "ada", BOX, None, "2025-04-01"], ['b, "1"\n.jpg', "bo", None, "x", None]]
GALLERY = [
    ["a/2.jpg", "ada", BAD_BOX, None, "2025-04-01T09:00:00"],
    ["b/\udcff.jpg", "bo", None, None, None],  # a file name that is not UTF-8
    ["c/ü.jpg", "", None, None, None],
]


def table(rows):
    return pd.DataFrame(rows, columns=COLUMNS, dtype=object)


@pytest.fixture
def tested():
    rng = np.random.default_rng(0)
    query, gallery = (rng.standard_normal((count, 4)).astype(np.float32) for count in (2, 3))
    rows = TestRows("csv:x/y.csv", "csv", table(QUERY), table(GALLERY))
    return store.TestFeatures(rows, query, gallery)


@pytest.fixture
def saved(tested, tmp_path):
    """The features file, and the result whose rankings are in it."""
    result = evaluate(tested.query, tested.gallery, *tested.rows.labels("identity"))
    return store.save(tmp_path, tested, [result]), result


def test_what_is_read_is_what_was_written(tested, saved, tmp_path):
    path, result = saved
    assert {file.name for file in tmp_path.iterdir()} == {
        "features_csv_x_y.csv.safetensors",
        "images_csv_x_y.csv.parquet",
    }
    again = store.load_features(path)
    np.testing.assert_array_equal(again.query, tested.query)
    np.testing.assert_array_equal(again.gallery, tested.gallery)
    assert (again.rows.name, again.rows.source) == ("csv:x/y.csv", "csv")
    for part, rows in tested.rows.parts().items():
        # By their text: NaN does not equal itself.
        assert str(again.rows.parts()[part].values.tolist()) == str(rows.values.tolist())
    rows, rankings = store.load_rankings(path)
    assert rows.digest() == tested.rows.digest() and list(rankings) == ["paper"]
    for one, other in zip(rankings["paper"], result.ranking, strict=True):
        np.testing.assert_array_equal(one, other)


def test_rankings_of_some_queries_only_are_not_kept(tested, saved, tmp_path):
    _, result = saved
    part = result.part(np.array([True, False]), np.array([True, True, False]))
    assert list(store.load_rankings(store.save(tmp_path, tested, [part]))[1]) == []


def test_features_are_read_when_they_are_looked_at(saved, tested):
    path, _ = saved
    again = store.load_features(path)
    assert not again.query.flags.owndata and not again.gallery.flags.owndata
    again.query[0] = 7  # for this process alone
    np.testing.assert_array_equal(store.load_features(path).query, tested.query)


def test_half_the_bytes(tested, tmp_path):
    path = store.save(tmp_path, tested, [], dtype="float16")
    again = store.load_features(path)
    assert again.query.dtype == again.gallery.dtype == np.float16
    np.testing.assert_allclose(again.gallery, tested.gallery, rtol=2**-11, atol=2**-25)
    found = evaluate(again.query, again.gallery, *again.rows.labels("identity"))
    expected = evaluate(tested.query, tested.gallery, *tested.rows.labels("identity"))
    np.testing.assert_array_equal(found.top, expected.top)


@pytest.mark.parametrize("number", [1e5, -1e5, 1e-6])
def test_features_that_float16_cannot_hold(tested, tmp_path, number):
    tested.gallery[1] = [0, number, 0, 0]
    tested.gallery[0] = 0
    with pytest.raises(ValueError, match="of gallery image 1 is .*; set TEST.STORE to float32"):
        store.save(tmp_path, tested, [], dtype="float16")
    assert not list(tmp_path.iterdir())


def rows_file(saved):
    return saved[0].with_name("images_csv_x_y.csv.parquet")


def test_dates_may_be_filled_in_later_and_identities_may_not(saved):
    path, rows = saved[0], rows_file(saved)
    frame = pd.read_parquet(rows)
    frame.loc[frame["date"] == "2025-04-01", "date"] = "2025-05-01"
    frame.to_parquet(rows)
    again = store.load_features(path).rows
    assert again.labels("date")[0] == ["2025-05-01", None]
    assert again.labels("path")[1][1] == "b/\udcff.jpg"
    frame.loc[2, "identity"] = "bo"
    frame.to_parquet(rows)
    with pytest.raises(SavedResultError, match="features of another catalogue than images_"):
        store.load_features(path)
    rows.unlink()
    with pytest.raises(SavedResultError, match=r"no .*images_csv_x_y\.csv\.parquet"):
        store.load_features(path)


IMAGE = {"part": ["query"], "path": ["a.jpg"], "identity": ["ada"], "bbox": [None]}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"part": ["query"]}, "no column path"),
        ({**IMAGE, "bbox": ["[1, 2, 3, 4]"]}, "the column bbox is of the type .*, not lists of"),
        ({**IMAGE, "bbox": [["a"]]}, "could not convert string to float"),
        ({**IMAGE, "camera": [3]}, "the column camera is of the type int64, not text"),
        ({**IMAGE, "date": pd.to_datetime(["2025-05-01"])}, "date is of the type timestamp"),
        ({**IMAGE, "date": ["1/5/2025"]}, "'1/5/2025' is no date"),
    ],
)
def test_rows_of_another_kind(saved, columns, message):
    rows = rows_file(saved)
    pd.DataFrame(columns).to_parquet(rows)
    with pytest.raises(SavedResultError, match=rf"images_csv_x_y\.csv\.parquet: .*{message}"):
        store.load_rankings(saved[0])


def test_two_columns_of_one_name(saved):
    rows = rows_file(saved)
    table = parquet.read_table(rows)
    parquet.write_table(table.append_column("date", table["date"]), rows)
    with pytest.raises(SavedResultError, match="two columns date; expected a Parquet table"):
        store.load_rankings(saved[0])


def test_damaged_rows(saved):
    rows = rows_file(saved)
    content = rows.read_bytes()
    assert content.index(b"query") < 100  # in the first page, whose checksum it changes
    damaged = [
        *(b"", b"nonsense", content[: len(content) // 2], content[:-1]),
        content.replace(b"query", b"Query", 1),
    ]
    for other in damaged:
        rows.write_bytes(other)
        with pytest.raises(SavedResultError, match="expected a Parquet table of images with the"):
            store.load_features(saved[0])


def test_an_outline_may_be_long(tested, tmp_path):
    rows = tested.rows.query.assign(mask=json.dumps([list(range(50_000))]))
    gallery = tested.rows.gallery.assign(mask=None)
    TestRows("x", "x", rows, gallery).write(tmp_path / "rows.parquet")
    again = TestRows.read(tmp_path / "rows.parquet", "x", "x")
    assert again.labels("mask") == (rows["mask"].tolist(), [None] * 3)


def test_a_folder_may_be_called_like_a_column(saved, tmp_path):
    folder = tmp_path / "path=7"
    folder.mkdir()
    for file in [*tmp_path.glob("*_*")]:
        file.rename(folder / file.name)
    again = store.load_features(folder / saved[0].name)
    assert list(again.rows.query.columns) == COLUMNS


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.9, 0.999])
def test_truncated_features(saved, share):
    path, _ = saved
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    for load in (store.load_features, store.load_rankings):
        with pytest.raises(SavedResultError, match="is not a features file, or is damaged"):
            load(path)


def test_changed_bytes(saved, tested):
    path, _ = saved
    content = path.read_bytes()
    assert content.count(tested.gallery.tobytes()) == 1
    path.write_bytes(content.replace(tested.gallery.tobytes(), tested.gallery[::-1].tobytes()))
    with pytest.raises(SavedResultError, match=r"damaged \(gallery was changed\)"):
        store.load_features(path)
    assert store.load_rankings(path)[1]  # which do not look at features
    path.write_bytes(content.replace(b"paper", b"Paper"))
    with pytest.raises(SavedResultError, match=r"damaged \(its header was changed\)"):
        store.load_rankings(path)


def test_every_single_byte_matters(saved):
    path, _ = saved
    content = path.read_bytes()
    for place in range(0, len(content), 19):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SavedResultError):
            store.load_features(path)
            store.load_rankings(path)


class Malice:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_nothing_is_unpickled(saved):
    path, _ = saved
    path.write_bytes(pickle.dumps(Malice()))
    with pytest.raises(SavedResultError, match="damaged"):
        store.load_features(path)


def test_other_files_of_this_kind(saved):
    path, _ = saved
    save_file({"query": np.ones(3)}, path)
    with pytest.raises(SavedResultError, match="its header was changed"):
        store.load_features(path)


def rewrite(path, **changes):
    """Write a features file with other arrays, as if they were right."""
    header = {key: value for key, value in archive.read_header(path).items() if key != "arrays"}
    archive.write_archive(path, header, {**load_file(path), **changes})


def test_shapes_and_format(saved, tested):
    path, _ = saved
    rewrite(path, gallery=tested.gallery[:, :3])
    with pytest.raises(SavedResultError, match=r"gallery features are float32 .* \[3, 3\]"):
        store.load_features(path)
    rewrite(path, gallery=tested.gallery.astype(np.float64))
    with pytest.raises(SavedResultError, match="float64"):
        store.load_features(path)
    rewrite(path, gallery=tested.gallery, query=np.ones(2, dtype=np.float32))
    with pytest.raises(SavedResultError, match=r"query features are float32 of the shape \[2\]"):
        store.load_features(path)
    rewrite(path, **{"0/first_hit": np.ones(3)})
    with pytest.raises(SavedResultError, match=r"first_hit \(paper\) has the shape \[3\]"):
        store.load_rankings(path)
    text = json.dumps({**archive.read_header(path), "format": 3})
    stamp = {"header": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}
    save_file(load_file(path), path, stamp)
    with pytest.raises(SavedResultError, match="has format 3; this version reads 2"):
        store.load_features(path)


def test_what_an_earlier_version_left(tmp_path):
    path = store.features_file(tmp_path, "herd")
    older = path.with_suffix(".npz")
    np.savez(older, query=np.ones(3))
    for asked in (path, older):
        with pytest.raises(SavedResultError, match=r"features_herd\.npz was left by an earlier"):
            store.load_features(asked)


def test_a_missing_file(tmp_path):
    with pytest.raises(SavedResultError, match=r"no saved features at .*features_a_b\.safetensors"):
        store.load_features(store.features_file(tmp_path, "a:b"))


def test_names_of_files_are_not_too_long(tmp_path):
    names = [f"folder:/{place * 300}/zebras" for place in ("a", "b", "雪")]
    files = [store.features_file(tmp_path, name) for name in names]
    for file in files:
        file.with_name(f".{file.name}.abcdefgh.tmp").touch()
        assert file.stem.endswith("_zebras")
    assert len({*files}) == 3
    assert store.file_name("csv:x/y.csv") == "csv_x_y.csv"


def test_what_differs_is_named():
    one = TestRows("x", "x", table(QUERY), table(GALLERY))
    assert one.first_difference(TestRows("y", "y", table(QUERY), table(GALLERY))) == ""
    moved = TestRows("x", "x", table(QUERY[::-1]), table(GALLERY))
    assert one.first_difference(moved).startswith("query image 0 is a/1.jpg of ada against b, ")
    fewer = TestRows("x", "x", table(QUERY), table(GALLERY[:2]))
    assert one.first_difference(fewer) == "3 gallery images against 2"
