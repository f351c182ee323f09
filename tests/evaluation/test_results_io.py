"""What is saved is what is read again; files that are damaged or foreign are refused."""

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file, save_file

from openanimals.evaluation import FeatureSet, evaluate
from openanimals.evaluation.array_io import (
    SavedResultError,
    beside,
    file_name,
    read_table,
    saved_file,
)
from openanimals.evaluation.results_io import (
    load_evaluation,
    load_scores,
    save_evaluation,
    save_scores,
)
from openanimals.evaluation.significance import compare_evaluations
from openanimals.utils.errors import UserError
from tests.evaluation import distances

NAME = "csv:y.csv"
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


def same_table(one, other):
    # By their text: NaN does not equal itself.
    assert str(one[COLUMNS].values.tolist()) == str(other[COLUMNS].values.tolist())


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    return [
        FeatureSet(table(rows), rng.standard_normal((len(rows), 4)).astype(np.float32), "f7", NAME)
        for rows in (QUERY, GALLERY)
    ]


@pytest.fixture
def saved(sides, tmp_path):
    """The features file, and the result whose rankings are beside it."""
    result = evaluate(*sides)
    return save_evaluation(tmp_path, NAME, *sides, [result]), result


def test_what_is_read_is_what_was_written(sides, saved, tmp_path):
    path, result = saved
    assert {file.name for file in tmp_path.iterdir()} == {
        "features_csv_y.csv.safetensors",
        "images_csv_y.csv.parquet",
        "rankings_csv_y.csv.parquet",
    }
    for again, side in zip(load_evaluation(tmp_path, NAME), sides, strict=True):
        np.testing.assert_array_equal(again.features, side.features)
        assert (again.name, again.fingerprint) == (NAME, "f7")
        same_table(again.images, side.images)
    rankings = read_table(beside(path, "rankings"))
    assert rankings["path"].tolist() == [row[0] for row in QUERY]
    assert rankings["protocol"].tolist() == ["paper"] * 2
    for field in ("average_precision", "inverse_negative_penalty", "first_hit"):
        np.testing.assert_array_equal(rankings[field], getattr(result.ranking, field))
    assert list(load_file(path)) == ["features"]
    assert len(FeatureSet.load(path)) == 5


def test_rankings_of_some_queries_only_are_not_kept(sides, saved, tmp_path):
    _, result = saved
    part = result.part(np.array([True, False]), np.array([True, True, False]))
    path = save_evaluation(tmp_path, NAME, *sides, [part])
    assert not len(read_table(beside(path, "rankings"), ["protocol"]))


@pytest.mark.parametrize("name", ["herd", "herd.v2", "herd.safetensors"])
def test_a_set_of_any_photographs(sides, tmp_path, name):
    whole = FeatureSet.concatenate(sides)
    path = whole.save(tmp_path / name)
    assert path.suffix == ".safetensors" and path.with_suffix(".parquet").is_file()
    again = FeatureSet.load(tmp_path / name)
    assert (again.name, again.fingerprint, len(again)) == (NAME, "f7", 5)
    same_table(again.images, pd.concat([side.images for side in sides]))
    assert not again.features.flags.owndata  # but mapped from the file
    again.features[0] = 7  # for this process alone
    np.testing.assert_array_equal(FeatureSet.load(path).features, whole.features)


def test_some_photographs_of_a_set(sides):
    _, gallery = sides
    for rows in ([2, 0], np.array([True, False, True]), slice(1, None)):
        part = gallery.select(rows)
        np.testing.assert_array_equal(part.features, gallery.features[rows])
        same_table(part.images, gallery.images.iloc[rows])
    assert part.features.base is not None  # a slice is no copy
    assert part.column("date") == [None, None] and part.column("weight") == [None, None]


