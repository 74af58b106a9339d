"""Searchers: what they may propose, that they repeat, and how soon they find the front."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from landscapes import SHAPES, Found, Table, chain_macs, make_landscape, make_space

from gancompress.checkpoint.network import load_supernet
from gancompress.config import DataOptions, SearcherOptions, SearchOptions, build
from gancompress.data import load_split, to_float
from gancompress.elastic import Subnet
from gancompress.elastic.space import Genomes
from gancompress.errors import BudgetError, ConfigError
from gancompress.search.front import Floats, Frame, front_indices, hypervolume
from gancompress.search.genes import Genes, keys, unseen
from gancompress.search.problem import Problem
from gancompress.search.searchers import (
    SEARCHERS,
    Evaluated,
    Evolution,
    Exhaustive,
    Guided,
    RandomSearch,
    Searcher,
    generation_rng,
)
from gancompress.search.searchers.acquisition import StepFront
from gancompress.search.searchers.base import Archive, first_generation
from gancompress.search.searchers.predictor import CONDITIONED_ON, Predictor
from gancompress.search.searchers.regressor import GaussianProcess, _likelihood, kendall_tau
from runs import REPOSITORY

every_searcher = pytest.mark.parametrize("name", [*SEARCHERS, "narrowest"])
SHIPPED = REPOSITORY / "pretrained" / "draw2emoji"
EMOJI = REPOSITORY / "datasets" / "draw2emoji"
SMALL = 20  # subnets in a proposal
HUGE = make_space(22, 5)  # 2.4e15 subnets


class Narrowest(Searcher):
    """The narrowest subnets that are left, in an order that the seed decides."""

    def propose(
        self, problem: Problem, trials: Sequence[Evaluated], rng: np.random.Generator
    ) -> list[Subnet]:
        archive = Archive.of(problem, trials)
        drawn = problem.draw(2 * self.generation, rng, archive.genomes)
        chosen = drawn[np.argsort(drawn.sum(axis=1), kind="stable")[: self.generation]]
        return problem.space.subnets(chosen)


@pytest.fixture(autouse=True)
def narrowest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A searcher that the package does not know."""
    monkeypatch.setitem(SEARCHERS, "narrowest", Narrowest)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def total(genomes: Genomes) -> Floats:
    """A second cost, which orders subnets otherwise than MACs do."""
    return genomes.sum(axis=1).astype(np.float64)


def tight(share: float, dimensions: int = 6, candidates: int = 4) -> Problem:
    """A budget that this share of all subnets fits."""
    space = make_space(dimensions, candidates)
    if space.size < 100_000:
        genomes = space.genomes_at(np.arange(space.size))
    else:
        genomes = space.sample_genomes(100_000, rng())
    limit = float(np.quantile(chain_macs(genomes), share))
    return Problem(space, {"macs": chain_macs}, {"macs": limit})


def evaluated(problem: Problem, subnets: list[Subnet]) -> list[Found]:
    """Trials with losses of one of the landscapes."""
    loss = make_landscape("sum", 0, problem.space).loss(problem.space.genomes(subnets))
    return [Found(subnet, value) for subnet, value in zip(subnets, loss.tolist(), strict=True)]


def simulate(name: str, problem: Problem, seed: int, generations: int) -> list[Found]:
    trials: list[Found] = []
    for _ in range(generations):
        searcher = SEARCHERS[name](generation=SMALL)
        proposals = searcher.propose(problem, trials, generation_rng(seed, len(trials)))
        trials += evaluated(problem, proposals)
    return trials


# -- options --------------------------------------------------------------------------------


def chosen(**given: object) -> SearcherOptions:
    raw = {"run": "run", "supernet": "supernet", "searcher": given}
    return build(SearchOptions, raw, "search.yaml").searcher


@every_searcher
def test_a_searcher_takes_its_own_options_alone(name: str) -> None:
    assert chosen(name=name, generation=7) == SEARCHERS[name](name=name, generation=7)
    takes = ", ".join(SEARCHERS[name].model_fields)
    wanted = rf"search\.yaml: searcher\.radius has no effect on {name}, which takes {takes}"
    with pytest.raises(ConfigError, match=wanted):
        chosen(name=name, radius=3)
    wanted = r"search\.yaml: searcher\.generation: .*greater than or equal to 1, got 0"
    with pytest.raises(ConfigError, match=wanted):
        chosen(name=name, generation=0)


