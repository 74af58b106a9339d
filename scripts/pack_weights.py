#!/usr/bin/env python3
"""Copy the weights of a finished run into a folder to ship, in half precision.

python scripts/pack_weights.py runs/edges2emoji/teacher pretrained/edges2emoji/teacher
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gancompress.checkpoint.files import load_tensors, save_tensors

NAMES = ("weights", "discriminator", "adapters")


def main() -> None:
    """Pack every known file of the run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    for name in NAMES:
        source, target = (folder / f"{name}.safetensors" for folder in (args.run, args.output))
        if not source.exists():
            continue
        tensors, header = load_tensors(source)
        halves = {
            key: tensor.half() if tensor.is_floating_point() else tensor
            for key, tensor in tensors.items()
        }
        save_tensors(target, halves, header)
        print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
