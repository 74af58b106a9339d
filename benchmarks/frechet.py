"""How long a Frechet distance takes, by inner products and by the usual matrix square root.

    python benchmarks/frechet.py --width 2048 --real 1334 --images 120 500

Needs clean-fid (in the extra `test`). Features are random, with a spectrum that falls as 1/i.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from gancompress.metrics.distances import frechet_distance, frechet_estimate, kernel_estimate

warnings.filterwarnings("ignore")


def features(count: int, width: int, seed: int) -> Tensor:
    """Gaussian features whose variances fall as 1/i, (count, width) float64."""
    rng = torch.Generator().manual_seed(seed)
    scales = torch.arange(1, width + 1, dtype=torch.float64) ** -0.5
    return torch.randn(count, width, generator=rng, dtype=torch.float64) * scales


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Median over some calls after one that is not counted."""
    call()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print one row for each number of images."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--width", type=int, default=2048, help="features of one image")
    parser.add_argument("--real", type=int, default=1334, help="real images")
    parser.add_argument("--images", type=int, nargs="+", default=[120, 500, 1000])
    args = parser.parse_args()
    from cleanfid.fid import frechet_distance as usual

    real = features(args.real, args.width, 1)
    mean, covariance = real.mean(0).numpy(), np.cov(real.numpy(), rowvar=False)
    print("images  ours ms  usual ms   ratio  relative difference  FID interval s  KID interval s")
    for count in args.images:
        ours = features(count, args.width, 2)
        fast = seconds(lambda x=ours: frechet_distance(x, real), 5)
        start = time.perf_counter()
        moments = ours.mean(0).numpy(), np.cov(ours.numpy(), rowvar=False)
        expected = usual(*moments, mean, covariance)
        slow = time.perf_counter() - start
        difference = abs(frechet_distance(ours, real) - expected) / expected
        fid = seconds(lambda x=ours: frechet_estimate(x, real), 1)
        kid = seconds(lambda x=ours: kernel_estimate(x, real), 1)
        print(
            f"{count:6d} {1e3 * fast:8.1f} {1e3 * slow:9.0f} {slow / fast:7.0f} "
            f"{difference:20.1e} {fid:15.2f} {kid:15.2f}"
        )


if __name__ == "__main__":
    main()
