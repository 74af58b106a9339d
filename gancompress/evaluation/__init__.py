"""Every score that applies to a generator on a split of the user's data, with N and interval."""

from gancompress.evaluation.data import ChosenData, SplitName, choose_data
from gancompress.evaluation.images import EvaluatedImages, evaluated_images
from gancompress.evaluation.scores import MIN_FOR_DISTANCES, Instruments, Score, all_scores_of

__all__ = [
    "MIN_FOR_DISTANCES",
    "ChosenData",
    "EvaluatedImages",
    "Instruments",
    "Score",
    "SplitName",
    "all_scores_of",
    "choose_data",
    "evaluated_images",
]
