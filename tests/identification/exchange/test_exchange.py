"""What others read: Wildbook's sheets; Camtrap DP, by frictionless; COCO, by pycocotools."""

import csv
import json
import re
import shutil
from datetime import datetime
from functools import partial

import numpy as np
import openpyxl
import pytest

from openanimals.identification.catalogue_file import as_table
from openanimals.identification.exchange import wildbook
from openanimals.identification.exchange.camtrap_dp import fill_camtrap_dp
from openanimals.identification.exchange.coco import write_coco
from openanimals.identification.exchange.wildbook import write_wildbook
from openanimals.utils.errors import UserError
from tests.identification.importing import importing_fixtures


def catalogue(*rows: dict):
    return as_table(rows)


photograph = partial(importing_fixtures.photograph, size=(200, 100))


# Wildbook

SEEN = {"date": "2020-05-17T07:30:00", "species": "Panthera pardus", "camera": "Dam 3"}


def sheet(path):
    header, *rows = openpyxl.load_workbook(path).active.iter_rows()
    assert not any(value.data_type == "f" for row in rows for value in row), "a formula"
    names = [value.value for value in header]
    return [dict(zip(names, (value.value for value in row), strict=True)) for row in rows]


def test_an_encounter_is_a_line(tmp_path):
    table = catalogue(
        {"path": "a/1.jpg", "sequence": "e/1", "identity": "=Tom", **SEEN, "latitude": "-1.23456"},
        {"path": "a/2.jpg", "sequence": "e/1", "identity": "=Tom", **SEEN, "longitude": "36.98765"},
        {"path": "a/3.jpg", "sequence": "e/1", "identity": "Ada", **SEEN},
        {"path": "a/4.jpg", **SEEN, "species": None, "date": "2020-05-18"},
    )
    table["longitude"] = table["longitude"].fillna("36.98765")
    written = write_wildbook(table, tmp_path, submitter="me", species="panthera Leo", decimals=2)
    first, second, third = sheet(written.spreadsheets[0])
    assert first == {
        "Encounter.mediaAsset0": "1.jpg",
        "Encounter.mediaAsset1": "2.jpg",
        "Encounter.genus": "Panthera",
        "Encounter.specificEpithet": "pardus",
        **{"Encounter.year": 2020, "Encounter.month": 5, "Encounter.day": 17},
        "Encounter.locationID": "Dam 3",
        "Encounter.decimalLatitude": -1.23,
        "Encounter.decimalLongitude": 36.99,
        "Encounter.submitterID": "me",
        "Encounter.sightingID": "e-1",
        "MarkedIndividual.individualID": "=Tom",
    }
    assert second["MarkedIndividual.individualID"] == "Ada"
    assert second["Encounter.sightingID"] == "e-1", "both were seen together"
    assert third["Encounter.specificEpithet"] == "leo" and third["Encounter.sightingID"] is None
    assert (written.encounters, written.renamed) == (3, {})


def test_sheets_have_at_most_200_encounters_and_no_empty_column(tmp_path, monkeypatch):
    assert wildbook.ENCOUNTERS == 200
    monkeypatch.setattr(wildbook, "ENCOUNTERS", 20)
    rows = [{"path": f"{n}.jpg", **SEEN} for n in range(41)]
    rows[40]["identity"] = "Tom"
    written = write_wildbook(catalogue(*rows), tmp_path, submitter="me", location="Kenya")
    pages = [sheet(path) for path in written.spreadsheets]
    assert [len(page) for page in pages] == [20, 20, 1]
    assert "MarkedIndividual.individualID" not in pages[0][0]
    assert pages[2][0]["MarkedIndividual.individualID"] == "Tom"
    assert pages[2][0]["Encounter.locationID"] == "Kenya"
    assert pages[2][0]["Encounter.verbatimLocality"] == "Dam 3"
    for page in pages:
        assert all(any(row[name] is not None for row in page) for name in page[0])
    assert len({row["Encounter.mediaAsset0"] for page in pages for row in page}) == 41


