"""The README and the docs are true: their blocks run, their links lead somewhere, keys exist."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest

from openanimals.config import get_cfg, load
from openanimals.config.fastreid import REFUSED
from openanimals.engine import evaluate, train
from tests.conftest import REPOSITORY
from tests.data.wildlife_fixtures import coat, make_hyena
from tests.engine.tiny_run import overrides
from tests.processes import run

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
KEY = re.compile(r"`([A-Z]+(?:\.[A-Z0-9_]+)+)`")

# Keys at the end of a command line make the README's runs tiny; what they train on and where they
# write to stays the README's.
OF_THE_README = ("DATASETS.NAMES", "DATASETS.ROOT", "OUTPUT_DIR")
BRIEF = {"SOLVER__MAX_EPOCH": 1, "TEST__BEFORE_TRAINING": False}


def blocks(page: Path, *languages: str) -> list[tuple[str, str]]:
    """The language and the text, without indent, of a page's code blocks in these languages."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [
        (language, "".join(line.removeprefix(indent) for line in text.splitlines(keepends=True)))
        for indent, language, text in found
        if language in languages
    ]


def commands(script: str) -> list[list[str]]:
    """The words of each command of a shell script, those of train_net.py made tiny."""
    tiny = list(map(str, overrides(Path(), Path(), IMPORTS="['tests.tiny']", **BRIEF)))
    kept = [
        word
        for key, value in zip(tiny[::2], tiny[1::2], strict=True)
        for word in (key, value)
        if key not in OF_THE_README
    ]
    lines = script.replace("\\\n", " ").splitlines()
    parsed = [words for line in lines if (words := shlex.split(line, comments=True))]
    return [[*words, *kept] if "tools/train_net.py" in words else words for words in parsed]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    """A folder like the repository's, with small data where the README has the user's."""
    folder = tmp_path_factory.mktemp("readme")
    for name in ("tools", "tests"):
        (folder / name).symlink_to(REPOSITORY / name)
    shutil.copytree(REPOSITORY / "configs", folder / "configs")
    make_hyena(folder / "datasets", identities=12)
    lions = folder / "datasets/LionData/wildlife_reidentification-main/Lion_Data_Zero/train"
    for root, suffix in ((folder / "my_photos", "jpg"), (lions, "png")):
        for identity in range(12):
            own = root / f"animal-{identity}"
            own.mkdir(parents=True)
            for image in range(5):
                coat(identity, image, 48).save(own / f"{identity}-{image}.{suffix}")
    return folder


@pytest.mark.cli
def test_readme_runs_from_top_to_bottom(workplace, monkeypatch):
    def draw(folder, *more):  # of one run, as they take most of the time
        if folder.name == "my_photos":
            evaluate.draw_results(folder, *more)

    monkeypatch.setattr(train, "draw_results", draw)
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(workplace)
    for name in ("REID_DATASETS", "FASTREID_DATASETS"):
        monkeypatch.delenv(name, raising=False)
    for language, text in blocks(REPOSITORY / "README.md", "bash", "python", "yaml"):
        if language == "yaml":
            Path(text.splitlines()[0].removeprefix("# ")).write_text(text)
        elif language == "python":
            exec(compile(text, "README.md", "exec"), {})
        else:
            for command in commands(text):
                _run(command, monkeypatch)
    for promised in ("results.json", "rank_list_folder_my_photos.jpg", "cmc.png"):
        assert Path("logs/my_photos", promised).is_file()
    assert Path("logs/LionData/ARBase/model_final.pth").is_file()


def _run(command: list[str], monkeypatch) -> None:
    """Run ``python tools/...`` in this process, which has paid for the imports, if it is one."""
    assert command[0] == "python", f"the README runs {command[0]}, which this test does not"
    if "--num-gpus" in command:
        finished = run([sys.executable, *command[1:]], cwd=Path.cwd())
        assert finished.returncode == 0, finished.stderr
        return
    monkeypatch.setattr(sys, "argv", command[1:])
    with pytest.raises(SystemExit) as stop:
        runpy.run_path(command[1], run_name="__main__")
    assert not stop.value.code, command


def test_make_targets_of_the_readme_exist():
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    for _, text in blocks(REPOSITORY / "README.md", "console"):
        for target in re.findall(r"^\$ make (\w+)", text, re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page):
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), f"{page.name} links to {link}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings]
            assert anchor in slugs, f"{page.name} links to {link}; there are {slugs}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_keys_in_the_text_exist(page):
    known = {*dict(get_cfg().keys_and_values()), *REFUSED}
    sections = {key.rsplit(".", depth)[0] for key in known for depth in (1, 2)}
    for key in KEY.findall(page.read_text(encoding="utf-8")):
        assert key in known | sections, f"{page.name} names {key}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_yaml_blocks_load_and_python_blocks_compile(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    shutil.copytree(REPOSITORY / "configs", tmp_path / "configs")
    for language, text in blocks(page, "yaml", "python"):
        if language == "python":
            compile(text, page.name, "exec")
        name = re.match(r"# (\S+\.(?:py|ya?ml))\n", text)
        if name:
            (tmp_path / name[1]).write_text(text)
        if language == "yaml" and "IMPORTS" not in text:  # else tests/test_extensions.py runs it
            load(tmp_path / name[1])
