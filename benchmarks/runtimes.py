#!/usr/bin/env python3
"""Milliseconds for one image: teacher and compressed generators, in eager PyTorch and exported.

    python benchmarks/runtimes.py GENERATOR IMAGES [--threads 1] [--rounds 8] [--size 256]

GENERATOR is the published compressed horse2zebra generator, IMAGES a folder of its real inputs,
which int8 is calibrated on. The teacher is the published one's architecture (resnet_9blocks, ngf
64) with random weights, and so are two generators of about GENERATOR's MACs: with the same width
in all blocks of its own family, and dense.

Every candidate sits in a process of its own and they take turns, every other round in the
opposite order: the threads of PyTorch, ONNX Runtime and OpenVINO go on spinning for a while after
each call, so nothing is timed in the first quarter of a second of a turn.

Rewrites that are not tried by default are timed too: transposed convolutions as 2x2 convolutions
and DepthToSpace, and instance norms out of arithmetic, as browsers get them; both are exact.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from gancompress.checkpoint.network import Network, build_network, load_network, save_network
from gancompress.cost import Timings, format_count
from gancompress.data import list_images, read_image, to_tensor
from gancompress.elastic import NetworkCosts
from gancompress.export.onnx import onnx_model
from gancompress.export.openvino import export_openvino
from gancompress.export.quantise import quantise
from gancompress.export.rewrites import Rewrite, merge_last_convolution, pool_norms
from gancompress.runtimes import OnnxGenerator, OpenVinoGenerator
from gancompress.runtimes.openvino import open_core

CALLS = 2  # timed in a turn; their median counts
WAIT = 0.25  # seconds until other processes' threads sleep
RUNTIMES: dict[str, Callable[[Path, int], Callable[[Tensor], Tensor]]] = {
    "eager": lambda path, threads: load_network(path).module,
    "onnx": OnnxGenerator,
    "openvino": OpenVinoGenerator,
    "openvino-bf16": partial(OpenVinoGenerator, precision="bfloat16"),
}


@dataclass
class Candidate:
    """What is timed.

    Attributes:
        name: For people.
        runtime: Entry of `RUNTIMES`.
        path: Its file.
        macs: Of the network, whatever its file computes besides.
    """

    name: str
    runtime: str
    path: Path
    macs: int


# -- one process ------------------------------------------------------------------------------


def serve(runtime: str, file: Path, threads: int, size: int) -> None:
    """Time the file once for every line on standard input."""
    torch.set_num_threads(threads)
    x = 2 * torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0)) - 1
    with torch.inference_mode():
        run = RUNTIMES[runtime](file, threads)
        run(x)
        print("ready", flush=True)
        for _ in sys.stdin:
            start = time.perf_counter()
            while time.perf_counter() - start < WAIT:
                run(x)
            times = []
            for _ in range(CALLS):
                start = time.perf_counter()
                run(x)
                times.append(1e3 * (time.perf_counter() - start))
            print(statistics.median(times), flush=True)


def measure(candidates: list[Candidate], threads: int, rounds: int, size: int) -> Timings:
    """Milliseconds of every candidate in every round."""
    processes = []
    for candidate in candidates:
        own = ["--serve", candidate.runtime, "--threads", str(threads), "--size", str(size)]
        command = [sys.executable, __file__, str(candidate.path), *own]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        processes.append(process)
    for candidate, process in zip(candidates, processes, strict=True):
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n", candidate.name
    times: dict[str, list[float]] = {candidate.name: [] for candidate in candidates}
    pairs = list(zip(candidates, processes, strict=True))
    for number in range(rounds):
        for candidate, process in pairs if number % 2 == 0 else reversed(pairs):
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            times[candidate.name].append(float(process.stdout.readline()))
    for process in processes:
        process.communicate()
    return Timings({name: tuple(values) for name, values in times.items()})


# -- rewrites that are not shipped --------------------------------------------------------------


def shuffled_up_sampling(model: onnx.ModelProto) -> onnx.ModelProto:
    """3x3 transposed convolutions of stride 2 as 2x2 convolutions and DepthToSpace."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    stored = {tensor.name: tensor for tensor in made.graph.initializer}
    for index, node in reversed(list(enumerate(made.graph.node))):
        if node.op_type != "ConvTranspose":
            continue
        weight, *bias = (numpy_helper.to_array(stored[name]) for name in node.input[1:])
        into, out = weight.shape[:2]
        kernels = np.zeros((out, 2, 2, into, 2, 2), np.float32)
        # output pixel 2m has tap 1 of input m; 2m + 1 has tap 2 of m and tap 0 of m + 1
        taps = {0: {0: 1}, 1: {0: 2, 1: 0}}
        for a, rows in taps.items():
            for b, columns in taps.items():
                for p, k in rows.items():
                    for q, l in columns.items():  # noqa: E741
                        kernels[:, a, b, :, p, q] = weight[:, :, k, l].T
        names = [f"{node.input[1]}.up", f"{node.input[1]}.up_bias"][: 1 + len(bias)]
        values = [kernels.reshape(4 * out, into, 2, 2), *(np.repeat(each, 4) for each in bias)]
        for name, array in zip(names, values, strict=True):
            made.graph.initializer.append(numpy_helper.from_array(array, name))
        blocks = f"{node.output[0]}.blocks"
        inputs = [node.input[0], *names]
        conv = helper.make_node("Conv", inputs, [blocks], pads=[0, 0, 1, 1])
        shuffle = helper.make_node(
            "DepthToSpace", [blocks], [node.output[0]], blocksize=2, mode="CRD"
        )
        made.graph.node.remove(node)
        made.graph.node.insert(index, shuffle)
        made.graph.node.insert(index, conv)
    return made