def test_options_of_another_searcher_are_errors() -> None:
    assert chosen() == build(SearchOptions, {"run": "a", "supernet": "b"}, "x").searcher
    assert chosen() == Guided(name="guided")
    assert chosen(name="evolution", mutate_prob=0.3).model_dump() == {
        **Evolution(mutate_prob=0.3).model_dump(), "name": "evolution",
    }  # fmt: skip
    with pytest.raises(ConfigError, match=r"searcher\.mutate_prob has no effect on guided"):
        chosen(mutate_prob=0.3)
    with pytest.raises(ConfigError, match="unknown searcher 'guidde'; did you mean 'guided'"):
        chosen(name="guidde")


@pytest.mark.parametrize(
    ("algorithm", "population", "searcher"),
    [
        ("guided", None, Guided(name="guided")),
        ("random", 6, RandomSearch(name="random", generation=6)),
        ("evolution", 12, Evolution(name="evolution", generation=12, mutate_prob=0.3)),
        ("published", None, Evolution(name="evolution", mutate_prob=0.3, spread=False)),
    ],
)
def test_options_in_run_folders_of_earlier_versions_are_read(
    algorithm: str, population: int | None, searcher: Searcher
) -> None:
    raw = {
        "run": "run", "supernet": "supernet", "algorithm": algorithm, "screen_images": None,
        "population": population, "parent_ratio": 0.25, "mutation_ratio": 0.5, "mutate_prob": 0.3,
    }  # fmt: skip
    assert build(SearchOptions, raw, "config.yaml").searcher == searcher


# -- the problem ----------------------------------------------------------------------------


def test_genes_know_every_subnet_of_a_space() -> None:
    space = make_space(3, 4)
    genes = Genes.of(space)
    indices = np.arange(space.size)
    genomes = space.genomes_at(indices)
    places = genes.places(genomes)
    assert (genes.values(places) == genomes).all()
    assert (genes.indices(places) == indices).all()
    around = {tuple(row) for row in genes.neighbours(np.array([[0, 1, 3]])).tolist()}
    assert around == {(1, 1, 3), (0, 0, 3), (0, 2, 3), (0, 1, 2)}
    between = np.array([[15, 40, 200]])
    assert genes.places(between).tolist() == [[0, 2, 3]]


def test_unseen_rows_are_new_and_distinct() -> None:
    rows = np.array([[1, 2], [3, 4], [1, 2], [5, 6]])
    assert unseen(rows, set(keys(rows[[1]]))).tolist() == [True, False, False, True]


def test_subnet_fits_within_any_one_limit() -> None:
    space = make_space(3, 3)
    genomes = space.genomes_at(np.arange(space.size))
    limits = {"macs": float(np.quantile(chain_macs(genomes), 0.3)), "total": 64.0}
    problem = Problem(space, {"macs": chain_macs, "total": total}, limits)
    fitting = problem.fits(genomes)
    wanted = (chain_macs(genomes) <= limits["macs"]) | (total(genomes) <= 64)
    assert (fitting == wanted).all()
    assert 0 < fitting.sum() < len(fitting)
    assert (problem.fitting == np.flatnonzero(wanted)).all()
    assert problem.within(genomes, "total").tolist() == (total(genomes) <= 64).tolist()
    free = Problem(space, {"macs": chain_macs})
    assert free.fits(genomes).all()


@pytest.mark.parametrize("space", [make_space(4, 3), HUGE], ids=["small", "huge"])
def test_infeasible_budget_is_refused_at_once_with_the_smallest_cost(space: object) -> None:
    assert isinstance(space, type(HUGE))
    problem = Problem(space, {"total": total, "macs": chain_macs}, {"macs": 1e6})
    start = time.perf_counter()
    with pytest.raises(BudgetError, match=r"no subnet fits macs 1M: the smallest \(16_16") as info:
        Guided().propose(problem, [], rng())
    assert time.perf_counter() - start < 1
    smallest = chain_macs(space.genomes([space.smallest()]))[0]
    assert f"{smallest / 1e6:.4g}M" in str(info.value)


