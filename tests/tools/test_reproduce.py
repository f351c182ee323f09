"""tools/reproduce.py with a stand-in for each training: what runs, what it tells and refuses."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from filelock import FileLock

from openanimals.utils.errors import UserError
from reproduce import command, run
from reproduce.command import main

STAND_IN = """
import json, os, pathlib, sys, yaml
folder = pathlib.Path(sys.argv[-1]).parent
row, species, seed = folder.parts[-3:]
(folder / "gpu").write_text(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
with open(folder / "starts", "a") as file:
    file.write("x")
if os.environ.get("FAILS") == row:
    sys.exit("noise\\nerror: 2 mistakes:\\n  - one")
if os.environ.get("DIES") == row:
    os.kill(os.getpid(), 9)
name = yaml.safe_load((folder / "config.yaml").read_text())["DATASETS"]["TESTS"][0]
seed = int(seed[4:])
result = {"Rank-1": 70 + seed ** 2, "mAP": 40 - seed}
result |= {"Rank-1 interval": [60, 80], "mAP interval": [30, 50]}
(folder / "asked").write_text(sys.argv[1])
(folder / "model_final.pth").touch()
(folder / "results.json").write_text(json.dumps({name: result, f"{name} (encounter)": result}))
"""


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Runs the tool on stand-ins, in tmp_path/out; each species has 800 images."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(run, "TRAIN", script)
    monkeypatch.setattr(run, "POLL", 0.01)
    monkeypatch.setattr(command, "count_training_images", lambda cfg: 800)

    def call(*arguments, table="main"):
        return main(["--table", table, "--output", str(tmp_path / "out"), *arguments])

    return call


def bot(*more):
    return ["--methods", "BoT", "--species", "demo", "--seeds", "1", *more]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "out/main/BoT/demo/seed0"


def starts(tmp_path):
    """How often each run was started, by row and seed."""
    files = sorted((tmp_path / "out").glob("*/*/*/*/starts"))
    return {f"{file.parts[-4]} {file.parts[-2]}": len(file.read_text()) for file in files}


def markdown(path, heading):
    """The rows of the Markdown table under a heading, by their first column."""
    part = path.read_text().split(f"## {heading}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in rows}


# Which runs


def test_what_trains_nothing_is_evaluated_once(tmp_path, tool):
    asked = ["--methods", "HotSpotter", "BoT", "--species", "demo", "--seeds", "2"]
    assert tool(*asked) == 0
    assert starts(tmp_path) == {"BoT seed0": 1, "BoT seed1": 1, "HotSpotter seed0": 1}
    out = tmp_path / "out"
    assert (out / "main/HotSpotter/demo/seed0/asked").read_text() == "--eval-only"
    assert (out / "main/BoT/demo/seed0/asked").read_text() == "--resume"
    assert markdown(out / "main.md", "demo")["HotSpotter"][:2] == ["1", "70.00 [60.0, 80.0]"]
    assert "- HotSpotter on demo: nothing is trained" in (out / "main.md").read_text()


def test_a_finished_run_is_never_repeated(tmp_path, tool, folder):
    assert tool(*bot()) == 0
    before = {file: file.stat().st_mtime_ns for file in folder.iterdir()}
    assert tool("--methods", "BoT", "SBS", "--species", "demo", "--seeds", "2") == 0
    assert {file: file.stat().st_mtime_ns for file in folder.iterdir()} == before
    (folder / "results.json").unlink()
    assert tool(*bot()) == 0
    assert starts(tmp_path) == {"BoT seed0": 2, "BoT seed1": 1, "SBS seed0": 1, "SBS seed1": 1}


def test_a_failed_run_is_shown_the_others_are_done_and_the_next_call_tries_again(
    tmp_path, tool, monkeypatch, capfd
):
    monkeypatch.setenv("FAILS", "SBS")
    monkeypatch.setenv("DIES", "AGW")
    methods = ["--species", "demo", "--seeds", "1", "--methods", "BoT", "SBS", "AGW", "ARBase"]
    assert tool(*methods) == 2
    told = capfd.readouterr()
    assert re.search("error: 2 of 4 runs failed; see .*main.md", told.err)
    assert re.search("1 runs finished, 2 failed, 0 running, 1 to come, about 0:0.* left", told.out)
    table = markdown(tmp_path / "out/main.md", "demo")
    assert table["SBS"] == ["0, 1 failed", "failed", "failed", "–", "–"]
    assert table["ARBase"][0] == "1"
    text = (tmp_path / "out/main.md").read_text()
    assert "- SBS on demo, seed 0: 2 mistakes: - one" in text
    assert "- AGW on demo, seed 0: killed by SIGKILL" in text
    runs = pd.read_csv(tmp_path / "out/main-runs.csv")
    assert runs[runs["status"] == "failed"]["row"].tolist() == ["AGW", "SBS"]
    monkeypatch.delenv("FAILS")
    monkeypatch.delenv("DIES")
    assert tool(*methods) == 0
    assert starts(tmp_path) == {"AGW seed0": 2, "ARBase seed0": 1, "BoT seed0": 1, "SBS seed0": 2}
    assert markdown(tmp_path / "out/main.md", "demo")["SBS"][0] == "1"
    assert "## Failed" not in (tmp_path / "out/main.md").read_text()


def test_each_gpu_trains_one_run_at_a_time(tmp_path, tool, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7,9")
    monkeypatch.setattr(command.torch.cuda, "device_count", lambda: 3)
    methods = ["--methods", "BoT", "AGW", "SBS", "MGN"]
    assert tool(*methods, "--species", "demo", "--seeds", "1", "--gpus", "2") == 0
    gpus = [file.read_text() for file in (tmp_path / "out").glob("main/*/demo/seed0/gpu")]
    assert len(gpus) == 4 and set(gpus) == {"4", "7"}


def test_rows_that_are_the_same_share_their_runs(tmp_path, tool):
    methods = ["--methods", "bnneck-on", "bnneck-off", "gem-on", "gem-off"]
    assert tool(*methods, "--species", "demo", "--seeds", "1", table="techniques") == 0
    assert set(starts(tmp_path)) == {
        f"{r} seed0" for r in ("random-erasing-on", "bnneck-off", "gem-on")
    }
    table = markdown(tmp_path / "out/techniques.md", "demo")
    shown = ["1", "70.00 [60.0, 80.0]", "40.00 [30.0, 50.0]"]
    assert table["bnneck-on (= random-erasing-on)"][:3] == shown
    assert table["bnneck-off"][:3] == table["gem-off (= random-erasing-on)"][:3] == shown
    assert table["bnneck-off"][-1] == "yes" and table["gem-on"][-1] == "mixed"


def test_data_that_are_missing_are_told_once_and_other_species_done(
    tmp_path, tool, monkeypatch, capfd
):
    def count(cfg):
        if "Hyena" in cfg.DATASETS.NAMES[0]:
            raise UserError("no hyenas here")
        return 800

    monkeypatch.setattr(command, "count_training_images", count)
    assert tool("--species", "hyena", "demo", "--seeds", "1", "--methods", "BoT", "AGW") == 2
    told = capfd.readouterr()
    assert told.out.count("no hyenas here") == 1 and "2 of 4 runs failed" in told.err
    table = markdown(tmp_path / "out/main.md", "hyena")
    assert table["BoT"][:3] == ["0, 1 failed", "failed", "failed"]
    assert markdown(tmp_path / "out/main.md", "demo")["BoT"][0] == "1"


# Settings


def test_runs_of_other_settings_are_refused(tmp_path, tool, folder, capfd):
    assert tool(*bot()) == 0
    for other in (["--methods", "BoT"], ["--methods", "AGW"]):
        assert tool(*bot(), *other, "SOLVER.BASE_LR", "1") == 2
        assert re.search(
            r"BoT/demo/seed0 was trained with other settings: SOLVER.BASE_LR \(0.00035 -> 1.0\)\. ",
            capfd.readouterr().err,
        )
    assert tool(*bot("--epochs", "5")) == 2
    assert "SOLVER.MAX_EPOCH (120 -> 5)" in capfd.readouterr().err
    assert tool(*bot("DATASETS.NAMES", "folder:x")) == 2
    assert "DATASETS.NAMES" in capfd.readouterr().err
    assert tool(*bot("DATALOADER.NUM_WORKERS", "1")) == 0, "where a run is does not matter"
    assert tool(*bot(), "--species", "hyena", "DATASETS.NAMES", "folder:x") == 0
    runs = [file.parent.parent.name for file in (tmp_path / "out").glob("*/*/*/*/starts")]
    assert sorted(runs) == ["demo", "hyena"]


def test_two_tools_do_not_share_a_folder(tmp_path, tool, folder, capfd):
    (tmp_path / "out/main").mkdir(parents=True)
    with FileLock(tmp_path / "out/main/.lock"):
        assert tool(*bot()) == 2
    assert "is being worked on by another tools/reproduce.py" in capfd.readouterr().err
    assert tool(*bot()) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "main", "--species", "hyenna"], "unknown species 'hyenna' .*'hyena'"),
        (["--table", "main", "--methods", "BOT"], "unknown row 'BOT' .*'BoT'"),
        (["--table", "main", "--seeds", "0"], "--seeds is 0"),
        (["--table", "main", "--size", "cpu"], "--epochs"),
        (["--table", "main", "--gpus", "99"], "--gpus is 99, but PyTorch sees"),
        (["--table", "main", "--epochs", "-1"], "--epochs is -1; expected 0 or more"),
        (["--smoke", "--gpus", "2"], "--smoke has its own"),
        (["--seeds", "2"], "which --table"),
        (["--table", "main", "DATASETS.NAMES", "folder:x"], "name it by --species"),
        (["--table", "main", "--methods", "SBS", "SEED", "3"], "SEED is set .* use --seeds"),
        (["--table", "main", "OUTPUT_DIR", "x"], "OUTPUT_DIR is set .* use --output"),
        (["--smoke", "SOLVER.MAX_EPOCH", "9"], "SOLVER.MAX_EPOCH is set .* use --epochs"),
        (["--table", "main", "SOLVER.BASE_LRR", "3"], "unknown key SOLVER.BASE_LRR"),
        (["--table", "main", "--species", "demo", "SOLVER.STEPS"], "'SOLVER.STEPS' has no value"),
        (["--smoke", "--methods", "BoT"], "--methods are rows of one table"),
        (["--table", "main", "--collect"], "no runs in .*main; train them"),
    ],
)
def test_mistakes_end_in_a_message(arguments, message, tmp_path, capsys):
    assert main(["--output", str(tmp_path), *arguments]) == 2
    assert not list(tmp_path.iterdir())
    assert re.search(message, capsys.readouterr().err)


# Tables


def test_mean_and_deviation_beside_the_published(tmp_path, tool):
    assert tool("--species", "hyena", "--methods", "ARBase") == 0
    table = markdown(tmp_path / "out/main.md", "hyena (Animals-HyenaID2022)")
    assert table["method"][1:3] == ["Rank-1", "mAP"]
    assert table["method"][3:] == [
        *("Rank-1 (encounter)", "mAP (encounter)", "Rank-1 published", "mAP published")
    ]
    ours = [70, 71, 74]
    number = f"{np.mean(ours):.2f} ± {np.std(ours, ddof=1):.2f}"
    assert table["ARBase"] == ["3", *[number, "39.00 ± 1.00"] * 2, "73.18", "44.87"]
    lines = pd.read_csv(tmp_path / "out/main.csv")
    line = lines[(lines["row"] == "ARBase") & (lines["protocol"] == "headline")].iloc[0]
    assert line["Rank-1"] == pytest.approx(np.mean(ours)) and np.isnan(line["Rank-1 low"])
    assert line["Rank-1 deviation"] == pytest.approx(np.std(ours, ddof=1))
    assert (line["seeds"], line["Rank-1 published"]) == (3, 73.18)
    assert "120 epochs of 12 iterations" in line["schedule"]


def test_what_made_a_run_is_noted(tmp_path, tool, folder):
    assert tool(*bot()) == 0
    facts = json.loads((folder / "run.json").read_text())
    assert facts["command"].startswith("python tools/reproduce.py --table main --output ")
    assert re.fullmatch(r"[0-9a-f]{40}\+?|unknown", facts["commit"])
    assert "pillow " in facts["versions"] and "torch " in facts["device"]
    first, second = pd.read_csv(tmp_path / "out/main-runs.csv").to_dict("records")
    assert (first["results on"], second["protocol"]) == (
        f"{second['results on'][:-12]}",
        "encounter",
    )
    assert first["seconds"] == facts["seconds"] > 0
    text = (tmp_path / "out/main.md").read_text()
    assert all(facts[name] in text for name in ("command", "commit", "device", "schedule"))


def test_collect_needs_no_settings_but_refuses_others(tmp_path, tool, folder, capfd):
    assert tool(*bot("--size", "cpu", "--epochs", "5")) == 0
    for file in (tmp_path / "out").glob("main*.*"):
        file.unlink()
    assert tool("--collect", "--methods", "AGW", "--species", "hyena") == 0
    assert "size cpu for 5 epochs" in (tmp_path / "out/main.md").read_text()
    assert markdown(tmp_path / "out/main.md", "hyena")["AGW"][:3] == ["0", "–", "–"]
    assert tool("--collect", "--size", "cpu", "--epochs", "6") == 2
    assert "SOLVER.MAX_EPOCH (5 -> 6)" in capfd.readouterr().err
    assert len(starts(tmp_path)) == 1


def test_damaged_files_are_named(tool, folder, capfd):
    assert tool(*bot()) == 0
    for name in ("run.json", "results.json", "../../../options.json"):
        whole = (folder / name).read_text()
        for damaged in ('{"status": "fin', "{}"):
            (folder / name).write_text(damaged)
            assert tool("--collect") == 2
            assert f"{(folder / name).name} is damaged" in capfd.readouterr().err
        (folder / name).write_text(whole)
