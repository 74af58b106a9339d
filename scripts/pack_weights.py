#!/usr/bin/env python3
"""Copy a finished run into a folder to ship: a run folder as well, with half-precision weights.

python scripts/pack_weights.py runs/draw2emoji/teacher pretrained/draw2emoji/teacher
"""

from __future__ import annotations

import argparse
from pathlib import Path

from gancompress.checkpoint.files import load_tensors, save_tensors, write_atomic
from gancompress.checkpoint.run import RunFolder


def main() -> None:
    """Pack options, lists of images, scores and every file of weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("output", type=Path)
    args = parser.parse_args()
    run, packed = RunFolder(args.run), RunFolder(args.output)
    if not run.is_done:
        parser.error(f"{args.run} holds no finished run")
    for source in sorted(args.run.glob("*.safetensors")):
        tensors, header = load_tensors(source)
        halves = {
            key: tensor.half() if tensor.is_floating_point() else tensor
            for key, tensor in tensors.items()
        }
        target = args.output / source.name
        save_tensors(target, halves, header)
        print(f"{target}: {target.stat().st_size / 1e6:.2f} MB")
    for source, target in ((run.config, packed.config), (run.splits, packed.splits)):
        write_atomic(target, source.read_bytes())
    packed.finish(run.summary())  # last, as it says that all is there


if __name__ == "__main__":
    main()