def test_cheapest_subnet_is_found_where_narrow_is_not_fast() -> None:
    def latency(genomes: Genomes) -> Floats:
        return np.where(genomes == 16, 3.0, genomes / 16).sum(axis=1)

    problem = Problem(make_space(4, 4), {"latency_ms@phone": latency}, {"latency_ms@phone": 6.5})
    subnet, cost = problem.cheapest["latency_ms@phone"]
    assert (str(subnet), cost) == ("24_24_24_24", 6.0)
    assert problem.draw(10, rng(), np.empty((0, 4), np.int64)).shape[0] == 5
    repaired = problem.repair(np.array([[96, 96, 96, 96], [24, 24, 24, 32]]), rng())
    assert problem.fits(repaired).all()
    assert repaired[1].tolist() == [24, 24, 24, 32]


def test_costs_and_limits_are_checked_by_name() -> None:
    with pytest.raises(ConfigError, match="a limit for mac, but costs are macs"):
        Problem(make_space(), {"macs": chain_macs}, {"mac": 1.0})
    with pytest.raises(ConfigError, match="at least one cost"):
        Problem(make_space(), {})


def test_repair_only_narrows_and_leaves_what_fits() -> None:
    problem = tight(0.1)
    genomes = problem.space.sample_genomes(500, rng())
    repaired = problem.repair(genomes, rng())
    assert problem.fits(repaired).all()
    assert (repaired <= genomes).all()
    fitting = problem.fits(genomes)
    assert (repaired[fitting] == genomes[fitting]).all()
    # no misfit is narrowed further than needed: one step back in some gene does not fit
    places = problem.genes.places(repaired[~fitting])
    assert (problem.genes.places(genomes[~fitting]) - places).sum(axis=1).min() >= 1


@pytest.mark.parametrize("share", [0.5, 0.02, 0.0])
def test_draws_are_distinct_new_and_fit(share: float) -> None:
    for problem in (tight(share), tight(share, 12, 5)):
        known = problem.draw(3, rng(1), np.empty((0, len(problem.space)), np.int64))
        drawn = problem.draw(200, rng(), known)
        assert problem.fits(drawn).all()
        everything = keys(np.concatenate([known, drawn]))
        assert len(set(everything)) == len(everything)
        if share:
            assert len(drawn) >= min(200, problem.space.size * share - 5)


def test_draw_from_a_huge_space_finds_all_of_the_few_that_fit() -> None:
    """Those at most two steps above the smallest: a number known from combinatorics."""

    def steps(genomes: Genomes) -> Floats:
        return 1 + Genes.of(HUGE).places(genomes).sum(axis=1).astype(np.float64)

    problem = Problem(HUGE, {"steps": steps}, {"steps": 3.0})
    none = np.empty((0, len(HUGE)), np.int64)
    assert len(problem.draw(1000, rng(), none)) == 1 + 22 + 22 + 22 * 21 // 2
    assert len(problem.draw(20, rng(), none)) == 20
    only = Problem(HUGE, {"steps": steps}, {"steps": 1.0})
    assert HUGE.subnets(only.draw(5, rng(), none)) == [HUGE.smallest()]


def test_first_generation_spreads_over_the_costs() -> None:
    problem = Problem(HUGE, {"macs": chain_macs})
    genomes = first_generation(problem, 40, rng())
    places = np.log(np.sort(chain_macs(genomes)))
    drawn = np.sort(np.append(HUGE.sample_genomes(40, rng()), genomes[[0, 4]], axis=0))
    gaps, usual = (np.diff(p).max() for p in (places, np.log(np.sort(chain_macs(drawn)))))
    assert len(genomes) == len(set(keys(genomes))) == 40
    assert genomes.min(axis=0).max() == 16
    assert (genomes.min(axis=1) == 64).any()
    assert gaps < 0.6 * usual


# -- every searcher -------------------------------------------------------------------------


@every_searcher
def test_proposals_are_new_distinct_and_within_the_budget_until_none_is_left(name: str) -> None:
    problem = tight(0.4, 4, 4)
    trials: list[Found] = []
    while proposals := SEARCHERS[name](generation=SMALL).propose(problem, trials, rng(len(trials))):
        assert problem.fits(problem.space.genomes(proposals)).all()
        trials += evaluated(problem, proposals)
        assert len({trial.subnet for trial in trials}) == len(trials)
    assert len(trials) == len(problem.fitting) >= 100


