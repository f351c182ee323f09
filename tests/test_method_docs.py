"""The pages on methods, fair baselines and descriptors say what the files and the paper say."""

import re

import pytest

from openanimals.config import load
from reproduce.grid import TABLES
from tests.conftest import REPOSITORY
from tests.test_readme import blocks

DOCS, CONFIGS = REPOSITORY / "docs", REPOSITORY / "configs"
METHODS = (DOCS / "methods.md").read_text(encoding="utf-8")
SPECIES = ("hyena", "leopard", "seaturtle", "whaleshark")


def row(first: str, page: str = METHODS) -> list[str]:
    """The cells of the last row of a page's tables that begins with this cell."""
    found = [line for line in page.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in found[-1].strip("|").split("|")]


def published(table: str) -> dict:
    rows = TABLES[table]["rows"].items()
    return {row: facts["published"] for row, facts in rows if "published" in facts}


def shown(numbers: dict, species=SPECIES) -> list[str]:
    return [f"{numbers[s][0]:.2f} / {numbers[s][1]:.2f}" for s in species]


@pytest.mark.parametrize("method", published("main"))
def test_published_figures_of_the_methods(method):
    assert row(method)[1:] == shown(published("main")[method])


def test_published_figures_of_the_ablations():
    rows = re.findall(r"^\| .*? \| (`.*\.yml`) \| ([\d./ ]+) \| ([\d./ ]+) \|$", METHODS, re.M)
    figures = {file: found for names, *found in rows for file in re.findall(r"`(.*?)`", names)}
    assert figures.keys() == {path.name for path in (CONFIGS / "ablations").iterdir()}
    for file, found in figures.items():
        numbers = published("ablation")[file.removesuffix(".yml").replace("bot", "BoT")]
        assert found == shown(numbers, ("hyena", "whaleshark"))


def test_keys_and_verdicts_of_the_techniques():
    pattern = r"^\| .* \| `(.*)-\{on,off\}\.yml` \| (.*) \| (.*) \| (.*) \|$"
    rows = re.findall(pattern, METHODS, re.M)
    assert {name: verdict for name, _, _, verdict in rows} == {
        row.removesuffix("-on"): facts["helps"]
        for row, facts in TABLES["techniques"]["rows"].items()
        if row.endswith("-on")
    }
    bot = load(CONFIGS / "Base-bagtricks.yml")
    for name, keys, in_bot, _ in rows:
        on, off = (load(CONFIGS / f"techniques/{name}-{state}.yml") for state in ("on", "off"))
        pairs = zip(on.keys_and_values(), off.keys_and_values(), strict=True)
        differing = [key for (key, first), (_, second) in pairs if first != second]
        assert sorted(differing) == sorted(re.findall("`(.*?)`", keys)), name
        assert (on if in_bot == "yes" else off) == bot, name


def test_the_table_of_schedules_is_what_its_block_prints(monkeypatch, capsys):
    page = DOCS / "fair-baselines.md"
    ((_, block),) = blocks(page, "python")
    monkeypatch.chdir(REPOSITORY)
    exec(compile(block, page.name, "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 24
    text = page.read_text(encoding="utf-8")
    assert "\n".join(printed) in text


def test_the_table_of_descriptors_names_every_file_and_its_numbers():
    page = (DOCS / "descriptors.md").read_text(encoding="utf-8")
    for path in sorted((CONFIGS / "Descriptors").iterdir()):
        cfg = load(path)
        _, _, size, feature, hub = row(f"`{path.name}`", page)
        assert [int(size)] * 2 == cfg.INPUT.SIZE_TEST
        assert feature.endswith(f", {cfg.MODEL.BACKBONE.FEAT_DIM}")
        assert hub.strip("`") in path.read_text()
