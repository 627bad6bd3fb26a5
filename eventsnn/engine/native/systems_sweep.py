"""All linear systems on one clock together: loops over one channel of all neurons that vectorise.

Neurons in a row with the same matrix and the same condition, but for its constant, form a group. Their coefficients
for a stretch are computed once. A loop takes two or three arrays, which LLVM vectorises; it skips entries that are 0.
"""

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.crossings import FLAT, advance, fill
from eventsnn.engine.native.kinds import BLOCKS
from eventsnn.engine.native.matrices import exponentials, load, note_system, part, set_bounds
from eventsnn.engine.native.systems_words import (
    CONDITION,
    DOWN,
    ENTRIES,
    EXP,
    HELD,
    MATRIX_AT,
    MOST,
    NOISE,
    NOISE_C,
    OVER,
    PHI,
    UNDER,
    UP,
)


@fast
def assign(out, x, scale, low, high):
    """`scale` times the entries of an array."""
    for j in range(low, high):
        out[j] = scale * x[j]


@fast
def add(out, x, scale, low, high):
    """The same, added."""
    for j in range(low, high):
        out[j] += scale * x[j]


@fast
def add_pair(out, x, scale, z, other, low, high):
    """Two of these at once, which saves half of the loads and stores of `out`."""
    for j in range(low, high):
        out[j] += scale * x[j] + other * z[j]


@fast
def add_product(out, x, z, n):
    """An arrival: weights times what one of weight 1 adds to a channel."""
    for j in range(n):
        out[j] += x[j] * z[j]


@fast
def add_bounds(over, above, x, c, v, noise, noise_c, up, down, chord_up, chord_down, low, high):
    """What one channel adds to how far the condition may be above its chord, and above its start."""
    for j in range(low, high):
        rounding = noise * abs(x[j]) + noise_c * abs(c[j])
        rises = v[j] > 0
        over[j] += rounding + (chord_up if rises else chord_down) * v[j]
        above[j] += rounding + (up if rises else down) * v[j]


@fast
def count_reaching(before, after, over, above, low, high):
    """How many may reach the threshold: at the end, or before it as far as both bounds can tell."""
    count = 0.0
    for j in range(low, high):
        top = before[j] if before[j] > after[j] else after[j]
        chord, rise = top + over[j], before[j] + above[j]
        reach = chord if chord < rise else rise
        reach = reach if reach > after[j] else after[j]
        above[j] = reach
        count += 1.0 if reach >= 0 else 0.0
    return count


@compiled
def combine(run, out, entries, x, low, high, begun):
    """Add a row of entries times the channels of `x` to `out`, or begin it with them; gives whether it has begun."""
    waiting, size = -1, run.size
    for m in range(size):
        if entries[m] != 0:
            if not begun:
                assign(out, x[m], entries[m], low, high)
                begun = True
            elif waiting < 0:
                waiting = m
            else:
                add_pair(out, x[waiting], entries[waiting], x[m], entries[m], low, high)
                waiting = -1
    if waiting >= 0:
        add(out, x[waiting], entries[waiting], low, high)
    return begun


@compiled
def find_groups(run):
    """Neurons in a row with the same matrix and condition: where such groups start."""
    n, numbers = run.n, run.numbers
    groups, group_of = run.groups, run.group_of
    count = 0
    for j in range(n):
        same = j > 0
        for row in range(run.at_h0 if j > 0 else 0):
            same = same and (numbers[row, j] == numbers[row, j - 1] or run.at_c <= row < run.at_h)
        if not same:
            groups[count] = j
            count += 1
        group_of[j] = count - 1
    groups[count] = n
    run.n_groups = count


@compiled
def set_coefficients(run, dt):
    """What is computed once for each group and a stretch of `dt`."""
    groups, coefs = run.groups, run.coefs
    for g in range(run.n_groups):
        load(run, groups[g], False)
        row, to = exponentials(run, run.a, run.chain, dt), coefs[g]
        if run.signed:
            exponentials(run, run.hat, run.hat_chain, dt)
        set_bounds(run, run.levels)
        note_system(run, row)
        for k in range(ENTRIES):
            to[k] = row[k]
        # A chain of one link is all there.
        run.chain_of = g if run.levels == 0 else -1