@every_searcher
def test_one_search_serves_several_limits(name: str) -> None:
    space = make_space(5, 4)
    limits = {"macs": 250e6, "total": 150.0}
    problem = Problem(space, {"macs": chain_macs, "total": total}, limits)
    trials = simulate(name, problem, 0, 5)
    genomes = space.genomes(trial.subnet for trial in trials)
    macs, sums = chain_macs(genomes), total(genomes)
    assert len(trials) >= 100
    assert ((macs <= 250e6) | (sums <= 150)).all()


@every_searcher
def test_same_seed_gives_the_same_trials_and_another_gives_others(name: str) -> None:
    problem = tight(0.5)
    one, again, other = (simulate(name, problem, seed, 3) for seed in (1, 1, 2))
    assert one == again
    assert (one == other) == (name == "exhaustive")


@every_searcher
def test_search_goes_on_from_its_log_alone_in_whatever_order(name: str) -> None:
    problem = tight(0.5)
    whole = simulate(name, problem, 1, 3)
    before = simulate(name, problem, 1, 2)
    shuffled = [before[i] for i in rng().permutation(len(before))]
    fresh = Problem(problem.space, problem.costs, problem.limits)
    proposals = SEARCHERS[name](generation=SMALL).propose(
        fresh, shuffled, generation_rng(1, len(before))
    )
    assert proposals == [trial.subnet for trial in whole[len(before) :]]


@every_searcher
def test_search_ends_where_hardly_anything_fits(name: str) -> None:
    for share in (0.02, 0.0):
        problem = tight(share)
        trials = simulate(name, problem, 0, 8)
        assert {t.subnet for t in trials} == set(
            problem.space.subnets(problem.space.genomes_at(problem.fitting))
        )
    if name != "exhaustive":
        limit = float(chain_macs(HUGE.genomes([HUGE.smallest()]))[0])
        only = Problem(HUGE, {"macs": chain_macs}, {"macs": limit})
        assert simulate(name, only, 0, 2) == evaluated(only, [HUGE.smallest()])


@every_searcher
def test_failed_trials_do_not_stop_a_search(name: str) -> None:
    problem = tight(1.0)
    subnets = problem.space.subnets(first_generation(problem, 12, rng()))
    for losses in ([np.nan, np.inf, 0.5] * 4, [np.inf, -0.5, -1.0] * 4, [np.nan] * 12,
                   [-0.5] * 12, [0.0] * 12):  # fmt: skip
        trials = [Found(s, loss) for s, loss in zip(subnets, losses, strict=True)]
        assert len(SEARCHERS[name](generation=SMALL).propose(problem, trials, rng())) >= 2


@pytest.mark.parametrize("sign", [1, -1])
def test_failures_are_predicted_as_the_worst_that_did_not_fail(sign: int) -> None:
    space = make_space()
    problem = Problem(space, {"macs": chain_macs})
    subnets = space.subnets(first_generation(problem, 24, rng()))
    losses = sign * np.linspace(1, 2, len(subnets))
    means = []
    for failure in (np.nan, np.inf, losses[4:].max()):
        losses[:4] = failure
        trials = [Found(s, float(loss)) for s, loss in zip(subnets, losses, strict=True)]
        predictor = Predictor.of(Archive.of(problem, trials))
        means.append(predictor.predict(space.genomes_at(np.arange(0, 4096, 7)))[0])
    assert np.isfinite(means).all()
    np.testing.assert_array_equal(means[0], means[1])
    np.testing.assert_array_equal(means[0], means[2])


@every_searcher
def test_trials_between_the_candidates_are_welcome(name: str) -> None:
    problem = tight(1.0)
    odd = [Subnet((17,) * 6), Subnet((40,) * 6), Subnet((48,) * 6)]
    proposals = SEARCHERS[name](generation=SMALL).propose(problem, evaluated(problem, odd), rng())
    assert len(proposals) >= 16
    assert all(subnet in problem.space for subnet in proposals)
    assert odd[2] not in proposals


def test_exhaustive_search_refuses_spaces_that_are_too_large() -> None:
    with pytest.raises(ConfigError, match="2,384,185,791,015,625 subnets are too many"):
        Exhaustive().propose(Problem(HUGE, {"macs": chain_macs}), [], rng())