def test_file_names_that_wildbook_takes(tmp_path):
    paths = ["a/1.jpg", "b/1.JPG", "c/IMG_0412 (1).jpg", "c/IMG-0412(1).jpg"]
    paths += ["d/Éva.jpg", "d/_.jpg"]
    for path in paths:
        photograph(tmp_path / "in" / path)
    table = catalogue(*({"path": path, **SEEN} for path in paths))
    out = tmp_path / "out"
    written = write_wildbook(table, out, submitter="me", copies_from=tmp_path / "in")
    names = [row["Encounter.mediaAsset0"] for row in sheet(written.spreadsheets[0])]
    assert names[0] == "1.jpg"
    assert len({name.casefold() for name in names}) == len(paths)
    assert all(re.fullmatch(r"[A-Za-z0-9. ]+\.(jpg|JPG)", name) for name in names)
    assert written.renamed == dict(zip(paths[1:], names[1:], strict=True))
    with open(out / "renamed.csv", encoding="utf-8-sig", newline="") as handle:
        assert dict(csv.reader(handle)) == {"path": "name", **written.renamed}
    for path, name in zip(paths, names, strict=True):
        copied = (out / "photographs" / name).read_bytes()
        assert copied == (tmp_path / "in" / path).read_bytes()


def test_what_wildbook_cannot_do_without(tmp_path):
    for change, message in (
        ({"date": None}, "1.jpg has no date"),
        ({"species": None}, "1.jpg has no species, expected genus and epithet"),
        ({"species": "zebra"}, "1.jpg has species 'zebra', expected genus and epithet"),
        ({"camera": None}, "1.jpg has no camera and no position"),
    ):
        with pytest.raises(UserError, match=message):
            write_wildbook(catalogue({"path": "1.jpg", **SEEN, **change}), tmp_path, submitter="me")


# Camtrap DP

FIELDS = {
    "deployments": "deploymentID latitude:number longitude:number deploymentStart:datetime "
    "deploymentEnd:datetime",
    "media": "mediaID deploymentID timestamp:datetime filePath filePublic:boolean fileMediatype",
    "observations": "observationID deploymentID mediaID eventID eventStart:datetime "
    "eventEnd:datetime observationLevel observationType count:integer individualID "
    "bboxX:number bboxY:number bboxWidth:number bboxHeight:number classificationMethod "
    "classifiedBy classificationTimestamp:datetime classificationProbability:number "
    "observationComments",
}
LIMITS = {
    "classificationMethod": {"enum": ["human", "machine"]},
    "classificationProbability": {"minimum": 0, "maximum": 1},
    "observationID": {"required": True, "unique": True},
    "observationLevel": {"enum": ["media", "event"]},
    "count": {"minimum": 1},
    "bboxX": {"minimum": 0, "maximum": 1},
}
KEYS = {"media": ["deployment"], "observations": ["deployment", "media"]}
ROWS = {
    "deployments": ["dep1,-1.23456,36.98765,2020-03-01T22:00:00Z,2020-04-01T22:00:00Z"],
    "media": [
        'm1,dep1,2020-03-02T10:00:00Z,"media/one, first.jpg",true,image/jpeg',
        "m2,dep1,2020-03-02T10:00:05Z,https://example.org/two.jpg,true,image/jpeg",
        "m3,dep1,2020-03-03T12:00:00+02:00,media/three.jpg,true,image/jpeg",
    ],
    "observations": [
        "e1,dep1,,ev1,2020-03-02T10:00:00Z,2020-03-02T10:00:05Z,event,animal,1,,,,,,human,Ann,,,",
        "o1,dep1,m1,ev1,2020-03-02T10:00:00Z,2020-03-02T10:00:00Z,media,animal,1,,,,,,human,Ann,"
        '2020-04-01T10:00:00Z,,"says ""hello"", twice"',
        "o2,dep1,m2,ev1,2020-03-02T10:00:05Z,2020-03-02T10:00:05Z,media,animal,,Ida,,,,,machine,MD,,0.50,",
        "e2,dep1,,ev2,2020-03-03T10:00:00Z,2020-03-03T10:00:00Z,event,animal,2,,,,,,human,Ann,,,",
        "o3,dep1,m3,ev2,2020-03-03T10:00:00Z,2020-03-03T10:00:00Z,media,animal,1,,0.10,0.2,0.3,0.4,,,,,",
        "o4,dep1,m3,ev2,2020-03-03T10:00:00Z,2020-03-03T10:00:00Z,media,animal,1,,0.5,0.2,0.3,0.4,,,,,",
        "o5,dep1,m3,ev2,2020-03-03T10:00:00Z,2020-03-03T10:00:00Z,media,vehicle,1,,,,,,,,,,",
    ],
}


