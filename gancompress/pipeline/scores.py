"""The table of an evaluation's scores, with intervals and what they rest on."""

from __future__ import annotations

import math

from gancompress.evaluation import Score
from gancompress.metrics.distances import MIN_FOR_FID
from gancompress.metrics.segmentation import Judge
from gancompress.report import Table

SUBJECTS = {
    "output": "output",
    "teacher": "teacher",
    "input": "input, untranslated",
    "truth": "real photo",
}


def scores_table(scores: dict[str, dict[str, Score]], judge: Judge | None = None) -> Table:
    """Scores with intervals, a row for each score and a column for each subject.

    Args:
        scores: By subject and name.
        judge: Whose accuracy on real photos stands below.
    """
    names = list(dict.fromkeys(name for found in scores.values() for name in found))
    rows = []
    for name in names:
        known = {subject: found[name] for subject, found in scores.items() if name in found}
        one = next(iter(known.values()))
        label = name if one.scale == 1 else f"{name} x{one.scale:g}"
        cells = [_cell(known[subject]) if subject in known else "-" for subject in scores]
        better = "lower" if one.lower_is_better else "higher"
        rows.append([label, *cells, better, str(one.num_images), one.against])
    heads = ["score", *(SUBJECTS[subject] for subject in scores), "better", "images", "against"]
    caption = (
        "In brackets: 95 % bootstrap interval over images. Below "
        f"{MIN_FOR_FID:,} images KID decides and FID is only reported: its bias depends on the "
        "generator."
    )
    if judge is not None:
        caption += f" {_judge_text(judge)}"
    return Table("Scores", heads, rows, caption)


def _judge_text(judge: Judge) -> str:
    if judge.name == "drn_d_105":
        return (
            f"The judge {judge.name} was published for photos of 2048x1024: at this size it is "
            "not the published full-resolution protocol."
        )
    real = judge.real
    if judge.accuracy_on_real is None or judge.miou_on_real is None:
        return f"How well the judge {judge.name} reads real photos was not measured."
    return (
        f"The judge {judge.name} reads real photos with {judge.accuracy_on_real:.1f} % of pixels "
        f"right and mIoU {judge.miou_on_real:.1f} ({real.get('num_images')} photos of its "
        f"{real.get('split')} split)."
    )


def _cell(score: Score) -> str:
    value, low, high = (
        score.scale * number
        for number in (score.estimate.value, score.estimate.low, score.estimate.high)
    )
    known = not math.isnan(low)
    size = max(abs(value), abs(low), abs(high)) if known else abs(value)
    decimals = 1 if size >= 100 else 2 if size >= 10 else 4
    text = f"{value:.{decimals}f}"
    if known:
        text += f" [{low:.{decimals}f}, {high:.{decimals}f}]"
    return text if score.decides else f"({text})"
