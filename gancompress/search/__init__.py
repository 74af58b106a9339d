"""Which subnet to keep under a budget."""

from gancompress.search.budgets import Budget
from gancompress.search.evaluator import Evaluator
from gancompress.search.log import TrialLog
from gancompress.search.problem import Problem
from gancompress.search.result import Answer, SearchResult, load_result
from gancompress.search.searchers import SEARCHERS, Searcher
from gancompress.search.stage import search
from gancompress.search.trials import Trial, pareto_front

__all__ = [
    "SEARCHERS",
    "Answer",
    "Budget",
    "Evaluator",
    "Problem",
    "SearchResult",
    "Searcher",
    "Trial",
    "TrialLog",
    "load_result",
    "pareto_front",
    "search",
]
