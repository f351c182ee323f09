"""Features or scores to numbers: rankings, Rank-k, mAP and mINP, and pictures of them."""

from openanimals.evaluation.evaluator import evaluate, extract_features
from openanimals.evaluation.metrics import Result
from openanimals.evaluation.query_expansion import QueryExpansion
from openanimals.evaluation.rerank import Rerank
from openanimals.evaluation.results_io import FeatureSet

__all__ = ["FeatureSet", "QueryExpansion", "Rerank", "Result", "evaluate", "extract_features"]
