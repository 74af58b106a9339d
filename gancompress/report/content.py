"""What a report holds."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

MACS = "MACs"  # the cost that every trial has


@dataclass(frozen=True)
class Row:
    """The teacher or one chosen subnet.

    Attributes:
        label: Its name in table, plot and image grid: "teacher", "subnet S".
        config: Its config string, or "-".
        params: Number of parameters.
        macs: Multiply-accumulates for one image.
        macs_paper: The same as the papers count them.
        scores: Metric name to value; may be empty.
        latency_ms: Milliseconds for one image, if measured.
        size_mb: Megabytes of the exported file, if there is one.
    """

    label: str
    config: str
    params: int
    macs: int
    macs_paper: int
    scores: dict[str, float]
    latency_ms: float | None
    size_mb: float | None


@dataclass(frozen=True)
class ScoredSubnet:
    """One evaluated subnet. A report knows it by its config: no two trials share one.

    Attributes:
        config: Its config string.
        macs: Multiply-accumulates for one image.
        score: The report's metric.
        costs: Further costs by a name that ends the sentence "it takes 12.3 ...", the unit first:
            "ms on phone", "MB", "params".
        complete: False where its evaluation was given up early: its score is an estimate.
    """

    config: str
    macs: int
    score: float
    costs: dict[str, float] = field(default_factory=dict, hash=False)
    complete: bool = True

    def cost(self, name: str) -> float | None:
        """A cost by its name, `MACS` or one of `costs`; None if nobody knows it."""
        return self.macs if name == MACS else self.costs.get(name)


@dataclass(frozen=True)
class Front:
    """The Pareto set of score and one cost.

    Attributes:
        cost: `MACS` or a name in the `costs` of the trials.
        trials: The members, by ascending cost.
    """

    cost: str
    trials: list[ScoredSubnet]


@dataclass(frozen=True)
class ImageRow:
    """One input and what was made of it.

    Attributes:
        name: Name of the input.
        images: Column label to (3, H, W) uint8, in the order of the columns. A label that is
            also a `Row.label` gets that row's MACs in its head.
    """

    name: str
    images: dict[str, Tensor]


@dataclass(frozen=True)
class Table:
    """Any other table of the page; all cells are text.

    Attributes:
        title: Head of its section.
        heads: One for each column; the first column names the rows.
        rows: As many cells each as there are heads.
        caption: What the numbers mean.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]
    caption: str = ""


@dataclass(frozen=True)
class Report:
    """What the page shows; an empty list leaves its section out.

    Attributes:
        title: Head of the page.
        facts: What was measured, on what, and how: label to text.
        metric: Name of the score that the search optimises.
        lower_is_better: Whether the search minimises it.
        rows: Teacher first; ratios are against the first row.
        trials: Every evaluated subnet.
        front: The Pareto set of score and MACs, by ascending MACs.
        images: Rows of the image grid.
        files: Label to path, relative to the page.
        tables: Shown between the numbers and the images.
        fronts: Against other costs, one for each device: the same trials in a plot of its own.
        previews: What single trials make of some inputs: config to label to (3, H, W) uint8. The
            dot of such a trial is a link that shows its costs and these images. Pixels that
            several trials share, such as an input's, are embedded once.
    """

    title: str
    facts: dict[str, str]
    metric: str
    lower_is_better: bool
    rows: list[Row]
    trials: list[ScoredSubnet]
    front: list[ScoredSubnet]
    images: list[ImageRow]
    files: dict[str, str]
    tables: list[Table] = field(default_factory=list)
    fronts: list[Front] = field(default_factory=list)
    previews: dict[str, dict[str, Tensor]] = field(default_factory=dict)

    @property
    def direction(self) -> str:
        """In words, which scores are good."""
        return "lower is better" if self.lower_is_better else "higher is better"

    def all_fronts(self) -> list[Front]:
        """The front against MACs, then those against other costs."""
        return [Front(MACS, self.front), *self.fronts]

    def all_trials(self) -> dict[str, ScoredSubnet]:
        """Every trial by its config, those of a front first; a front's word counts."""
        members = (trial for front in self.all_fronts() for trial in front.trials)
        found: dict[str, ScoredSubnet] = {}
        for trial in (*members, *self.trials):
            found.setdefault(trial.config, trial)
        return found
