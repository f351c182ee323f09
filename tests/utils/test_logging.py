import io
import logging
import re
import sys
import warnings
from pathlib import Path

from openanimals.cli import main
from openanimals.utils.errors import UserError
from openanimals.utils.logging import set_up_logging, table


def test_table_aligns_numbers_right_and_names_left():
    rows = [["part", "images"], ["train", "1535"], ["a longer name", "7"]]
    assert table(rows).splitlines() == [
        "part           images",
        "-------------  ------",
        "train            1535",
        "a longer name       7",
    ]


def test_log_goes_to_console_and_file(tmp_path, capsys):
    file = tmp_path / "new/log.txt"
    set_up_logging(file)
    logging.getLogger("openanimals.engine").info("epoch %d", 3)
    warnings.warn("mind the gap", stacklevel=1)
    for text in (capsys.readouterr().out, file.read_text()):
        assert "epoch 3" in text
        assert "mind the gap" in text


def test_setting_up_again_goes_on_in_the_same_file_without_doubling(tmp_path):
    for start in ("first", "second"):
        set_up_logging(tmp_path / "log.txt")
        logging.getLogger("openanimals").info(start)
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert [line.split()[1] for line in lines] == ["first", "second"]


def test_quiet_processes_only_tell_warnings_and_errors(tmp_path, capsys):
    set_up_logging(tmp_path / "log.txt", quiet=True)
    logging.getLogger("openanimals").info("unheard")
    logging.getLogger("openanimals").warning("a warning")
    logging.getLogger("openanimals").error("an error")
    output = capsys.readouterr().out
    assert "unheard" not in output and "a warning" in output and "an error" in output
    assert not (tmp_path / "log.txt").exists()


FORGED = "zoo\n12:00:00 Rank-1 100\r\x1b[2K\x85\u2028\u202eanimal \udcff"


def test_names_forge_no_lines(tmp_path, capsys):
    set_up_logging(tmp_path / "log.txt")
    logger = logging.getLogger("openanimals.data")
    logger.info("%s: %d of %s", FORGED, 3, Path(FORGED))
    logger.warning(f"{FORGED} in the message itself")
    logger.info("data\n%s", table([["", "n"], [FORGED, "1"]]))
    try:
        raise UserError(f"no {FORGED}")
    except UserError:
        logger.exception("failed")
    text = (tmp_path / "log.txt").read_text()
    assert text in capsys.readouterr().out
    lines = text.split("\n")
    begun = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    assert [line.split()[1] for line in begun] == [r"zoo\n12:00:00", "zoo", "data", "failed"]
    assert all(line.startswith("  ") for line in lines if line not in begun and line)
    assert not any(mark in text for mark in "\r\x1b\x85\u2028\u202e")
    assert r"zoo\n12:00:00 Rank-1 100\r\x1b[2K\x85\u2028\u202eanimal \udcff: 3 of zoo\n" in text
    assert sum(line.split()[-1] == "1" for line in lines if line) == 1  # the one row of the table


def test_errors_on_the_console_forge_no_lines(tmp_path, capsys):
    assert main(["compare", str(tmp_path / FORGED), str(tmp_path / "other")]) == 2
    lines = capsys.readouterr().err.removesuffix("\n").split("\n")
    assert lines[0].startswith("error: ") and all(line.startswith("  ") for line in lines[1:])
    assert "\x1b" not in "".join(lines)


def test_a_console_that_lacks_letters(monkeypatch):
    console = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", console)
    set_up_logging()
    logging.getLogger("openanimals").info("Bärbel 雪")
    console.flush()
    assert rb"B\xe4rbel \u96ea" in console.buffer.getvalue()
