import logging
import warnings

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
