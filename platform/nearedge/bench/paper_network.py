"""What the network of the compared paper costs.

Kwon et al. (2024) denoise with a message-passing network that is not equivariant: 5 layers, width 200,
neighbours within 3 Å as a list of edges, 164 evaluations a structure. This is a stand-in of the same form and
size with random weights, written here: only its time means anything.
"""

import torch
from torch import Tensor, nn

from nearedge_services.networks.graph import Batch, find_neighbours

LAYERS = 5
WIDTH = 200
CUTOFF_A = 3.0
EVALUATIONS = 164
"""64 steps, then 4 restarts of 25."""


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, WIDTH), nn.SiLU(), nn.Linear(WIDTH, outputs))


class Layer(nn.Module):
    """Edges look at their two atoms, atoms at the sum of their edges."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = _perceptron(3 * WIDTH, WIDTH)
        self.node = _perceptron(2 * WIDTH, WIDTH)
        self.edge_norm = nn.LayerNorm(WIDTH)
        self.node_norm = nn.LayerNorm(WIDTH)

    def forward(self, nodes: Tensor, edges: Tensor, i: Tensor, j: Tensor) -> tuple[Tensor, Tensor]:
        """Nodes (N, WIDTH) and edges (E, WIDTH) between atoms i and j (E,), each updated."""
        edges = edges + self.edge_norm(self.edge(torch.cat([nodes[i], nodes[j], edges], dim=-1)))
        sums = torch.zeros_like(nodes).index_add(0, i, edges)
        return nodes + self.node_norm(self.node(torch.cat([nodes, sums], dim=-1))), edges


class PaperNetwork(nn.Module):
    """Positions to one vector per atom; random weights from a seed."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.atoms = _perceptron(1, WIDTH)
            self.pairs = _perceptron(4, WIDTH)
            self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
            self.out = _perceptron(WIDTH, 3)

    @torch.no_grad()
    def forward(self, level: Tensor, i: Tensor, j: Tensor, vectors: Tensor) -> Tensor:
        """(N, 3) from the noise level of each atom (N, 1) and edges i, j (E,) with vectors (E, 3) Å."""
        nodes = self.atoms(level)
        edges = self.pairs(torch.cat([vectors, vectors.norm(dim=-1, keepdim=True)], dim=-1))
        for layer in self.layers:
            nodes, edges = layer(nodes, edges, i, j)
        return self.out(nodes)


def edges_of(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """Atoms i, j (E,) of every directed pair within the paper's cutoff, and vectors (E, 3) Å."""
    neighbours = find_neighbours(batch, CUTOFF_A)
    i = torch.arange(len(batch.positions))[:, None].expand_as(neighbours.index)[neighbours.mask]
    return i, neighbours.index[neighbours.mask], neighbours.displacements(batch.positions)[neighbours.mask]
