"""From YAML files and ``KEY VALUE`` overrides to one checked, frozen tree of keys."""

from openanimals.config.checks import check
from openanimals.config.defaults import NOT_NEGATIVE, POSITIVE, SHARE, declare, get_cfg
from openanimals.config.files import shipped
from openanimals.config.loading import load, load_text, without_pretraining
from openanimals.config.node import CfgNode, ConfigError

__all__ = [
    "NOT_NEGATIVE",
    "POSITIVE",
    "SHARE",
    "CfgNode",
    "ConfigError",
    "check",
    "declare",
    "get_cfg",
    "load",
    "load_text",
    "shipped",
    "without_pretraining",
]
