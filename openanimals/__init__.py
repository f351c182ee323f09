"""OpenAnimals: tells individual animals apart in photographs (animal re-identification)."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openanimals.config import get_cfg
    from openanimals.engine.predictor import Predictor, load_model
    from openanimals.engine.train import train
    from openanimals.evaluation import FeatureSet, evaluate

__version__ = "0.1.0"
__all__ = [
    "FeatureSet",
    "Predictor",
    "__version__",
    "evaluate",
    "get_cfg",
    "load_model",
    "train",
]

_HOMES = {
    "FeatureSet": "openanimals.evaluation",
    "Predictor": "openanimals.engine.predictor",
    "evaluate": "openanimals.evaluation",
    "get_cfg": "openanimals.config",
    "load_model": "openanimals.engine.predictor",
    "train": "openanimals.engine.train",
}


def __getattr__(name: str) -> Any:
    """Import on first use, so that importing the package is cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module 'openanimals' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