@pytest.mark.parametrize("name", ["evolution", "guided"])
def test_spaces_of_quadrillions_are_searched(name: str) -> None:
    genomes = HUGE.sample_genomes(10_000, rng())
    problem = Problem(HUGE, {"macs": chain_macs}, {"macs": float(np.median(chain_macs(genomes)))})
    trials = simulate(name, problem, 0, 4)
    assert len(trials) >= 80
    assert problem.fits(HUGE.genomes(t.subnet for t in trials)).all()
    best = min(t.loss for t in trials)
    random = problem.draw(len(trials), rng(), np.empty((0, 22), np.int64))
    assert best < min(t.loss for t in evaluated(problem, HUGE.subnets(random)))


# -- evolution ------------------------------------------------------------------------------


def test_published_evolution_crosses_the_best_whatever_they_cost() -> None:
    problem = tight(1.0)
    subnets = problem.space.subnets(problem.draw(200, rng(), np.empty((0, 6), np.int64)))
    trials = sorted(evaluated(problem, subnets), key=lambda t: t.loss)
    searcher = Evolution(generation=40, parent_ratio=0.1, mutation_ratio=0.0, spread=False)
    children = searcher.propose(problem, trials, rng())
    parents = [trial.subnet.values for trial in trials[:4]]
    pairs = itertools.combinations(parents, 2)
    mixtures = {m for pair in pairs for m in itertools.product(*zip(*pair, strict=True))}
    new = mixtures - {trial.subnet.values for trial in trials}
    bred = {child.values for child in children} & mixtures
    assert len(children) == 40  # the rest is drawn at random once the mixtures are used up
    assert len(bred) >= min(35, len(new)) > 10, (len(bred), len(new))


def test_published_evolution_mutates_genes_with_the_given_probability() -> None:
    problem = Problem(HUGE, {"macs": chain_macs})
    parent = Subnet((32,) * 22)
    searcher = Evolution(generation=500, mutation_ratio=1.0, mutate_prob=0.3, spread=False)
    children = searcher.propose(problem, evaluated(problem, [parent]), rng())
    changed = (HUGE.genomes(children) != 32).mean()
    assert changed == pytest.approx(0.3 * 4 / 5, abs=0.02)  # one draw in five changes nothing


def test_archive_ranks_within_each_limit() -> None:
    space = make_space(4, 4)
    problem = Problem(space, {"macs": chain_macs, "total": total}, {"total": 100.0})
    subnets = space.subnets(problem.draw(60, rng(), np.empty((0, 4), np.int64)))
    archive = Archive.of(problem, evaluated(problem, subnets))
    assert (total(archive.best("total", 10)) <= 100).all()
    best = archive.best("macs", 60)
    front = archive.genomes[front_indices(chain_macs(archive.genomes), archive.losses)]
    assert set(keys(best[: len(front)])) == set(keys(front))


# -- the predictor --------------------------------------------------------------------------


def test_kendall_tau_counts_pairs() -> None:
    one, other = rng().integers(0, 6, (2, 30)).astype(np.float64)
    pairs = list(itertools.combinations(range(30), 2))
    score = sum(np.sign(one[i] - one[j]) * np.sign(other[i] - other[j]) for i, j in pairs)
    untied = [sum(v[i] != v[j] for i, j in pairs) for v in (one, other)]
    assert kendall_tau(one, other) == pytest.approx(score / np.sqrt(untied[0] * untied[1]))
    assert kendall_tau(one, one) == pytest.approx(1)
    assert np.isnan(kendall_tau(np.ones(3), one[:3]))


def test_likelihood_is_that_of_a_normal_distribution_and_its_gradient_is_right() -> None:
    features, targets = rng().random((12, 3)), rng(1).standard_normal(12)
    theta = np.array([-0.5, 0.3, -2.0, 0.1, -0.4, 0.5])
    value, gradient = _likelihood(features, targets, theta)
    x = torch.from_numpy(features)
    scaled = x / torch.exp(torch.from_numpy(theta[3:]))
    r = 5**0.5 * torch.cdist(scaled, scaled)
    kernel = np.exp(0.3) * (1 + r + r**2 / 3) * torch.exp(-r) + np.exp(-0.5) * (1 + x @ x.T)
    kernel += (np.exp(-2.0) + 1e-6) * torch.eye(12)
    normal = torch.distributions.MultivariateNormal(torch.zeros(12).double(), kernel)
    constant = 6 * np.log(2 * np.pi)
    assert value - constant == pytest.approx(float(normal.log_prob(torch.from_numpy(targets))))
    for i in range(6):
        step = np.eye(6)[i] * 1e-5
        ahead, behind = (_likelihood(features, targets, theta + s)[0] for s in (step, -step))
        assert gradient[i] == pytest.approx((ahead - behind) / 2e-5, rel=1e-4, abs=1e-6)


