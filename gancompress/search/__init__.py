"""Which subnet to keep under a budget."""

from gancompress.search.algorithms import Chooser, Evolution, Exhaustive
from gancompress.search.evaluator import Evaluator
from gancompress.search.stage import SearchResult, load_result, search
from gancompress.search.trials import Trial, TrialLog, best_under, pareto_front

__all__ = [
    "Chooser",
    "Evaluator",
    "Evolution",
    "Exhaustive",
    "SearchResult",
    "Trial",
    "TrialLog",
    "best_under",
    "load_result",
    "pareto_front",
    "search",
]
