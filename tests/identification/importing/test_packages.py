"""Photographs in, from MegaDetector's results and Camtrap DP packages."""

import csv
import json

import pytest

from openanimals.identification.importing import import_catalogue
from openanimals.utils.errors import UserError
from tests.identification.importing.importing_fixtures import column, photograph, said


@pytest.fixture
def folder(tmp_path):
    for path in ("Ana/1.jpg", "Ana/2.jpg", "Bo/3.jpg", "Bo/4.jpg", "Bo/5.jpg", "6.jpg"):
        photograph(tmp_path / "photos" / path, size=(200, 100))
    return tmp_path / "photos"


ANIMALS = {  # confidence, and left, top, width, height in pixels of photographs of 200 x 100
    "Ana/1.jpg": [("animal", 0.9, (20, 10, 50, 40))],
    "Ana/2.jpg": [("animal", 0.8, (0, 0, 100, 50)), ("animal", 0.3, (150, 50, 50, 50))],
    "Bo/3.jpg": [("animal", 0.1, (20, 10, 50, 40)), ("person", 0.9, (20, 10, 50, 40))],
    "Bo/4.jpg": None,
    "6.jpg": [("animal", 0.7, (1, 2, 3, 4)), ("animal", 0.7, (11, 2, 3, 4))],
}


def version_1(prefix=""):
    def detection(kind, share, box):
        shares = [value / whole for value, whole in zip(box, (200, 100, 200, 100), strict=True)]
        return {"category": {"animal": "1", "person": "2"}[kind], "conf": share, "bbox": shares}

    images = [
        {"file": prefix + path, "failure": "Failure image access", "detections": None}
        if found is None
        else {"file": prefix + path, "detections": [detection(*one) for one in found]}
        for path, found in ANIMALS.items()
    ]
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    info = {"format_version": "1.6", "detector": "md_v5a.0.0.pt"}
    return {"info": info, "detection_categories": categories, "images": images}


def newer():
    def detection(kind, share, box):
        left, top, width, height = box
        corners = [left, top, left + width, top + height]
        return {"category": kind, "confidence": share, "bbox": corners}

    return [
        {"file": path, "detections": found and [detection(*one) for one in found]}
        for path, found in ANIMALS.items()
    ]


def detected(folder, content, **options):
    (folder.parent / "md.json").write_text(json.dumps(content))
    return import_catalogue(folder, detections=folder.parent / "md.json", **options)


@pytest.mark.parametrize("content", [version_1(), newer(), version_1("D:\\survey\\")])
def test_both_layouts(folder, content):
    result = detected(folder, content)
    assert result.table[["path", "identity", "bbox"]].values.tolist() == [
        ["6.jpg", None, "1 2 3 4"],
        ["6.jpg", None, "11 2 3 4"],
        ["Ana/1.jpg", "Ana", "20 10 50 40"],
        ["Ana/2.jpg", None, "0 0 100 50"],
        ["Ana/2.jpg", None, "150 50 50 50"],
        ["Bo/5.jpg", "Bo", None],
    ]
    assert {*result.table["note"]} == {None, "one of 2 animals is Ana"}
    assert said(result, "could not read").endswith("1 (Bo/4.jpg)")
    assert said(result, "without an animal").endswith("1 (Bo/3.jpg)")
    assert said(result, "several animals").endswith("1 (Ana/2.jpg)")
    assert said(result, "not among the detections").endswith("1 (Bo/5.jpg)")
    assert said(result, "are no animals").endswith("person 1")
    assert said(result, "by detection") == "5 animals in 3 photographs by detection"


def test_threshold(folder):
    result = detected(folder, version_1(), confidence=0.5)
    assert column(result, "identity")["Ana/2.jpg"] == "Ana"
    assert (
        detected(folder, version_1(), confidence=0.05).table["path"].tolist().count("Bo/3.jpg") == 1
    )
    with pytest.raises(UserError, match="from 0 to 1"):
        detected(folder, version_1(), confidence=50)


def test_a_detector_run_inside_the_folders(folder):
    inside = [
        {
            "file": "1.jpg",
            "detections": [{"category": "animal", "confidence": 1, "bbox": [0, 0, 9, 9]}],
        }
    ]
    assert column(detected(folder, inside), "bbox")["Ana/1.jpg"] == "0 0 9 9"
    photograph(folder / "Bo" / "1.jpg")
    with pytest.raises(UserError, match=r"1\.jpg could be Ana/1\.jpg or Bo/1\.jpg"):
        detected(folder, inside)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "expected MegaDetector's results"),
        ({"images": [{"detections": []}]}, r"images\[0\] is"),
        (
            [{"file": "6.jpg", "detections": [{"category": "animal", "bbox": [1, 2, 3]}]}],
            "images.0. is",
        ),
        (
            [{"file": "none.jpg", "detections": []}],
            "none of the 6 photographs is among the 1 files",
        ),
    ],
)
def test_files_that_are_none_of_the_detectors(folder, content, message):
    with pytest.raises(UserError, match=message):
        detected(folder, content)


