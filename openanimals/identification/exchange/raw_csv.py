"""A CSV file of which some values are replaced, and every other byte stays."""

import os
import re
from pathlib import Path

from openanimals.utils.errors import UserError, naming
from openanimals.utils.files import atomic_path
from openanimals.utils.registry import did_you_mean


class RawCsv:
    """A CSV file whose values keep the way in which they are written.

    Args:
        file: to read.
        delimiter: between values.
        encoding: of the file.

    Attributes:
        names: of the columns.

    Raises:
        UserError: the file is no such text, or a line has more or fewer values than the first.
        FileError: it cannot be read.
    """

    def __init__(
        self, file: str | os.PathLike[str], delimiter: str = ",", encoding: str = "utf-8"
    ) -> None:
        self.file = Path(file)
        self.delimiter = delimiter
        self.encoding = encoding
        try:
            with naming(file, "cannot be read"):
                text = self.file.read_bytes().decode(encoding)
        except (UnicodeDecodeError, LookupError) as error:
            raise UserError(f"{file}: no text in {encoding}: {error}") from None
        split = re.escape(delimiter)
        pattern = rf'("(?:[^"]|"")*"|[^{split}\r\n]*)({split}|\r\n|\n|\r|\Z)'
        self._lines: list[list[str]] = [[]]  # value, what follows it, value, ...
        for match in re.finditer(pattern, text):
            self._lines[-1] += [match[1], match[2]]
            if match[2] != delimiter:
                self._lines.append([])
        # The end of the text is a line as well, and an empty line is one empty value.
        self._lines = [line for line in self._lines if line and line != ["", ""]]
        self._rows = [line for line in self._lines if line[0] or len(line) > 2]
        if not self._rows:
            raise UserError(f"{file}: the file is empty; expected a first line with names")
        self.names = [_value(text).removeprefix("\ufeff") for text in self._rows.pop(0)[::2]]
        for number, line in enumerate(self._rows, 2):
            if len(line) != 2 * len(self.names):
                count = f"{len(line) // 2} values instead of {len(self.names)}"
                raise UserError(f"{file}: line {number} has {count}")

    def __len__(self) -> int:
        return len(self._rows)

    def check_columns(self, *names: str) -> None:
        """Raise unless all these columns are there.

        Raises:
            UserError: names the first that is not.
        """
        for name in names:
            if name not in self.names:
                raise UserError(
                    f"{self.file}: no column {name!r}{did_you_mean(name, self.names)}; the columns "
                    f"are {', '.join(self.names)}"
                )

    def column(self, name: str) -> list[str]:
        """Return the values of a column."""
        place = 2 * self.names.index(name)
        return [_value(line[place]) for line in self._rows]

    def replace(self, row: int, name: str, value: str) -> None:
        """Write another value, in quotes where it needs them."""
        if re.search(rf'["\r\n{re.escape(self.delimiter)}]|^\s|\s$', value):
            value = '"' + value.replace('"', '""') + '"'
        self._rows[row][2 * self.names.index(name)] = value

    def write(self, file: str | os.PathLike[str]) -> None:
        """Write the file anew.

        Raises:
            FileError: it cannot be written.
        """
        with atomic_path(file) as temporary:
            text = "".join("".join(line) for line in self._lines)
            temporary.write_bytes(text.encode(self.encoding))


def _value(raw: str) -> str:
    bare = raw.removeprefix("\ufeff")
    return bare[1:-1].replace('""', '"') if len(bare) > 1 and bare[0] == bare[-1] == '"' else bare
