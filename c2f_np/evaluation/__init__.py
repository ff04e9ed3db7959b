"""Ranking, metrics and the popularity scorer: how good a recommender is (docs/evaluation.md)."""

from .evaluate import EvaluationResult, evaluate_embeddings, evaluate_ranking
from .metrics import DEFAULT_KS, hit_matrix, mean_metrics, metrics_per_user, ndcg_at_k, recall_at_k
from .popularity import fit_popularity, popularity_scores, popularity_size_bytes
from .ranking import count_ties_at_cut, rank_embeddings, rank_items

__all__ = [
    "DEFAULT_KS",
    "EvaluationResult",
    "count_ties_at_cut",
    "evaluate_embeddings",
    "evaluate_ranking",
    "fit_popularity",
    "hit_matrix",
    "mean_metrics",
    "metrics_per_user",
    "ndcg_at_k",
    "popularity_scores",
    "popularity_size_bytes",
    "rank_embeddings",
    "rank_items",
    "recall_at_k",
]