@compiled
def move(run, to, g, entries):
    """The states of a group at the end of a stretch."""
    low, high, size = run.groups[g], run.groups[g + 1], run.size
    x = run.x
    for k in range(size):
        if not combine(run, to[k], part(entries, EXP + MOST * k), x, low, high, False):
            assign(to[k], x[k], 0.0, low, high)
        for m in range(size):
            entry = entries[PHI + MOST * k + m]
            if run.driven >> m & 1 and entry != 0:
                add(to[k], run.numbers[run.at_c + m], entry, low, high)


@compiled
def move_all(run, to, dt):
    """All neurons through a stretch, whatever they reach in it, from `x` to other rows."""
    for g in range(run.n_groups):
        move(run, to, g, run.coefs[g])
    move_resting(run, to, dt)


@compiled
def move_resting(run, to, dt):
    """Those some of whose channels stand still."""
    refractory, kinds = run.refractory, run.kinds
    for place in range(run.n_refractory):
        j = refractory[place]
        if kinds[j] >= HELD:
            load(run, j, True)
            fill(run, run.y, run.x, j)
            advance(run, dt)
            keep(run, to, j)


@compiled
def keep(run, to, j):
    """The state `run.y`, as that of a neuron."""
    y = run.y
    for k in range(run.size):
        to[k, j] = y[k]


@compiled
def set_heights(run, out, x):
    """The spike condition of all neurons."""
    coefs, groups = run.coefs, run.groups
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        assign(out, run.offset, 1.0, low, high)
        combine(run, out, part(coefs[g], CONDITION), x, low, high, True)


@compiled
def find_reaching(run, dt):
    """Move all neurons through a stretch of `dt` to `new_x`, and list those that may reach the threshold.

    Gives how many these are.
    """
    coefs, groups, listed = run.coefs, run.groups, run.listed
    x, new_x, velocity = run.x, run.new_x, run.velocity
    offset, over, above = run.offset, run.over, run.above
    before, after, count = run.height, run.new_height, 0
    move_all(run, new_x, dt)
    set_heights(run, before, x)
    set_heights(run, after, new_x)
    for g in range(run.n_groups):
        low, high, entries = groups[g], groups[g + 1], coefs[g]
        for j in range(low, high):
            over[j] = FLAT * abs(offset[j])
            above[j] = over[j]
        for k in range(run.size):
            v, c, driven = velocity[k], run.numbers[run.at_c + k], run.driven >> k & 1
            if driven:
                assign(v, c, 1.0, low, high)
            if not combine(run, v, part(entries, MATRIX_AT + MOST * k), x, low, high, driven != 0):
                assign(v, c, 0.0, low, high)
            add_bounds(
                over, above, x[k], c, v, entries[NOISE + k], entries[NOISE_C + k], entries[UP + k], entries[DOWN + k],
                entries[OVER + k], entries[UNDER + k], low, high,
            )  # fmt: skip
        if count_reaching(before, after, over, above, low, high) > 0:
            for j in range(low, high):
                if above[j] >= 0:
                    listed[count] = j
                    count += 1
    run.n_listed = count
    return count


@compiled
def arrive(run, row):
    """A spike arrives through a row of the weights."""
    n, size, x, saved = run.n, run.size, run.x, run.ask_x
    refractory, kinds = run.refractory, run.kinds
    for place in range(run.n_refractory):
        for k in range(size):
            saved[k, place] = x[k, refractory[place]]
    for k in range(size):
        if run.reached >> k & 1:
            add_product(x[k], run.weights[row], run.numbers[run.at_into + k], n)
    for place in range(run.n_refractory):
        j = refractory[place]
        for k in range(size):
            if kinds[j] & BLOCKS or kinds[j] // HELD >> k & 1:
                x[k, j] = saved[k, place]