def table(file, rows):
    names = [*dict.fromkeys(name for row in rows for name in row)]
    with open(file, "w", newline="") as handle:
        writer = csv.DictWriter(handle, names)
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def package(tmp_path):
    names = ("deployments", "media", "observations")
    resources = [{"name": name, "path": f"{name}.csv"} for name in names]
    (tmp_path / "datapackage.json").write_text(json.dumps({"resources": resources}))
    place = {"latitude": "-1.5", "longitude": "36.25"}
    table(
        tmp_path / "deployments.csv",
        [{"deploymentID": "d1", "locationName": "North", **place}, {"deploymentID": "d2", **place}],
    )
    media = []
    for number, deployment in enumerate(["d1", "d1", "d1", "d2", "d2", "d2"], 1):
        photograph(tmp_path / f"media/{number}.jpg", size=(200, 100))
        media.append(
            {
                "mediaID": f"m{number}",
                "deploymentID": deployment,
                "timestamp": f"2020-03-01T22:0{number}:00+01:00",
                "filePath": f"media/{number}.jpg",
                "fileMediatype": "image/jpeg",
            }
        )
    media += [media[0] | {"mediaID": "m7", "filePath": "https://example.org/7.jpg"}]
    media += [media[0] | {"mediaID": "m8", "filePath": "8.mp4", "fileMediatype": "video/mp4"}]
    table(tmp_path / "media.csv", media)

    def seen(number, media, kind="animal", name="", box=("", "", "", ""), **more):
        boxes = dict(zip(("bboxX", "bboxY", "bboxWidth", "bboxHeight"), box, strict=True))
        record = {"observationID": f"o{number}", "mediaID": media, "observationType": kind}
        more = {"deploymentID": "d2", "eventID": "e1", "eventStart": "", "eventEnd": ""} | more
        return {
            **record,
            "individualID": name,
            "scientificName": "Panthera pardus",
            **boxes,
            **more,
        }

    event = {"eventStart": "2020-03-01T22:04:30+01:00", "eventEnd": "2020-03-01T22:05:00+01:00"}
    observations = [
        seen(1, "m1", name="Ana", box=(0.1, 0.1, 0.25, 0.4)),
        seen(2, "m1", box=(0.5, 0.5, 0.5, 0.5)),
        seen(3, "m2", "blank"),
        seen(4, "m3", name="Ana"),
        seen(5, "m3", name="Bo"),
        seen(6, "", name="Cy", **event, eventID="e9"),
    ]
    table(tmp_path / "observations.csv", observations)
    return tmp_path


@pytest.mark.parametrize("name", ["", "datapackage.json"])
def test_camtrap_dp(package, name):
    result = import_catalogue(package / name)
    columns = ["path", "identity", "camera", "sequence", "bbox", "observationID"]
    assert result.table[columns].values.tolist() == [
        ["media/1.jpg", "Ana", "North", "e1", "20 10 50 40", "o1"],
        ["media/1.jpg", None, "North", "e1", "100 50 100 50", "o2"],
        ["media/3.jpg", None, "North", "e1", None, "o4"],
        ["media/4.jpg", None, "d2", None, None, None],
        ["media/5.jpg", "Cy", "d2", "e9", None, "o6"],
        ["media/6.jpg", None, "d2", None, None, None],
    ]
    first = result.table.iloc[0]
    assert (first["date"], first["species"]) == ("2020-03-01T22:01:00", "Panthera pardus")
    assert (first["latitude"], first["longitude"]) == ("-1.5", "36.25")
    assert "media/2.jpg" in said(result, "without an animal")
    assert "example.org" in said(result, "on the network")
    assert "8.mp4" in said(result, "files that are no photographs")
    assert "media/3.jpg" in said(result, "several animals")


def test_times_of_a_package_become_those_of_a_zone(package):
    result = import_catalogue(package, zone="Asia/Kolkata")  # 4:30 ahead of +01:00
    assert result.table["date"][0] == "2020-03-02T02:31:00"
    assert "8 times turned into those of Asia/Kolkata" in said(result, "Kolkata")
    kept = import_catalogue(package)
    assert "8 times say a zone, such as 2020-03-01T22:01:00+01:00" in said(kept, "kept as they are")
    # Of an event that is written in another zone than the photographs.
    file = package / "observations.csv"
    text = file.read_text().replace("T22:04:30+01:00", "T21:04:30Z")
    file.write_text(text.replace("T22:05:00+01:00", "T21:05:00Z"))
    assert import_catalogue(package).table["identity"].tolist() == kept.table["identity"].tolist()


def test_packages_that_cannot_be_used(package):
    media = (package / "media.csv").read_text()
    (package / "media.csv").write_text(media.replace("m2,d1", "m2,d9"))
    with pytest.raises(UserError, match="line 3 has no known deploymentID .'d9'"):
        import_catalogue(package)
    (package / "datapackage.json").write_text('{"resources": [{"name": "media", "path": "m.csv"}]}')
    with pytest.raises(UserError, match="expected a resource 'deployments'"):
        import_catalogue(package)
    (package / "datapackage.json").write_text("{}")
    with pytest.raises(UserError, match="resources"):
        import_catalogue(package)
