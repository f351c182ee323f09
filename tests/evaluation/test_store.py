import json
import pickle

import numpy as np
import pandas as pd
import pytest

from openanimals.evaluation import evaluate, store
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
        "features_csv_x_y.csv.npz",
        "images_csv_x_y.csv.csv",
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


def test_dates_may_be_filled_in_later_and_identities_may_not(saved):
    path, _ = saved
    rows = path.with_name("images_csv_x_y.csv.csv")
    text = rows.read_text(errors="surrogateescape")
    rows.write_text(text.replace("2025-04-01\n", "2025-05-01\n"), errors="surrogateescape")
    assert store.load_features(path).rows.labels("date")[0][0] == "2025-05-01"
    rows.write_text(text.replace("a/2.jpg,ada", "a/2.jpg,bo"), errors="surrogateescape")
    with pytest.raises(SavedResultError, match="features of another catalogue than images_"):
        store.load_features(path)
    rows.unlink()
    with pytest.raises(SavedResultError, match=r"no .*images_csv_x_y\.csv\.csv"):
        store.load_features(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", r"images_csv_x_y\.csv\.csv, line 1: no column part; expected a table"),
        ("", "no column part"),
        ("part,path,identity,bbox,bbox\n", "line 1: two columns bbox"),
        ("part,path,identity,\udcff,bbox\n", "line 1: .*surrogates"),
        ("part,path,identity,bbox\nquery,a.jpg\n", r"line 2: 2 cells, not 4 \(query, a\.jpg"),
        ("part,path,identity,bbox\nquery,a.jpg,ada,[1\n", "line 2: .*expected a table"),
        ("part,path,identity,bbox\nquery,a.jpg,ada,7\n", "line 2: .*expected a table"),
        ("part,path,identity,bbox,date\nquery,a.jpg,ada,,1/5/2025\n", "'1/5/2025' is no date"),
    ],
)
def test_damaged_rows(saved, content, message):
    rows = saved[0].with_name("images_csv_x_y.csv.csv")
    rows.write_text(content, errors="surrogateescape")
    with pytest.raises(SavedResultError, match=message):
        store.load_rankings(saved[0])


def test_rows_that_went_through_a_spreadsheet(saved):
    path, _ = saved
    rows = path.with_name("images_csv_x_y.csv.csv")
    rows.write_bytes(b"\xef\xbb\xbf" + rows.read_bytes() + b"\r\n")  # UTF-8's mark, an empty line
    assert store.load_features(path).rows.labels("date")[0] == ["2025-04-01", None]


def test_an_outline_may_be_long(tested, tmp_path):
    rows = tested.rows.query.assign(mask=json.dumps([list(range(50_000))]))
    gallery = tested.rows.gallery.assign(mask=None)
    TestRows("x", "x", rows, gallery).write(tmp_path / "rows.csv")
    again = TestRows.read(tmp_path / "rows.csv", "x", "x")
    assert again.labels("mask") == (rows["mask"].tolist(), [None] * 3)


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
    with pytest.raises(SavedResultError, match="damaged"):
        store.load_features(path)
    method = content.index(b"PK\1\2") + 10  # of compression, in the table of contents
    path.write_bytes(content[:method] + b"\x63" + content[method + 1 :])
    with pytest.raises(SavedResultError, match="damaged"):
        store.load_features(path)


class Malice:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


@pytest.mark.parametrize("kind", ["pickle", "objects"])
def test_nothing_is_unpickled(saved, kind):
    path, _ = saved
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Malice()))
    else:
        np.savez(path, header=np.array([Malice()], dtype=object))
    with pytest.raises(SavedResultError, match="damaged") as error:
        store.load_features(path)
    assert "allow_pickle" not in str(error.value) or kind == "objects"


def rewrite(path, **changes):
    arrays = {**np.load(path), **changes}
    np.savez(path, **arrays)


def test_shapes_and_format(saved, tested):
    path, _ = saved
    header = json.loads(np.load(path)["header"].item())
    rewrite(path, gallery=tested.gallery[:, :3])
    with pytest.raises(SavedResultError, match=r"gallery features are float32 .* \[3, 3\]"):
        store.load_features(path)
    rewrite(path, gallery=tested.gallery.astype(np.float64))
    with pytest.raises(SavedResultError, match="float64"):
        store.load_features(path)
    rewrite(path, **{"0/first_hit": np.ones(3)})
    with pytest.raises(SavedResultError, match=r"first_hit \(paper\) has the shape \[3\]"):
        store.load_rankings(path)
    rewrite(path, header=np.array(json.dumps({**header, "format": 2})))
    with pytest.raises(SavedResultError, match="has format 2; this version reads 1"):
        store.load_features(path)


def test_a_missing_file(tmp_path):
    with pytest.raises(SavedResultError, match=r"no saved features at .*features_a_b\.npz"):
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
