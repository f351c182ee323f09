"""YAML as a configuration needs it: no key twice, no bombs, and a line in every error."""

import re
from copy import deepcopy
from functools import lru_cache
from typing import Any

import yaml

from openanimals.utils.errors import UserError, shortened

MOST_CHARACTERS, MOST_VALUES, DEEPEST = 2**20, 10_000, 20
_MERGE = "tag:yaml.org,2002:merge"


class YamlError(UserError):
    """Text that is no YAML, or none of a configuration: says in which line, and why."""


def parse(text: str) -> Any:
    """Return what YAML text says; ``010``, ``12:30`` and ``2024-01-05`` are the text itself.

    Raises:
        YamlError: it is not YAML, has a key twice, or is larger than a configuration can be.
    """
    if len(text) > MOST_CHARACTERS:
        raise YamlError(f"has more than {MOST_CHARACTERS} characters")
    return deepcopy(_parsed(text))


@lru_cache  # each run of a grid reads the same files, and most of the time goes here
def _parsed(text: str) -> Any:
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _Look().at(node)
        return loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        said = shortened(error.problem or error.context, 300)
        kind = "" if type(error) is yaml.MarkedYAMLError else "is not YAML: "  # else ours
        raise YamlError(f"line {mark.line + 1 if mark else '?'}: {kind}{said}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        said = f"is not YAML: the character {chr(error.character)!r}"
        raise YamlError(f"line {line}: {said}") from None


class _Loader(yaml.SafeLoader):
    """Takes for numbers what is written as such, not what else YAML 1.1 does."""

    depth = count = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        self.count += 1
        if self.depth > DEEPEST or self.count > MOST_VALUES:
            raise _too_large(self.peek_event())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, AttributeError, TypeError) as error:
            value, kind = shortened(str(node.value)), node.tag.split(":")[-1]
            raise _fault(f"{value!r} cannot be read as {kind}", node) from error


_KEPT = {
    "int": re.compile(r"[-+]?(0|[1-9][0-9]{0,17})$"),
    "float": re.compile(r"([-+]?[0-9]+\.[0-9]*|\.[0-9]+)([eE][-+][0-9]+)?$"),
}
_Loader.yaml_implicit_resolvers = {
    first: [
        (tag, _KEPT.get(tag.split(":")[-1], pattern))
        for tag, pattern in kinds
        if not tag.endswith(":timestamp")
    ]
    for first, kinds in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class _Look:
    """A look at all values, aliases written out: how many there are, and whether a key repeats."""

    def __init__(self) -> None:
        self.count = 0

    def at(self, node: yaml.Node, name: str = "", depth: int = 0, seen: Any = None) -> None:
        """Look at a value.

        Args:
            node: the value.
            name: its dotted key.
            depth: how many values it is within.
            seen: the line of each dotted key so far that is no section.

        Raises:
            MarkedYAMLError: at the line of the fault.
        """
        self.count += 1
        if self.count > MOST_VALUES or depth > DEEPEST:
            raise _too_large(node)
        seen = {} if seen is None else seen
        if isinstance(node, yaml.MappingNode):
            here: dict[str, int] = {}
            for key, value in node.value:
                if key.tag == _MERGE:
                    self.at(value, name, depth + 1)
                    continue
                if not isinstance(key, yaml.ScalarNode):
                    raise _fault("a key must be a name", key)
                dotted = f"{name}.{key.value}" if name else key.value
                places = here if isinstance(value, yaml.MappingNode) else seen
                before = here.get(dotted) or seen.get(dotted)
                if before:
                    text = f"the key {shortened(dotted)} stands in line {before} already"
                    raise _fault(text, key)
                here[dotted] = places[dotted] = key.start_mark.line + 1
                self.at(value, dotted, depth + 1, seen)
        elif isinstance(node, yaml.SequenceNode):
            for value in node.value:
                self.at(value, name, depth + 1)


def _fault(text: str, at: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=text, problem_mark=at.start_mark)


def _too_large(at: Any) -> yaml.MarkedYAMLError:
    return _fault(f"more than {MOST_VALUES} values, or {DEEPEST} levels in one another", at)
