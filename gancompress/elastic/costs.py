"""What subnets cost, in closed form: exact integers for many subnets at once, nothing is run."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from gancompress.elastic.branches import ALWAYS, is_kept
from gancompress.elastic.dimensions import FULL
from gancompress.elastic.graph import Example
from gancompress.elastic.parts import Parts
from gancompress.elastic.space import Genomes, SearchSpace, Structure
from gancompress.elastic.trace import trace
from gancompress.elastic.traced import Traced
from gancompress.errors import SpaceError

Size = int | tuple[int, int]
"""Side of a square image in pixels, or (height, width)."""

CHUNK = 8192  # rows worked on at a time: a column of them stays in the first-level cache
LARGEST = np.iinfo(np.int64).max
WHOLE = Structure()
Terms = dict[tuple[int, ...], int]
"""A polynomial: positions of the multiplied genes in ascending order -> coefficient."""


@dataclass(frozen=True)
class Polynomial:
    """A polynomial in the genes with natural coefficients, nested so that few steps are needed.

    Attributes:
        constant: Its value without genes.
        factors: Pairs (gene, what it is multiplied by); their products are added.
    """

    constant: int
    factors: tuple[tuple[int, Polynomial], ...] = ()

    @classmethod
    def of(cls, terms: Mapping[tuple[int, ...], int]) -> Polynomial:
        """From coefficients by monomial."""
        inner: dict[int, Terms] = {}
        for genes, coefficient in terms.items():
            if genes:
                inner.setdefault(genes[0], {})[genes[1:]] = coefficient
        return cls(terms.get((), 0), tuple((gene, cls.of(rest)) for gene, rest in inner.items()))

    def __call__(self, genes: Sequence[Any]) -> Any:
        """Its value, for the genes of one subnet (ints) or of many (one int64 array per gene)."""
        total: Any = self.constant
        for gene, inner in self.factors:
            total = total + genes[gene] * inner(genes)
        return total


class CostModel:
    """Parameters, multiply-accumulates and file size of subnets, as polynomials in their widths.

    Every tensor's size and every layer's multiply-accumulates are products of channel numbers,
    and these are sums of genes times their unit. Fixed channels, segments of a concatenation,
    batch norms and tied groups are parts of the same sums.

        model = CostModel(generator, traced, space)
        genomes = space.sample_genomes(100_000, np.random.default_rng(0))
        small = genomes[model.macs(genomes, 256) <= 2_600_000_000]

    A genome is one row of values (see `Dimension`), as in `Subnet.values`; `genomes` is
    int64 of shape (K, D) for K subnets of a space with D dimensions, every result int64 of (K,).

    Args:
        generator: The generator at its full width; only the shapes of its tensors are kept.
        traced: What its walk found.
        space: Which groups are elastic; all others keep their full width.
    """

    def __init__(self, generator: nn.Module, traced: Traced, space: SearchSpace) -> None:
        self.traced = traced
        self.space = space
        self._parameters = [(n, t.shape) for n, t in generator.named_parameters()]
        self._state = [
            (n, t.shape, 4 if t.is_floating_point() else t.element_size())
            for n, t in _state(generator)
        ]
        self._kernels = {f"{name}.weight": gene for name, gene in space.kernel_genes.items()}
        self._polynomials: dict[Hashable, Polynomial] = {}

    def params(self, genomes: Genomes) -> Genomes:
        """Number of parameters (without buffers).

        Raises:
            SpaceError: A genome does not belong to the space.
        """
        return self._evaluate(self.parameter_polynomial, genomes)

    def macs(self, genomes: Genomes, size: Size, paper: bool = False) -> Genomes:
        """Multiply-accumulates of convolutions and linear layers for one image.

        Args:
            genomes: (K, D).
            size: Of the image.
            paper: Count transposed convolutions at their output positions, as the papers do.

        Raises:
            SpaceError: A genome does not belong to the space, or a cost exceeds 64 bits.
            TraceError: The generator does not accept this size.
        """
        return self._evaluate(partial(self.mac_polynomial, size, paper), genomes)

    def weight_bytes(self, genomes: Genomes) -> Genomes:
        """Bytes of all tensors of the state in a safetensors file, without the file's header.

        Floating tensors count four bytes an element. The header (names, shapes and our metadata)
        adds about a hundred bytes a tensor.
        """
        return self._evaluate(self.byte_polynomial, genomes)

    def mac_polynomial(
        self, size: Size, paper: bool = False, structure: Structure = WHOLE
    ) -> Polynomial:
        """See `macs`; of subnets of this structure."""
        sides = (size, size) if isinstance(size, int) else size
        height, width = (side * structure.resolution // FULL for side in sides)
        dropped = structure.dropped

        def count() -> Terms:
            traced, total = self.traced.reduced(dropped), dict[tuple[int, ...], int]()
            shapes = traced.shapes(height, width)
            for op, ins, outs in traced.operations:
                weights, positions = self._channels(outs), op.positions(shapes, paper)
                if op.kind == "matmul":
                    positions //= ins.full * outs.full
                if not op.kind.endswith("depthwise"):
                    weights = _multiply(weights, self._channels(ins))
                gene = self._kernels.get(op.weight or "")
                kernel: Terms = {(): op.kernel} if gene is None else {(gene, gene): 1}
                _add(total, _multiply(weights, kernel), positions)
            return total

        return self._once(("macs", height, width, paper, dropped), count)

    def parameter_polynomial(self, structure: Structure = WHOLE) -> Polynomial:
        """See `params`; of subnets of this structure."""
        dropped = structure.dropped

        def count() -> Terms:
            total: Terms = {}
            for name, shape in self._parameters:
                _add(total, self._elements(name, shape, dropped))
            return total

        return self._once(("params", dropped), count)

    def byte_polynomial(self, structure: Structure = WHOLE) -> Polynomial:
        """See `weight_bytes`; of subnets of this structure."""
        dropped = structure.dropped

        def count() -> Terms:
            total: Terms = {}
            for name, shape, width in self._state:
                _add(total, self._elements(name, shape, dropped), width)
            return total

        return self._once(("bytes", dropped), count)

    def _once(self, key: Hashable, count: Callable[[], Terms]) -> Polynomial:
        if key not in self._polynomials:
            self._polynomials[key] = Polynomial.of(count())
        return self._polynomials[key]

    def _evaluate(self, polynomial: Callable[..., Polynomial], genomes: Genomes) -> Genomes:
        """The value for each row, by the polynomial of its structure."""
        self.space.check_genomes(genomes)
        most = polynomial()([dimension.full for dimension in self.space.dimensions])
        if most > LARGEST:  # coefficients are natural numbers: no subnet costs more
            raise SpaceError(f"a cost of up to {most:.3g} exceeds 64 bits: take a smaller image")
        result = np.empty(len(genomes), np.int64)
        for structure, rows in self.space.structures(genomes):
            own, cost = genomes[rows], polynomial(structure)
            values = np.empty(len(own), np.int64)
            for start in range(0, len(own), CHUNK):
                chunk = slice(start, start + CHUNK)
                values[chunk] = cost(list(np.ascontiguousarray(own[chunk].T)))
            result[rows] = values
        return result

    def _channels(self, parts: Parts) -> Terms:
        constant, factors = self.space.channel_terms(parts)
        terms: Terms = {(): constant} if constant else {}
        return terms | {(gene,): factor for gene, factor in factors.items()}

    def _elements(self, name: str, shape: torch.Size, dropped: frozenset[str]) -> Terms:
        if not is_kept(self.traced.needs.tensors.get(name, ALWAYS), dropped):
            return {}
        dims = self.traced.reduced(dropped).parameters.get(name) or (None,) * len(shape)
        terms: Terms = {(): 1}
        gene = self._kernels.get(name)
        for dim, (parts, length) in enumerate(zip(dims, shape, strict=True)):
            own = self._channels(parts or Parts((length,)))
            if dim >= 2 and gene is not None:
                own = {(gene,): 1}
            terms = _multiply(terms, own)
        return terms


class NetworkCosts:
    """Costs of one network, as plain integers of any size.

    Args:
        module: The network.
        example: The shape (N, C, H, W) of an input that it accepts, or that of each by name.

    Raises:
        TraceError: Its channels cannot be followed.
    """

    def __init__(self, module: nn.Module, example: Example) -> None:
        self.model = CostModel(module, trace(module, example), SearchSpace(()))

    @property
    def params(self) -> int:
        """Number of parameters (without buffers)."""
        return int(self.model.parameter_polynomial()(()))

    @property
    def weight_bytes(self) -> int:
        """See `CostModel.weight_bytes`."""
        return int(self.model.byte_polynomial()(()))

    def macs(self, size: Size, paper: bool = False) -> int:
        """Multiply-accumulates for one image; see `CostModel.macs`."""
        return int(self.model.mac_polynomial(size, paper)(()))


def _state(generator: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """All tensors that a file holds, under the first name where several names share one."""
    first: dict[int, str] = {}
    for name, tensor in generator.state_dict(keep_vars=True).items():
        if isinstance(tensor, torch.Tensor):
            yield first.setdefault(id(tensor), name), tensor


def _multiply(one: Terms, other: Terms) -> Terms:
    product: Terms = {}
    for left, a in one.items():
        for right, b in other.items():
            _add(product, {tuple(sorted(left + right)): a * b})
    return product


def _add(total: Terms, terms: Terms, scale: int = 1) -> None:
    for genes, coefficient in terms.items():
        total[genes] = total.get(genes, 0) + scale * coefficient
