"""The order in which the entropy model codes a chunk, and the context of each stage.

Codes are coded in stages. Groups come in slices, one after the other; within a slice positions come in phases, from
coarse to fine: first a lattice with a step of 2^levels, then for each halving of the step the middles of its squares
(the `diagonal` phase) and the middles of the sides (the `cross` phase), which leaves a lattice of half the step.

    0 2 1 2 0     levels = 1: step 2 in phase 0, then phases 1 and 2 of spacing 1
    2 1 2 1 2
    ...           every position of a phase has known neighbours on all sides

All positions of a stage are predicted at once, from codes of earlier stages alone: of earlier slices in a window of
3 x 3, of the slice itself at `taps` times the spacing of the phase. So a chunk takes tens of stages instead of one
step for each code, and the context is on all sides.
"""

from __future__ import annotations

from dataclasses import dataclass

WINDOW = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))  # the context of a stage in earlier slices

Lattice = tuple[int, int, int]  # first row, first column, step
Offsets = tuple[tuple[int, int], ...]  # rows and columns away


@dataclass(frozen=True)
class Phase:
    """Positions of one stage: `kind` 0 the first lattice, 1 diagonal, 2 cross; known neighbours are `spacing` apart."""

    kind: int
    spacing: int
    lattices: tuple[Lattice, ...]


def phases(levels: int) -> list[Phase]:
    """The 1 + 2 * levels phases, which partition any grid."""
    step = 2**levels
    result = [Phase(0, 0, ((0, 0, step),))]
    while step > 1:
        half = step // 2
        result.append(Phase(1, half, ((half, half, step),)))
        result.append(Phase(2, half, ((half, 0, step), (0, half, step))))
        step = half
    return result


def taps(kind: int, reach: int) -> Offsets:
    """Known positions around one of a phase of this kind, in units of its spacing, near ones first.

    In a diagonal phase those are the positions whose rows and columns are both odd steps away, in a cross phase those
    an odd number of steps away in all. `reach` 2 keeps the 12 nearest, 3 all up to three steps away (16 or 24).
    """
    if kind == 0:
        return ()
    near = range(-3, 4)
    known = [(y, x) for y in near for x in near if (y % 2 and x % 2 if kind == 1 else (y + x) % 2)]
    known.sort(key=lambda at: (at[0] ** 2 + at[1] ** 2, at))
    return tuple(known[:12] if reach == 2 else known)


def margin(levels: int) -> int:
    """Reach of the taps: 3 steps of the widest spacing."""
    return max(1, 3 * 2 ** (levels - 1))


def slices(groups: int, sizes: tuple[int, ...]) -> list[range]:
    """Groups in slices of these sizes. Raises ValueError unless they add up."""
    if sum(sizes) != groups or min(sizes, default=0) < 1:
        raise ValueError(f"slices of {list(sizes)} groups are not {groups}")
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [range(end - size, end) for end, size in zip(ends, sizes, strict=True)]
