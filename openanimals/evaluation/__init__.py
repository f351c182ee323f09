"""Features to numbers: distances, rankings, Rank-k, mAP and mINP, and pictures of them."""

from openanimals.evaluation.evaluator import evaluate, extract_features
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.query_expansion import Expansion
from openanimals.evaluation.rerank import Rerank

__all__ = ["Expansion", "Rerank", "Result", "evaluate", "extract_features"]