def test_sets_of_two_models_are_refused(sides):
    query, gallery = sides
    other = FeatureSet(gallery.images, gallery.features, "f8", "herd")
    unknown = FeatureSet(gallery.images, gallery.features)
    for act in (
        lambda: evaluate(query, other),
        lambda: FeatureSet.concatenate([unknown, *sides, other]),
    ):
        with pytest.raises(UserError, match=r"csv:y.csv of 2 images and herd of 3 .* f7 and f8\)"):
            act()
    assert evaluate(query, unknown).rank(1) == evaluate(query, gallery).rank(1)
    assert FeatureSet.concatenate([unknown, query]).fingerprint == "f7"
    with pytest.raises(UserError, match=r"a set of 3 images has features of the shape \[2, 4\]"):
        FeatureSet(gallery.images, query.features)


def test_half_the_bytes(sides, tmp_path):
    save_evaluation(tmp_path, NAME, *sides, [], dtype="float16")
    again = load_evaluation(tmp_path, NAME)
    assert {side.features.dtype for side in again} == {np.dtype(np.float16)}
    np.testing.assert_allclose(again[1].features, sides[1].features, rtol=2**-11, atol=2**-25)
    np.testing.assert_array_equal(evaluate(*again).top, evaluate(*sides).top)


@pytest.mark.parametrize("number", [1e5, -1e5, 1e-6])
def test_features_that_float16_cannot_hold(sides, tmp_path, number):
    sides[1].features[:2] = [[0, 0, 0, 0], [0, number, 0, 0]]
    with pytest.raises(UserError, match="feature of image 3 of .* set TEST.STORE to float32"):
        save_evaluation(tmp_path, NAME, *sides, [], dtype="float16")
    assert not list(tmp_path.iterdir())


def images_file(saved):
    return saved[0].with_name("images_csv_y.csv.parquet")


def test_dates_may_be_filled_in_later_and_identities_may_not(saved, tmp_path):
    path, file = saved[0], images_file(saved)
    frame = pd.read_parquet(file)
    frame.loc[frame["date"] == "2025-04-01", "date"] = "2025-05-01"
    frame.to_parquet(file)
    query, gallery = load_evaluation(tmp_path, NAME)
    assert query.column("date") == ["2025-05-01", None]
    assert gallery.column("path")[1] == "b/\udcff.jpg"
    frame.loc[2, "identity"] = "bo"
    frame.to_parquet(file)
    with pytest.raises(SavedResultError, match="is of another catalogue than images_csv"):
        FeatureSet.load(path)
    file.unlink()
    with pytest.raises(SavedResultError, match=r"no .*images_csv_y\.csv\.parquet"):
        FeatureSet.load(path)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"part": ["query"]}, "no column path"),
        ({"bbox": [["a"]]}, "could not convert string to float"),
        ({"date": pd.to_datetime(["2025-05-01"])}, "is no date; expected YYYY-MM-DD"),
        ({"date": ["1/5/2025"]}, "'1/5/2025' is no date"),
    ],
)
def test_tables_of_another_kind(saved, columns, message):
    known = {} if "part" in columns else {"part": ["query"], "path": ["a"], "identity": ["ada"]}
    pd.DataFrame({**known, **columns}).to_parquet(images_file(saved))
    with pytest.raises(SavedResultError, match=rf"images_csv_y\.csv\.parquet: .*{message}"):
        FeatureSet.load(saved[0])


