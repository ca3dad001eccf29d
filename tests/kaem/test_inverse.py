"""Guide tables find what a full search finds, wherever the mass lies."""

import pytest
import torch

from kaem.inverse import SIDE, GuideTable, PiecewiseQuadraticInverse

# Densities at 60 nodes whose distribution functions are hard to search: far tails, gaps without
# mass and with next to none, all mass in one cell, steps.
NODES = torch.linspace(-4, 4, 60, dtype=torch.float64)
DENSITIES = {
    "flat": torch.ones(60),
    "gaussian": torch.exp(-0.5 * NODES**2),
    "far tails": torch.exp(-3 * NODES**2),
    "one sided": torch.exp(-2.5 * (NODES + 4)),
    "gap": torch.where(NODES.abs() < 1.5, 0.0, 1.0),
    "faint gap": torch.exp(-30 * (1 - (NODES / 2.5) ** 2).clamp_min(0)),
    "one cell": (torch.arange(60) == 31).double(),
    "ends only": ((NODES - NODES.mean()).abs() > 3.8).double(),
}


def cumulative(density: torch.Tensor) -> torch.Tensor:
    mass = (density[1:] + density[:-1]).double().cumsum(0)
    return torch.cat([torch.zeros(1, dtype=torch.float64), mass]) / mass[-1]


def rows(dtype: torch.dtype) -> torch.Tensor:
    return torch.stack([cumulative(d) for d in DENSITIES.values()]).to(dtype)


def probes(table: torch.Tensor) -> torch.Tensor:
    """Every entry of the table, its two neighbours among the floats, the ends, and 20,000 draws."""
    draws = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=table.dtype)
    entries = table.flatten()
    ends = torch.tensor([0.0, 1.0, 0.5, 2.0**-17, 1 - 2.0**-17, 2.0**-24, 1 - 2.0**-24, 1e-30])
    near = [entries, torch.nextafter(entries, 2 * draws[0]), torch.nextafter(entries, -draws[0])]
    return torch.cat([*near, ends.to(table.dtype), draws, draws**8, 1 - draws**8]).clamp(0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_guide_table_finds_what_a_search_finds(dtype):
    table = rows(dtype)
    u = probes(table).expand(len(table), -1).contiguous()
    guide = GuideTable(table)
    result = guide.find(u, 0).view(u.shape) - guide.row_start
    expected = torch.searchsorted(table, u, side="right") - 1
    # Beyond the last entry that is not above u, entries equal to it count on: both say the last.
    assert torch.equal(result.long(), expected.clamp(max=table.shape[1] - 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_an_entry_at_the_end_of_its_bucket_is_found(dtype):
    # 0.75 is the upper end of a bucket, which holds it and one entry more; no other holds as many.
    guide = GuideTable(torch.tensor([[0.0, 0.745, 0.75, 1.0]], dtype=dtype))
    assert guide.find(torch.tensor([[0.745, 0.75, 0.76, 1.0]], dtype=dtype), 0).tolist() == [
        1,
        2,
        2,
        3,
    ]


def test_smooth_densities_need_hardly_a_round():
    # What makes the table worth its while: sixty cells would take six rounds.
    smooth = torch.stack([cumulative(DENSITIES[name]) for name in ("flat", "gaussian")])
    assert max(GuideTable(smooth.float()).rounds) <= 2


def inverse(names, dtype=torch.float64) -> PiecewiseQuadraticInverse:
    step = float(NODES[1] - NODES[0])
    density = torch.stack([DENSITIES[name].double() for name in names])
    density = density / (0.5 * step * (density[:, 1:] + density[:, :-1])).sum(1, keepdim=True)
    table = torch.stack([cumulative(row) for row in density])
    return PiecewiseQuadraticInverse(density.to(dtype), table.to(dtype), NODES.to(dtype))


@pytest.mark.parametrize("name", DENSITIES)
def test_the_inverse_solves_for_u(name):
    # Against the distribution function itself, piecewise quadratic, summed here from its cells.
    density = DENSITIES[name].double()
    step = float(NODES[1] - NODES[0])
    density = density / (0.5 * step * (density[1:] + density[:-1])).sum()
    table = cumulative(density)
    u = torch.linspace(0, 1, 4001, dtype=torch.float64)
    z = inverse([name])(u[None])[0]
    position = ((z - NODES[0]) / step).clamp(0, 59)
    cell = position.floor().long().clamp(max=58)
    t = position - cell
    mass = step * (density[cell] * t + 0.5 * (density[cell + 1] - density[cell]) * t**2)
    assert (table[cell] + mass - u).abs().max() < 1e-12
    assert (z.diff() >= 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_u_has_a_place_and_a_piece_of_many_the_same_as_a_few(dtype):
    # 1 too, where all mass of the last cells is less than rounding leaves.
    inverted, ends = inverse(DENSITIES, dtype), NODES[[0, -1]]
    u = probes(rows(dtype)).expand(len(DENSITIES), -1)
    z = inverted(u)
    assert ((z >= ends[0]) & (z <= ends[1])).all()
    for few in u[:, :2000].split(2 * SIDE - 1, dim=1):
        assert torch.equal(inverted(few), z[:, : few.shape[1]])
        z = z[:, few.shape[1] :]


def test_nothing_is_drawn_where_there_is_no_mass():
    u = probes(rows(torch.float64))
    z = inverse(["gap"])(u[None])
    assert (z.abs() >= 1.5 - float(NODES[1] - NODES[0])).all()


def test_not_a_number_stays_one():
    z = inverse(["gaussian"], torch.float32)(torch.tensor([[0.5, torch.nan]]))
    assert z.isnan().flatten().tolist() == [False, True]


def test_u_of_one_is_the_end_of_the_mass():
    # All mass lies in the two cells around node 31.
    z = inverse(["one cell"])(torch.tensor([[0.0, 1.0]], dtype=torch.float64)).flatten()
    assert z.tolist() == pytest.approx([float(NODES[30]), float(NODES[32])])
