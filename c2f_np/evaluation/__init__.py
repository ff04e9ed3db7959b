"""Ranking and metrics: how good a recommender is (docs/evaluation.md)."""

from .definitions import DEFINITIONS, Definition, over_all_users, rank_sampled
from .evaluate import EvaluationResult, evaluate_embeddings, evaluate_ranking
from .metrics import DEFAULT_KS, DEFAULT_METRICS, hit_matrix, mean_metrics, metrics_per_user, ndcg_at_k, recall_at_k
from .ranking import count_ties_at_cut, rank_embeddings, rank_items

__all__ = [
    "DEFAULT_KS",
    "DEFAULT_METRICS",
    "DEFINITIONS",
    "Definition",
    "EvaluationResult",
    "count_ties_at_cut",
    "evaluate_embeddings",
    "evaluate_ranking",
    "hit_matrix",
    "mean_metrics",
    "metrics_per_user",
    "ndcg_at_k",
    "over_all_users",
    "rank_embeddings",
    "rank_items",
    "rank_sampled",
    "recall_at_k",
]