def test_predictions_interpolate_and_their_uncertainty_is_honest() -> None:
    land = make_landscape("sum", 0, make_space())
    genomes = land.space.genomes_at(rng().choice(4096, 400, False))
    features = np.log(genomes / 16) / np.log(4)
    targets = np.log(land.loss(genomes))
    process = GaussianProcess.fit(features[:80], targets[:80], np.arange(80))
    seen, _ = process.predict(features[:80])
    mean, std = process.predict(features[80:])
    error = np.abs(mean - targets[80:])
    assert np.abs(seen - targets[:80]).max() < 0.05 * targets.std()
    assert np.sqrt((error**2).mean()) < 0.15 * targets.std()
    assert 0.85 < (error < 2 * std).mean() <= 1
    joint = process.covariance(features[80:])
    np.testing.assert_allclose(np.diagonal(joint), std**2, rtol=1e-3, atol=1e-7)


def test_expected_gain_is_the_mean_growth_of_the_hypervolume() -> None:
    places, losses = np.array([0.0, 0.3, 0.6]), np.array([0.9, 0.5, 0.2])
    steps = StepFront.of(places, losses)
    frame = Frame(0.0, 1.0, 0.0, float(steps.levels[0]), log=False)
    draws = torch.special.ndtri((torch.arange(500).double() + 0.5) / 500).tolist()
    for place, mean, std in ((0.4, 0.4, 0.1), (0.1, 0.8, 0.3), (0.7, 0.25, 0.05)):
        before = hypervolume(places, losses, frame)
        grown = [
            hypervolume(np.append(places, place), np.append(losses, mean + std * d), frame) - before
            for d in draws
        ]
        wanted = float(np.mean(grown)) * frame.high_loss
        gain = steps.expected_gain(np.array([place, 2.0]), np.full(2, mean), np.full(2, std))
        assert gain[0] == pytest.approx(wanted, rel=0.01)
        assert gain[1] == 0  # beyond the limit


def test_steps_grow_like_a_front() -> None:
    places, losses = rng().random((2, 30))
    steps = StepFront.of(places[:10], losses[:10])
    for place, loss in zip(places[10:], losses[10:], strict=True):
        steps = steps.added(float(place), float(loss))
    front = front_indices(places, losses)
    costs = steps.places[1:] if steps.levels[1] < steps.levels[0] else steps.places
    kept = losses[front] < steps.levels[0]
    np.testing.assert_allclose(costs[-kept.sum() :], places[front][kept])


def test_diagnosis_tells_how_far_the_predictor_can_be_believed() -> None:
    space = make_space()
    problem = Problem(space, {"macs": chain_macs})
    trials = simulate("random", problem, 0, 4)
    good = Guided().diagnose(problem, trials)
    assert good["held_out"] == 80
    assert good["kendall_tau"] > 0.9
    assert good["inside"] > 0.8
    noise = rng().standard_normal(len(trials))
    nothing = [Found(t.subnet, float(loss)) for t, loss in zip(trials, noise, strict=True)]
    assert abs(Guided().diagnose(problem, nothing)["kendall_tau"]) < 0.25
    assert Guided().diagnose(problem, trials[:5]) == {}
    equal = [Found(trial.subnet, 0.5) for trial in trials]
    assert Guided().diagnose(problem, equal) == {}  # no order to agree with


def test_predictor_stays_small_with_thousands_of_trials() -> None:
    space = make_space()
    problem = Problem(space, {"macs": chain_macs})
    trials = evaluated(problem, space.subnets(space.genomes_at(np.arange(0, 4096, 2))))
    predictor = Predictor.of(Archive.of(problem, trials))
    assert len(predictor.process.features) == CONDITIONED_ON
    mean, _ = predictor.predict(space.genomes_at(np.arange(1, 4096, 2)))
    left = evaluated(problem, space.subnets(space.genomes_at(np.arange(1, 4096, 2))))
    assert kendall_tau(mean, np.array([t.loss for t in left])) > 0.95