TOM = 'Tom, the "cat"'


@pytest.fixture
def package(tmp_path):
    """A package with two events; in one photograph are two animals and a car."""
    folder = tmp_path / "package"
    photograph(folder / "media" / "one, first.jpg")
    photograph(folder / "media" / "three.jpg")
    resources = []
    for name, fields in FIELDS.items():
        columns = [field.partition(":")[::2] for field in fields.split()]
        header = ",".join(column for column, _ in columns)
        lines = "\r\n".join([header, *ROWS[name], ""])
        (folder / f"{name}.csv").write_bytes(lines.encode())
        schema = [
            {"name": column, "type": kind or "string", "constraints": LIMITS.get(column, {})}
            | ({"format": "%Y-%m-%dT%H:%M:%S%z"} if kind == "datetime" else {})
            for column, kind in columns
        ]
        keys = [
            {"fields": f"{key}ID", "reference": {"resource": table, "fields": f"{key}ID"}}
            for key in KEYS.get(name, [])
            for table in ("deployments" if key == "deployment" else key,)
        ]
        content = {"fields": schema, "foreignKeys": keys}
        (folder / f"{name}.json").write_text(json.dumps(content))
        resources.append({"name": name, "path": f"{name}.csv", "schema": f"{name}.json"})
        resources[-1] |= {"profile": "tabular-data-resource", "format": "csv", "encoding": "utf-8"}
    descriptor = {"name": "test", "resources": resources}
    descriptor["profile"] = "camtrap-dp-profile.json"
    (folder / "camtrap-dp-profile.json").write_text('{"required": ["name", "resources"]}')
    (folder / "datapackage.json").write_text(json.dumps(descriptor, indent=3))
    return folder


@pytest.fixture
def named():
    table = catalogue(
        {"path": "media/one, first.jpg", "identity": TOM},
        {"path": "elsewhere/two.jpg", "identity": TOM},
        {"path": "media/three.jpg", "identity": "Ada", "bbox": "101 20 60 40"},
        {"path": "media/three.jpg", "bbox": "20 20 60 40"},
        {"path": "four.jpg", "identity": "Ada"},
    )
    table["probability"] = [0.9, "0.75", None, None, None]
    return table


def read(folder):
    with open(folder / "observations.csv", encoding="utf-8", newline="") as handle:
        return {row["observationID"]: row for row in csv.DictReader(handle)}


def test_names_are_filled_into_the_package_and_nothing_else_changes(
    package, named, tmp_path, caplog
):
    out = tmp_path / "out"
    filled = fill_camtrap_dp(package, named, out, by="OpenAnimals, 1.0")
    assert (filled.observations, filled.changed, filled.unmatched) == (4, 1, ["four.jpg"])
    assert "1 observations had the name of another individual" in caplog.text
    before, after = read(package), read(out)
    names = {key: row["individualID"] for key, row in after.items() if row["individualID"]}
    assert names == {"e1": TOM, "o1": TOM, "o2": TOM, "o4": "Ada"}
    probable = {key: row["classificationProbability"] for key, row in after.items()}
    assert [probable[key] for key in ("e1", "o1", "o2", "o4")] == ["0.75", "0.9", "0.75", ""]
    assert (after["o1"]["classificationMethod"], after["o4"]["classificationMethod"]) == (
        *("machine", "human"),
    )
    when = datetime.strptime(after["o4"]["classificationTimestamp"], "%Y-%m-%dT%H:%M:%S%z")
    assert abs((datetime.now(when.tzinfo) - when).total_seconds()) < 60
    ours = {"individualID", "classificationMethod", "classifiedBy"}
    ours |= {"classificationTimestamp", "classificationProbability"}
    for key, row in before.items():
        changed = {name for name in row if row[name] != after[key][name]}
        assert changed <= (ours if key in names else set())
    lines = [(folder / "observations.csv").read_bytes().split(b"\r\n") for folder in (package, out)]
    assert [a == b for a, b in zip(*lines, strict=True)] == [
        *(True, False, False, False, True, True, False, True, True),
    ]
    assert b'"says ""hello"", twice"' in lines[1][2]
    copied = {path.name for path in out.iterdir()}
    assert copied == {path.name for path in package.iterdir()} - {"media"}
    for name in copied - {"observations.csv"}:
        assert (out / name).read_bytes() == (package / name).read_bytes()


