"""Which subnet to keep under a budget."""

from gancompress.search.answers import Answer
from gancompress.search.budgets import Budget
from gancompress.search.evaluator import Evaluator
from gancompress.search.log import TrialLog
from gancompress.search.problem import Problem
from gancompress.search.result import SearchResult, load_result
from gancompress.search.stage import search
from gancompress.search.trials import Trial, pareto_front

__all__ = [
    "Answer",
    "Budget",
    "Evaluator",
    "Problem",
    "SearchResult",
    "Trial",
    "TrialLog",
    "load_result",
    "pareto_front",
    "search",
]