def test_damaged_tables(saved):
    path = saved[0]
    compare_evaluations(path, path)
    acts = {"images": FeatureSet.load, "rankings": lambda path: compare_evaluations(path, path)}
    for kind, act in acts.items():
        file = beside(path, kind)
        content = file.read_bytes()
        for damaged in (b"", b"nonsense", content[: len(content) // 2], content[:-1]):
            file.write_bytes(damaged)
            with pytest.raises(SavedResultError, match="expected a Parquet table with the columns"):
                act(path)
        file.write_bytes(content)
    foreign = pd.read_parquet(file)
    foreign.attrs = {}
    foreign.to_parquet(file)
    with pytest.raises(SavedResultError, match="does not say which images it is of"):
        compare_evaluations(path, path)


def test_an_outline_may_be_long_and_a_user_may_add_columns(sides, tmp_path):
    query, _ = sides
    images = query.images.assign(mask=json.dumps([list(range(50_000))]), weight=[1.5, None])
    FeatureSet(images, query.features).save(tmp_path / "herd")
    again = FeatureSet.load(tmp_path / "herd")
    assert again.column("mask") == images["mask"].tolist()
    assert again.column("weight") == [1.5, None]
    mixed = query.images.assign(weight=[1.5, "heavy"])
    with pytest.raises(UserError, match="herd.parquet: .*expected one type in each column"):
        FeatureSet(mixed, query.features).save(tmp_path / "herd")


def test_a_folder_may_be_called_like_a_column(saved, tmp_path):
    folder = tmp_path / "path=7"
    folder.mkdir()
    for file in [*tmp_path.glob("*_*")]:
        file.rename(folder / file.name)
    query, _ = load_evaluation(folder, NAME)
    assert list(query.images.columns) == [*COLUMNS, "part"]


class Malice:
    def __reduce__(self):
        return pytest.fail, ("a pickle was executed",)


def test_foreign_files(saved, tmp_path):
    path, _ = saved
    for content in (pickle.dumps(Malice()), path.read_bytes()[:-1]):
        path.write_bytes(content)
        with pytest.raises(SavedResultError, match="is damaged"):
            FeatureSet.load(path)
    for array in (np.ones((5, 4)), np.ones(3)):
        save_file({"features": array}, path)
        with pytest.raises(SavedResultError, match="is not a file of features"):
            FeatureSet.load(path)
    with pytest.raises(SavedResultError, match=r"no saved features at .*features_a_b-"):
        load_evaluation(tmp_path, "a:b")
    with pytest.raises(SavedResultError, match="is not a file of scores"):
        load_scores(path)


def test_a_file_of_another_test_set(saved, tmp_path):
    path = saved_file(tmp_path, "features", NAME)
    for other in (path, beside(path, "images")):
        other.rename(other.with_name(other.name.replace(file_name(NAME), "herd")))
    with pytest.raises(SavedResultError, match=f"holds features of {NAME}, not of herd"):
        load_evaluation(tmp_path, "herd")


def test_no_two_names_have_one_file(tmp_path):
    plain = {"Animals-HyenaID2022": "Animals-HyenaID2022", "folder:my_photos": "folder_my_photos"}
    assert {name: file_name(name) for name in plain} == plain
    paths = [
        "photos",
        "../photos",
        "a/photos",
        "a_photos",
        "/photos",
        "photos/",
        ".photos",
        "a:photos",
    ]
    names = [*plain, *(f"{kind}:{path}" for kind in ("folder", "csv", "own") for path in paths)]
    names += [
        "folder_my_photos",
        "csv:x/y.csv",
        "csv:x_y.csv",
        "folder:.",
        "folder:..",
        "folder:",
        "?",
    ]
    names += ["\udcff", "\ud800", "e\u0301", "é", "", "a\nb", "a b", "雪"]
    names += [f"folder:/{place * 300}/zebras" for place in ("a", "b", "雪")]
    files = [saved_file(tmp_path, "features", name) for name in names]
    for file in files:
        file.with_name(f".{file.name}.abcdefgh.tmp").touch()
        assert ".." not in file.name and "__" not in file.name
    assert len({*files}) == len(names)
    assert file_name("folder:../photos").startswith("folder_photos-")
    assert file_name("Animals-Herd:identities=13,images=5,pixels=48").startswith(
        "Animals-Herd_identi"
    )


def test_scores_and_their_images(sides, tmp_path):
    query, gallery = sides
    scores = distances(query.features, gallery.features)
    blocks = ((slice(row, row + 1), scores[row : row + 1]) for row in range(2))
    path = save_scores(tmp_path, NAME, blocks, query.images, gallery.images)
    assert path == saved_file(tmp_path, "scores", NAME)
    name, again, *images = load_scores(path)
    assert name == NAME
    np.testing.assert_array_equal(again, scores)
    for found, side in zip(images, sides, strict=True):
        same_table(found, side.images)
    with pytest.raises(UserError, match="rows 1 to 1 are missing"):
        save_scores(tmp_path, NAME, [(slice(0, 1), scores[:1])], query.images, gallery.images)
    np.testing.assert_array_equal(load_scores(path)[1], scores)  # still whole
