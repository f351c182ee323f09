"""Features to numbers: distances, rankings, Rank-k, mAP and mINP, and pictures of them."""

from openanimals.evaluation.evaluator import evaluate, extract_features
from openanimals.evaluation.metrics import Result

__all__ = ["Result", "evaluate", "extract_features"]