# -- how soon the front is found ------------------------------------------------------------


@pytest.mark.parametrize("shape", SHAPES)
def test_front_is_found_with_a_tenth_of_the_evaluations(shape: str) -> None:
    """99 % of the exhaustive front's hypervolume, over five seeds."""
    space = make_space()
    table = Table(Problem(space, {"macs": chain_macs}), make_landscape(shape, 0, space).loss)
    needed = [table.search(Guided(), seed, 409, 0.99).needed() for seed in range(5)]
    assert max(needed) <= len(table.losses) // 10


def test_front_of_uneven_measurements_is_found() -> None:
    """Every subnet is off by 2 % for itself, a part that nothing can predict."""
    space = make_space()
    loss = make_landscape("pairs", 1, space, noise=0.02).loss
    table = Table(Problem(space, {"macs": chain_macs}), loss)
    needed = [table.search(Guided(), seed, 409, 0.99).needed() for seed in range(3)]
    assert max(needed) <= len(table.losses) // 10


@pytest.mark.slow
def test_a_wrong_predictor_cannot_stop_a_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ranks backwards; the share that it has no say in finds the front all the same."""
    predict = Predictor.predict

    def backwards(self: Predictor, genomes: Genomes) -> tuple[Floats, Floats]:
        means, stds = predict(self, genomes)
        return -means, stds

    monkeypatch.setattr(Predictor, "predict", backwards)
    space = make_space()
    table = Table(Problem(space, {"macs": chain_macs}), make_landscape("sum", 0, space).loss)
    shares = [table.search(Guided(exploration=share), 0, 800).shares[-1] for share in (0.0, 0.5)]
    assert shares[0] < shares[1]
    assert shares[1] > 0.98


def test_all_fronts_advance_in_one_run() -> None:
    space = make_space()
    costs = {"macs": chain_macs, "total": total}
    problem = Problem(space, costs, {"macs": 400e6})
    loss = make_landscape("sum", 1, space).loss
    tables = [Table(problem, loss, cost) for cost in costs]
    trials = tables[0].search(Guided(), 0, 200).trials
    assert min(table.share(trials) for table in tables) > 0.98


@pytest.fixture(scope="module")
def real() -> Table:
    """The shipped supernet: every one of its 1,024 subnets by its distance to the true emoji.

    Nothing is trained here, so that the landscape is the same on every machine.
    """
    net, _ = load_supernet(SHIPPED / "supernet")
    net.eval()
    options = DataOptions(root=EMOJI, mode="paired", load_size=64, crop_size=64)
    split, chosen = load_split(options, "search", 64), [0, 30, 60]
    assert split.targets is not None
    drawings, emoji = to_float(split.inputs.take(chosen)), to_float(split.targets.take(chosen))

    @torch.inference_mode()
    def distances(genomes: Genomes) -> Floats:
        outputs = (net(drawings, subnet) for subnet in net.space.subnets(genomes))
        return np.array([float((output - emoji).abs().mean()) for output in outputs])

    costs = {"macs": lambda genomes: net.costs.macs(genomes, 64).astype(np.float64)}
    return Table(Problem(net.space, costs), distances)


@pytest.mark.slow
def test_front_of_a_real_supernet_is_found_with_a_tenth_of_the_evaluations(real: Table) -> None:
    limit = len(real.losses) // 10
    needed = [real.search(Guided(), seed, limit, 0.99).needed() for seed in range(5)]
    assert max(needed) <= limit


def test_the_published_procedure_for_several_budgets_pays_for_a_subnet_once() -> None:
    space = make_space(4, 3)
    table = Table(Problem(space, {"macs": chain_macs}), make_landscape("sum", 0, space).loss)
    history = table.search_budgets(4, 0, len(table.losses))
    assert (
        len({trial.subnet for trial in history.trials}) == len(history.trials) == history.ends[-1]
    )
    assert history.proposed > len(history.trials)
    assert history.shares == sorted(history.shares)
    assert history.shares[-1] == pytest.approx(1)
