"""What `kaem.inverse.look_up` computes, as one kernel of Triton's: a launch where torch's calls are
seven, or nine for a copula. (Of these torch.compile makes two, and takes seconds to.) Imported only
where there is a GPU; `kaem.inverse` holds the same in torch's calls.
"""
# mypy: ignore-errors

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256  # numbers of a program


@triton.jit
def _look_up(
    keys,
    ends,
    columns,
    out,
    n,
    entries,
    OWN: tl.constexpr,
    ROUNDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    row, rows = tl.program_id(1).to(tl.int64), tl.num_programs(1)
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = place < n
    key = tl.load(keys + row * n + place, mask=inside, other=0.0)
    # How many ends are not above the key, one binary digit after the other.
    ends += row * entries
    count = tl.zeros((BLOCK,), dtype=tl.int32)
    for digit in tl.static_range(ROUNDS):
        ahead = count + (1 << (ROUNDS - 1 - digit))
        end = tl.load(ends + ahead - 1, mask=ahead <= entries, other=float("inf"))
        count = tl.where(end <= key, ahead, count)
    columns += row * (entries + 1) + count
    next_column = rows * (entries + 1)
    mass = key - tl.load(columns)
    if OWN == 4:
        start_mass = tl.load(columns + next_column)
        rise = tl.load(columns + 2 * next_column)
        bend = tl.load(columns + 3 * next_column)
        mass = start_mass + (rise + bend * mass) * mass
    columns += OWN * next_column
    left = tl.load(columns)
    square = tl.load(columns + next_column)
    slope = tl.load(columns + 2 * next_column)
    cell = tl.load(columns + 3 * next_column)
    below = tl.sqrt_rn(square + slope * mass) + left
    tl.store(out + row * n + place, cell + tl.div_rn(2 * mass, below), mask=inside)


def look_up(ends: Tensor, columns: Tensor, keys: Tensor) -> Tensor:
    """Do what `kaem.inverse.look_up` says, in float32."""
    out, (rows, n), entries = torch.empty_like(keys), keys.shape, ends.shape[1]
    if keys.numel():
        with torch.cuda.device_of(keys):
            _look_up[triton.cdiv(n, BLOCK), rows](
                keys,
                ends,
                columns,
                out,
                n,
                entries,
                OWN=len(columns) - 4,
                ROUNDS=entries.bit_length(),
                BLOCK=BLOCK,
            )
    return out
