"""Requirement 11, ragged graphs: a layer's cost follows the number of atoms, not the largest molecule.

    python benchmarks/ragged_graphs.py [--data_dir DATA] [--output FILE]

The package's layers against dense ones of the same weights, as they are written where batches are padded: states
(B, n_max, H) and one product with the adjacency (B, n_max, n_max). Forward and backward of one layer over the same 256
molecules. The dense layers have it easier: what they need of the bonds is made before the clock starts, and the dense
GINE leaves out the bond embeddings (zero here in the ragged one too, which adds them all the same), since with them it
would need (B, n_max, n_max, H).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from common import arguments, bar, best_of, finish, load, skipped
from torch import nn

from class_hf import MoleculeGraphConfig, MoleculeGraphFeatureExtractor
from class_hf.models.modeling_graph import GCN, GINE, MoleculeGraph, multi_hot, segment_sum

WIDTH = 300
BATCH = 256
LARGE = 500  # atoms of the one large molecule
CONFIG = MoleculeGraphConfig(hidden_size=WIDTH)


class Padded(NamedTuple):
    """What the dense layers know of a batch."""

    adjacency: torch.Tensor  # (B, n, n) float, 1 where two atoms are bonded
    degrees: torch.Tensor  # (B, n) float
    bonds: torch.Tensor  # (B, n, C_b) float, sums of the multi-hot bonds of an atom over sqrt(degree + 1) beyond
    mask: torch.Tensor  # (B, n) bool, true where there is an atom


def dense_gcn(layer: GCN, states: torch.Tensor, batch: Padded) -> torch.Tensor:
    """(B, n, H) -> (B, n, H); see [`GCN`]."""
    scale = (batch.degrees + 1).rsqrt()[..., None]
    scaled = scale * states
    gathered = scaled + torch.bmm(batch.adjacency, scaled) + layer.bond_embedding(batch.bonds)
    return layer.linear(scale * gathered).relu()


def dense_gine(layer: GINE, states: torch.Tensor, batch: Padded) -> torch.Tensor:
    """(B, n, H) -> (B, n, H); see [`GINE`]."""
    return layer.mlp((1 + layer.eps) * states + torch.bmm(batch.adjacency, states.relu()))


def collate(blobs: Sequence[bytes]) -> tuple[MoleculeGraph, Padded]:
    """The same molecules side by side and padded."""
    inputs = MoleculeGraphFeatureExtractor().collate(blobs)
    counts, index = inputs["atom_counts"], inputs["bond_index"]
    bonds = multi_hot(inputs["bond_features"], CONFIG.bond_feature_sizes).float()
    molecule = torch.repeat_interleave(counts)
    graph = MoleculeGraph(index.flatten(), index.flip(0).flatten(), bonds.repeat(2, 1), molecule, counts)
    atoms, size, longest = len(molecule), len(counts), int(counts.max())
    place = torch.arange(atoms) - (counts.cumsum(0) - counts)[molecule]
    adjacency = torch.zeros(size, longest, longest)
    adjacency[molecule[graph.source], place[graph.target], place[graph.source]] = 1.0
    degrees, sums = torch.zeros(size, longest), torch.zeros(size, longest, bonds.shape[1])
    degree = segment_sum(torch.ones(len(graph.target)), graph.target, atoms)
    degrees[molecule, place] = degree
    scaled = graph.bonds * (degree + 1).rsqrt()[graph.source, None]
    sums[molecule, place] = segment_sum(scaled, graph.target, atoms)
    mask = torch.zeros(size, longest, dtype=torch.bool)
    mask[molecule, place] = True
    return graph, Padded(adjacency, degrees, sums, mask)


def ragged_step(layer: nn.Module, graph: MoleculeGraph) -> Callable[[], torch.Tensor]:
    """Forward and backward of one layer; its output (A, H)."""
    states = torch.randn(len(graph.molecule), WIDTH, generator=torch.Generator().manual_seed(0)).requires_grad_()
    return lambda: step(lambda: layer(states, graph), layer, states)


def dense_step(
    dense: Callable[..., torch.Tensor], layer: nn.Module, graph: MoleculeGraph, batch: Padded
) -> Callable[[], torch.Tensor]:
    """The same over the padded batch."""
    states = torch.zeros(*batch.mask.shape, WIDTH)
    states[batch.mask] = torch.randn(len(graph.molecule), WIDTH, generator=torch.Generator().manual_seed(0))
    states.requires_grad_()
    return lambda: step(lambda: dense(layer, states, batch) * batch.mask[..., None], layer, states)


def step(forward: Callable[[], torch.Tensor], layer: nn.Module, states: torch.Tensor) -> torch.Tensor:
    layer.zero_grad()
    states.grad = None
    output = forward()
    output.sum().backward()
    return output


def with_a_large_one(blobs: Sequence[bytes], counts: torch.Tensor) -> list[bytes]:
    """A molecule of `LARGE` atoms in place of as many atoms of the others."""
    spared = int(np.searchsorted(counts.cumsum(0).numpy(), LARGE)) + 1
    return [*blobs[spared:], MoleculeGraphFeatureExtractor().encode("C" * LARGE)]


def gradients(run: Callable[[], torch.Tensor], layer: nn.Module) -> torch.Tensor:
    """Of all weights, flat."""
    run()
    return torch.cat([weight.grad.flatten() for weight in layer.parameters() if weight.grad is not None])


def main() -> None:
    args = arguments(__doc__)
    smiles = load(args.data_dir)["pool"]["smiles"][:]
    chosen = np.random.default_rng(0).permutation(len(smiles))[:BATCH]
    blobs = [MoleculeGraphFeatureExtractor().encode(smiles[row]) for row in chosen]
    graph, padded = collate(blobs)
    half, _ = collate(blobs[: BATCH // 2])
    large, _ = collate(with_a_large_one(blobs, graph.atom_counts))
    atoms = {"ragged": len(graph.molecule), "half": len(half.molecule), "large": len(large.molecule)}
    results: list[dict[str, Any]] = []
    seconds: dict[str, dict[str, float]] = {}
    for name, kind, dense in (("GCN", GCN, dense_gcn), ("GINE", GINE, dense_gine)):
        torch.manual_seed(0)
        layer = kind(CONFIG)
        if kind is GINE:
            nn.init.zeros_(layer.bond_embedding.weight)
            layer.bond_embedding.weight.requires_grad_(False)
        steps = {
            "ragged": ragged_step(layer, graph),
            "half": ragged_step(layer, half),
            "large": ragged_step(layer, large),
        }
        # Before the dense layer, whose gigabytes leave the allocator in another state.
        timing = best_of(steps, repeats=20)
        steps["dense"] = dense_step(dense, layer, graph, padded)
        padded_too = best_of({side: steps[side] for side in ("ragged", "dense")}, repeats=5)
        outputs = (steps["ragged"]() - steps["dense"]()[padded.mask]).abs().max().item()
        ours, theirs = (gradients(steps[side], layer) for side in ("ragged", "dense"))
        off = max(outputs, ((ours - theirs).norm() / theirs.norm()).item())
        seconds[name] = {side: value.wall for side, value in (timing | padded_too).items()}
        an_atom = {side: timing[side].wall / atoms[side] for side in atoms}
        faster = f"11 ragged graphs: time, dense padded over ragged ({name})"
        measured = padded_too["dense"].wall / padded_too["ragged"].wall
        if args.data_dir is None:
            results.append(skipped(faster, ">= 3", "the demo's molecules are smaller than ChEBI's", measured))
        else:
            results.append(bar(faster, ">=", 3.0, measured))
        results += [
            bar(f"11 ragged graphs: outputs and gradients, dense against ragged ({name})", "<=", 1e-4, off),
            bar(
                f"11 ragged graphs: time an atom, one of {LARGE} atoms in the batch over none ({name})",
                "<=",
                1.25,
                an_atom["large"] / an_atom["ragged"],
            ),
            bar(
                f"11 ragged graphs: time an atom, {BATCH} molecules over {BATCH // 2} ({name})",
                "<=",
                1.25,
                an_atom["ragged"] / an_atom["half"],
            ),
        ]
    finish(
        results,
        args.output,
        width=WIDTH,
        molecules=BATCH,
        atoms=atoms,
        largest={"ragged": int(graph.atom_counts.max()), "large": int(large.atom_counts.max())},
        seconds=seconds,
    )


if __name__ == "__main__":
    main()
