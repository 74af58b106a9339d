"""Every score that applies to a generator on a split of the user's data, with N and interval."""

from gancompress.evaluation.images import EvaluatedImages, evaluated_images
from gancompress.evaluation.scores import Instruments, Score, all_scores_of

__all__ = [
    "EvaluatedImages",
    "Instruments",
    "Score",
    "all_scores_of",
    "evaluated_images",
]
