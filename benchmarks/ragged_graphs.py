"""Requirement 11, ragged graphs: the cost of a layer follows the number of atoms, not the largest molecule.

    python benchmarks/ragged_graphs.py [--data_dir DATA] [--output FILE]

The layers of the package are compared with dense layers of the same weights, as they are written for padded batches:
states (B, n_max, H) and one product with the adjacency (B, n_max, n_max). The step is forward and backward of one
layer over the same 256 molecules. Two choices favour the dense layers. Their bond features are computed before the
clock starts. The dense GINE has no bond embeddings, which would need (B, n_max, n_max, H); the ragged one adds zeros.
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
LARGE = 500  # atoms of the large molecule
CONFIG = MoleculeGraphConfig(hidden_size=WIDTH)


class Padded(NamedTuple):
    """A padded batch for the dense layers."""

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
    """The same molecules as a ragged and as a padded batch."""
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
    """Forward and backward of one layer over the padded batch."""
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


def with_large_molecule(blobs: Sequence[bytes], counts: torch.Tensor) -> list[bytes]:
    """Replaces molecules with about `LARGE` atoms in total by one molecule of `LARGE` atoms."""
    removed = int(np.searchsorted(counts.cumsum(0).numpy(), LARGE)) + 1
    return [*blobs[removed:], MoleculeGraphFeatureExtractor().encode("C" * LARGE)]


def gradients(run: Callable[[], torch.Tensor], layer: nn.Module) -> torch.Tensor:
    """The gradients of all weights as one vector."""
    run()
    return torch.cat([weight.grad.flatten() for weight in layer.parameters() if weight.grad is not None])


def main() -> None:
    args = arguments(__doc__)
    smiles = load(args.data_dir)["pool"]["smiles"][:]
    chosen = np.random.default_rng(0).permutation(len(smiles))[:BATCH]
    blobs = [MoleculeGraphFeatureExtractor().encode(smiles[row]) for row in chosen]
    graph, padded = collate(blobs)
    half, _ = collate(blobs[: BATCH // 2])
    large, _ = collate(with_large_molecule(blobs, graph.atom_counts))
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
        # Timed before the dense layer, which allocates gigabytes and changes the state of the allocator.
        timing = best_of(steps, repeats=20)
        steps["dense"] = dense_step(dense, layer, graph, padded)
        padded_timing = best_of({side: steps[side] for side in ("ragged", "dense")}, repeats=5)
        outputs = (steps["ragged"]() - steps["dense"]()[padded.mask]).abs().max().item()
        ours, theirs = (gradients(steps[side], layer) for side in ("ragged", "dense"))
        difference = max(outputs, ((ours - theirs).norm() / theirs.norm()).item())
        seconds[name] = {side: value.wall for side, value in (timing | padded_timing).items()}
        per_atom = {side: timing[side].wall / atoms[side] for side in atoms}
        faster = f"11 ragged graphs: time, dense padded over ragged ({name})"
        measured = padded_timing["dense"].wall / padded_timing["ragged"].wall
        if args.data_dir is None:
            results.append(
                skipped(faster, ">= 3", "the molecules of the demo are smaller than those of ChEBI", measured)
            )
        else:
            results.append(bar(faster, ">=", 3.0, measured))
        results += [
            bar(f"11 ragged graphs: outputs and gradients, dense against ragged ({name})", "<=", 1e-4, difference),
            bar(
                f"11 ragged graphs: time an atom, one of {LARGE} atoms in the batch over none ({name})",
                "<=",
                1.25,
                per_atom["large"] / per_atom["ragged"],
            ),
            bar(
                f"11 ragged graphs: time an atom, {BATCH} molecules over {BATCH // 2} ({name})",
                "<=",
                1.25,
                per_atom["ragged"] / per_atom["half"],
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
