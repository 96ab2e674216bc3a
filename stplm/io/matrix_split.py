"""One pass over a block of a 10x matrix: genes go to the cell table, controls are summed."""

from __future__ import annotations

from stplm.compiled import compiled


@compiled(nogil=True)
def split_block(offsets, features, values, column, is_control, per_feature, per_cell, kept, indices, data):  # type: ignore[no-untyped-def]
    """Write a block's genes to ``indices`` and ``data`` one after another; give how many, or -1 (see below).

    Parameters
    ----------
    offsets
        (n_cells + 1,): the values of cell i are ``offsets[i] - offsets[0]`` to ``offsets[i + 1] - offsets[0]``.
    features, values
        Of each stored value: its row in the feature list, and the count. Zeros are left out.
    column, is_control
        Of each feature: its gene column, -1 where it is no gene; whether its counts are noise.
    per_feature
        int64, (n_features,): counts are added.
    per_cell, kept
        (n_cells,): counts of control features, and how many values are kept; written.

    Notes
    -----
    -1: a feature is not in the list. What was written by then is of no use.
    """
    used = 0
    for cell in range(len(offsets) - 1):
        before, noise = used, 0
        for at in range(offsets[cell] - offsets[0], offsets[cell + 1] - offsets[0]):
            feature, value = features[at], values[at]
            if feature < 0 or feature >= len(column):
                return -1
            per_feature[feature] += value
            if is_control[feature]:
                noise += value
            if column[feature] >= 0 and value > 0:
                indices[used], data[used] = column[feature], value
                used += 1
        per_cell[cell] = noise
        kept[cell] = used - before
    return used


@compiled(nogil=True)
def row_sums(indptr, data, sums):  # type: ignore[no-untyped-def]
    """Sum of each row of a CSR matrix into ``sums``."""
    for row in range(len(sums)):
        total = 0
        for at in range(indptr[row], indptr[row + 1]):
            total += data[at]
        sums[row] = total
