"""From YAML files and ``KEY VALUE`` overrides to one checked, frozen tree of keys."""

from openanimals.config.checks import check, load, load_text, without_pretraining
from openanimals.config.defaults import get_cfg
from openanimals.config.node import CfgNode, ConfigError

__all__ = ["CfgNode", "ConfigError", "check", "get_cfg", "load", "load_text", "without_pretraining"]