def test_the_package_is_still_valid(package, named, tmp_path):
    frictionless = pytest.importorskip("frictionless")

    def errors(folder):
        with frictionless.system.use_context(trusted=True):
            descriptor = json.loads((folder / "datapackage.json").read_text())
            del descriptor["profile"]  # for which frictionless would ask the network
            package = frictionless.Package.from_descriptor(descriptor, basepath=str(folder))
            report = package.validate()
        return report.flatten(["rowNumber", "fieldName", "type"])

    filled = fill_camtrap_dp(package, named, tmp_path / "out", by="me", decimals=1)
    assert errors(package) == errors(filled.file.parent) == []
    with open(filled.file.parent / "deployments.csv", newline="") as handle:
        (row,) = csv.DictReader(handle)
    assert (row["latitude"], row["longitude"]) == ("-1.2", "37.0")
    wrong = tmp_path / "out" / "observations.csv"
    wrong.write_bytes(wrong.read_bytes().replace(b",machine,", b",guess,"))
    assert errors(filled.file.parent), "the check would find nothing"


def test_filling_twice_changes_nothing_more(package, named, tmp_path):
    fill_camtrap_dp(package, named, tmp_path / "one", by="me")
    fill_camtrap_dp(tmp_path / "one", named, tmp_path / "two", by="you", root=package)
    one, two = (tmp_path / name / "observations.csv" for name in ("one", "two"))
    assert one.read_bytes() == two.read_bytes()


def test_two_animals_without_boxes_get_no_name(package, named, tmp_path):
    named["bbox"] = None
    filled = fill_camtrap_dp(package, named, tmp_path / "out", by="me")
    assert filled.unmatched == ["media/three.jpg", "four.jpg"]
    assert not any(read(tmp_path / "out")[key]["individualID"] for key in ("o3", "o4"))


def replace(folder, old, new):
    file = folder / "observations.csv"
    content = file.read_bytes()
    assert content.count(old) == 1
    file.write_bytes(content.replace(old, new))


def test_an_event_gets_a_name_if_it_is_one_animal(package, named, tmp_path):
    replace(package, b"event,animal,2,", b"event,animal,1,")
    fill_camtrap_dp(package, named, tmp_path / "one", by="me")
    assert read(tmp_path / "one")["e2"]["individualID"] == "Ada"
    named.loc[3, "identity"] = "Ida"
    fill_camtrap_dp(package, named, tmp_path / "two", by="me")
    assert read(tmp_path / "two")["e2"]["individualID"] == ""
    assert read(tmp_path / "two")["o3"]["individualID"] == "Ida"
    named.loc[3, "identity"] = None
    other = ROWS["observations"][3].replace("e2", "e3").replace("animal,2", "animal,1")
    replace(package, b"\r\ne2,", f"\r\n{other}\r\ne2,".encode())
    fill_camtrap_dp(package, named, tmp_path / "three", by="me")
    assert {read(tmp_path / "three")[key]["individualID"] for key in ("e2", "e3")} == {""}