# -- candidates ---------------------------------------------------------------------------------


def make_candidates(args: argparse.Namespace, folder: Path) -> list[Candidate]:
    """All files, the eager teacher first."""
    published = load_network(args.generator)
    made: list[Candidate] = []

    def add(name: str, runtime: str, network: Network, model: onnx.ModelProto | None) -> None:
        path = folder / f"{len(made)}.{'xml' if runtime.startswith('openvino') else 'file'}"
        if model is None:
            save_network(path.with_suffix(".safetensors"), network.module, network.description)
            path = path.with_suffix(".safetensors")
        elif runtime.startswith("openvino"):
            export_openvino(path, model, False)
        else:
            path.write_bytes(model.SerializeToString())
        made.append(Candidate(name, runtime, path, macs(network, args.size)))

    def graph(network: Network) -> onnx.ModelProto:
        return onnx_model(network.module, network.example_shape, network.stride, {})

    def rewritten(model: onnx.ModelProto, change: Rewrite) -> onnx.ModelProto:
        changed = change(model, 4)
        assert changed is not None
        return changed

    def merged(model: onnx.ModelProto) -> onnx.ModelProto:
        return rewritten(model, merge_last_convolution)

    teacher = untrained("resnet_9blocks", 64)
    add("teacher, eager", "eager", teacher, None)
    add("teacher, ONNX Runtime", "onnx", teacher, graph(teacher))
    plain = graph(published)
    files = list_images(args.images)[:16]
    int8 = quantise(plain, [to_tensor(read_image(file)) for file in files])
    add("published, eager", "eager", published, None)
    add("published, ONNX Runtime, no rewrite", "onnx", published, plain)
    add("published, ONNX Runtime", "onnx", published, merged(plain))
    shuffled, pooled = shuffled_up_sampling(plain), rewritten(plain, pool_norms)
    add("published, ONNX Runtime, shuffled up-sampling", "onnx", published, merged(shuffled))
    add("published, ONNX Runtime, norms as pooling", "onnx", published, merged(pooled))
    add("published, ONNX Runtime int8", "onnx", published, merged(int8))
    add("published, OpenVINO, no rewrite", "openvino", published, plain)
    add("published, OpenVINO", "openvino", published, merged(plain))
    add("published, OpenVINO int8", "openvino", published, merged(int8))
    if "BF16" in open_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        add("published, OpenVINO bfloat16", "openvino-bf16", published, merged(plain))
    for name, ngf in (("mobile_resnet_9blocks", 24), ("resnet_9blocks", 12)):
        uniform = untrained(name, ngf)
        own = merged(graph(uniform))
        add(f"{name} ngf {ngf}, ONNX Runtime", "onnx", uniform, own)
        add(f"{name} ngf {ngf}, OpenVINO", "openvino", uniform, own)
    check(published, [c for c in made if c.name.startswith("published")], args)
    return made


def untrained(name: str, ngf: int) -> Network:
    """A generator whose time is asked, not its images."""
    return build_network(
        {
            "generator": {
                "name": name,
                "input_nc": 3,
                "output_nc": 3,
                "ngf": ngf,
                "norm": "instance",
            }
        },
        name,
    )


def macs(network: Network, size: int) -> int:
    """True multiply-accumulates of one image."""
    return NetworkCosts(network.module, network.example_shape).macs(size)


@torch.inference_mode()
def check(network: Network, candidates: list[Candidate], args: argparse.Namespace) -> None:
    """Print how far each file is from eager on a real image."""
    x = to_tensor(read_image(list_images(args.images)[-1]))[None].float() / 127.5 - 1
    wanted = network.module(x)
    for candidate in candidates:
        error = RUNTIMES[candidate.runtime](candidate.path, args.threads)(x) - wanted
        rms = float(error.square().mean().sqrt())
        psnr = f", PSNR {20 * np.log10(2 / rms):.1f} dB" if rms else ""
        print(f"{candidate.name}: differs by at most {float(error.abs().max()):.2g}{psnr}")


def main() -> None:
    """Print one line for each candidate."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("generator", type=Path)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--serve", choices=RUNTIMES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.serve, args.generator, args.threads, args.size)
        return
    with tempfile.TemporaryDirectory() as folder:
        candidates = make_candidates(args, Path(folder))
        timings = measure(candidates, args.threads, args.rounds, args.size)
    first = candidates[0]
    rows: dict[str, Any] = {}
    for candidate in candidates:
        latency, ratio = (
            timings.latency(candidate.name),
            timings.compare(candidate.name, first.name),
        )
        rows[candidate.name] = [latency.median_ms, latency.spread_ms, ratio.speed_up]
        print(
            f"{candidate.name:45} {latency.median_ms:7.1f} ms (spread {latency.spread_ms:5.1f})  "
            f"{ratio.speed_up:5.1f}x [{ratio.low:.1f}, {ratio.high:.1f}]  "
            f"{format_count(candidate.macs)} MACs, {first.macs / candidate.macs:.1f}x fewer"
        )
    print(json.dumps({"threads": args.threads, "size": args.size, "rows": rows}))


if __name__ == "__main__":
    main()
