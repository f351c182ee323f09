"""Write docs/config.md, the list of all keys, from the comments in openanimals/config/defaults.py.

python tools/config_reference.py
python tools/config_reference.py my_module    shows the keys of a plugin instead
"""

import ast
import html
import io
import sys
import tokenize
from collections import defaultdict
from pathlib import Path

from openanimals.config import defaults, load
from openanimals.config.fastreid import REFUSED
from openanimals.config.node import DECLARED, RULES

DOCUMENT = Path(__file__).parent.parent / "docs" / "config.md"

INTRODUCTION = """# Configuration keys

Written by `python tools/config_reference.py` from the comments in
[openanimals/config/defaults.py](../openanimals/config/defaults.py).
Set keys in a YAML file, or as `KEY VALUE` at the end of the command line. A file builds on others
by `_BASE_: other.yml`, or `_BASE_: [first.yml, second.yml]`. A path is relative to the file, or
names one that comes with the package (`openanimals configs`); later values win. Plugins have
[keys of their own](extending.md#keys-of-your-own).
"""

WITHOUT_EFFECT = """
## Keys of FastReID without effect

A file may set these to their default and to nothing else, so that FastReID's files load unchanged.

| key | default | why it has no effect |
|---|---|---|
"""


def list_keys() -> list[tuple[str, str, str]]:
    """Return each key, its default as written and its meaning, in the order of the file."""
    text = Path(defaults.__file__).read_text(encoding="utf-8")
    comments = {
        token.start[0]: token.string.removeprefix("#").strip()
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    }
    found = []
    for node in ast.parse(text).body:
        key = ast.unparse(node.targets[0]) if isinstance(node, ast.Assign) else ""
        if key.startswith("_C."):
            key, value = key.removeprefix("_C."), node.value
            default = value.args[0] if isinstance(value, ast.Call) else value
            meaning = comments.get(node.end_lineno, "") + choices(key)
            found.append((key, ast.unparse(default), meaning))
    return found


def choices(key: str) -> str:
    """Return the texts that a key may have, in brackets, or nothing."""
    rule = RULES.get(key, "")
    return f" ({', '.join(rule)})" if rule and not callable(rule[0]) else ""


def plugin_keys(modules: list[str]) -> list[tuple[str, str, str]]:
    """Return the same of the keys that plugins declare."""
    load(None, ["IMPORTS", modules])
    return [(key, repr(of.default), of.meaning + choices(key)) for key, of in DECLARED.items()]


def tables(keys: list[tuple[str, str, str]]) -> str:
    """Return keys as Markdown, a table for each section."""
    sections: dict[str, list[str]] = defaultdict(list)
    for key, default, meaning in keys:
        path = key.split(".")[:-1]
        title = ".".join(path[: 2 if path[:1] == ["MODEL"] else 1]) or "The run"
        sections[title].append(f"| `{key}` | `{default}` | {html.escape(meaning, quote=False)} |\n")
    return "".join(
        f"\n## {title}\n\n| key | default | meaning |\n|---|---|---|\n" + "".join(rows)
        for title, rows in sections.items()
    )


def document() -> str:
    """Return the document: our keys, and FastReID's that have no effect."""
    refused = [
        f"| `{key}` | `{default!r}` | {html.escape(reason, quote=False)} |\n"
        for key, (default, reason) in REFUSED.items()
    ]
    return INTRODUCTION + tables(list_keys()) + WITHOUT_EFFECT + "".join(refused)


if __name__ == "__main__" and sys.argv[1:]:
    print(tables(plugin_keys(sys.argv[1:])))
elif __name__ == "__main__":
    DOCUMENT.write_text(document(), encoding="utf-8")