def test_a_herd_gets_no_name(package, named, tmp_path):
    replace(package, b"10:00:00Z,media,animal,1,,,,,,human", b"10:00:00Z,media,animal,2,,,,,,human")
    fill_camtrap_dp(package, named, tmp_path / "out", by="me")
    assert read(tmp_path / "out")["o1"]["individualID"] == ""


def test_an_imported_animal_is_known_without_its_photograph(package, named, tmp_path):
    (package / "media" / "three.jpg").unlink()
    named["observationID"] = [None, None, "o4", "o3", None]
    filled = fill_camtrap_dp(package, named, tmp_path / "out", by="me")
    assert filled.unmatched == ["four.jpg"]
    assert read(tmp_path / "out")["o4"]["individualID"] == "Ada"


def test_packages_that_cannot_be_filled(package, named, tmp_path):
    def fails(message, table=named, to=tmp_path / "out"):
        with pytest.raises(UserError, match=message):
            fill_camtrap_dp(package, table, to, by="me")

    fails("is the folder of the package itself", to=package)
    named.loc[0, "probability"] = 90
    fails("probability is 90; expected a number from 0 to 1")
    file = package / "datapackage.json"
    profile = "https://example.org/camtrap-dp/1.0.2/camtrap-dp-profile.json"
    text = file.read_text().replace("camtrap-dp-profile.json", profile)
    file.write_text(text.replace('"observations.csv"', '"../observations.csv"'))
    fails("leads out of the package")
    file.write_text(text.replace(profile, "data-package"))
    fails("expected Camtrap DP 1.0 to 1.0.2")
    file.write_text(text.replace('"name": "media"', '"name": "medium"'))
    fails(r"has no resource 'media' \(did you mean 'medium'\?\)")
    file.write_text(text)
    observations = package / "observations.csv"
    whole = observations.read_bytes()
    observations.write_bytes(whole.replace(b"individualID", b"individual"))
    fails(r"no column 'individualID' \(did you mean 'individual'\?\)")
    observations.write_bytes(whole + b"o9,dep1\r\n")
    fails("line 9 has 2 values instead of 19")
    shutil.rmtree(package)
    fails("cannot be read")


# COCO


def test_coco(tmp_path):
    photograph(tmp_path / "a" / "1.jpg", orientation=6)
    photograph(tmp_path / "2.jpg")
    table = catalogue(
        {"path": "a/1.jpg", "identity": "Tom", "bbox": "10 20.5 30 40", "viewpoint": "left"},
        {"path": "a/1.jpg", "identity": "Ada", "bbox": "50 20 30 40", "species": "Felis catus"},
        {"path": "2.jpg", "date": "2020-05-17", "latitude": "-1.23456"},
    )
    file = write_coco(table, tmp_path, tmp_path / "coco.json", decimals=2)
    content = json.loads(file.read_text())
    assert [(image["width"], image["height"]) for image in content["images"]] == [
        *((100, 200), (200, 100)),
    ]
    assert content["images"][1]["date_captured"] == "2020-05-17"
    kinds = {one["id"]: one for one in content["categories"]}
    names = [kinds[one["category_id"]]["name"] for one in content["annotations"]]
    assert names == ["Tom", "Ada", "unknown"]
    assert kinds[1] == {"id": 1, "name": "Ada", "supercategory": "Felis catus"}
    attributes = [one["attributes"] for one in content["annotations"]]
    assert attributes == [{"viewpoint": "left"}, {}, {"latitude": -1.23}]

    coco = pytest.importorskip("pycocotools.coco").COCO(str(file))
    (image,) = coco.getImgIds(catIds=coco.getCatIds(catNms=["Ada"]))
    assert coco.loadImgs(image)[0]["file_name"] == "a/1.jpg"
    boxes = [one["bbox"] for one in coco.loadAnns(coco.getAnnIds())]
    np.testing.assert_allclose(boxes, [[10, 20.5, 30, 40], [50, 20, 30, 40], [0, 0, 200, 100]])
    assert len(coco.getAnnIds(areaRng=[1199, 1201])) == 2
    with pytest.raises(UserError, match="3.jpg: no such file"):
        write_coco(catalogue({"path": "3.jpg"}), tmp_path, file)
