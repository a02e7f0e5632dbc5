"""Orders of rows: each row once, any part on its own, and nothing to be seen in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from pymc_svi import DataLoader
from pymc_svi.data.shuffling import rows_in_blocks, rows_in_order

LONG = 150_001


def order(seed, n=LONG, start=0, stop=None):
    return rows_in_order(n, np.random.SeedSequence(seed), start, n if stop is None else stop)


@pytest.mark.parametrize("n", [1, 5, 5_000, 5_001, 2**17 - 1, 2**17, 2**17 + 1, 300_000])
def test_each_row_comes_once(n):
    np.testing.assert_array_equal(np.sort(order(1, n)), np.arange(n))


@pytest.mark.parametrize("n", [1_000, LONG])
def test_a_part_is_the_part_of_the_whole(n):
    np.testing.assert_array_equal(order(1, n, 300, 700), order(1, n)[300:700])


def test_orders_of_other_seeds_have_as_many_rows_in_common_as_chance_has():
    same = [(order(seed) == order(seed + 100)).sum() for seed in range(30)]
    assert abs(np.mean(same) - 1) < 4 / np.sqrt(30)  # one on average, as is the variance


@pytest.mark.parametrize("n", [5_003, LONG])
def test_rows_are_anywhere_and_neighbours_are_not_related(n):
    p_values = []
    for seed in range(40):
        bins = order(seed, n)[:500] * 5 // n
        p_values.append(chisquare(np.bincount(bins, minlength=5)).pvalue)
        p_values.append(chisquare(np.bincount(bins[::2] * 5 + bins[1::2], minlength=25)).pvalue)
    # P-values of truly random orders are uniform: about one in twenty is below 0.05.
    assert min(p_values) > 1e-4
    assert abs(np.mean(p_values) - 0.5) < 4 / np.sqrt(12 * 80)


def test_a_row_is_at_each_position_equally_often_over_the_epochs():
    loader = DataLoader({"x": np.zeros(LONG)}, batch_size=10)
    first = np.array([loader.order(epoch, 0, 0, 3) for epoch in range(2_000)])
    for position in range(3):
        counts = np.bincount(first[:, position] * 10 // LONG, minlength=10)
        assert chisquare(counts).pvalue > 1e-4


# --- within blocks -----------------------------------------------------------------------------


@given(st.integers(1, 300), st.integers(1, 120), st.integers(0, 9), st.data())
def test_an_order_within_blocks_has_each_row_once_and_a_part_is_a_part_of_it(n, block, seed, data):
    whole = rows_in_blocks(n, block, [seed], 0, n)
    np.testing.assert_array_equal(np.sort(whole), np.arange(n))
    start = data.draw(st.integers(0, n))
    stop = data.draw(st.integers(start, n + 5))
    part = rows_in_blocks(n, block, [seed], start, stop)
    np.testing.assert_array_equal(part, whole[start:stop])


def test_a_block_is_like_the_whole_though_neighbours_stay_together():
    n, block = 100_003, 4_800
    orders = [rows_in_blocks(n, block + 7, [seed], 0, n) for seed in range(20)]
    blocks = [part for rows in orders for part in np.split(rows, range(block, n, block))[:-1]]
    for rows in blocks:
        assert np.sum(~np.isin((rows + 1) % n, rows)) <= block // 16  # ends of runs
    # Where the rows are sorted by one of two labels, a block has as much of each as 300 runs have.
    share = np.array([np.mean(rows < n // 2) for rows in blocks])
    assert abs(share.mean() - 0.5) < 4 * 0.5 / np.sqrt(300 * len(blocks))
    assert 0.8 < share.std() / (0.5 / np.sqrt(300)) < 1.2


def test_within_blocks_each_row_comes_at_each_position_and_beside_each_neighbour():
    loader = DataLoader({"x": np.zeros(11)}, batch_size=2, buffer_size=4)
    orders = np.array([loader.order(epoch) for epoch in range(4_400)])
    for position in (0, 4, 10):  # the last one is left out by drop_last
        assert chisquare(np.bincount(orders[:, position], minlength=11)).pvalue > 1e-4
    of_row, of_next = (np.argmax(orders == row, axis=1) for row in (4, 5))
    same_block = np.mean(of_row // 4 == of_next // 4)
    # Within a block of four, three of four rows have their neighbour; within one of three, two.
    assert abs(same_block - (3 + 3 + 2) / 11) < 4 * 0.5 / np.sqrt(4_400)
