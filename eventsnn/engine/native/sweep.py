"""All neurons on one clock together: loops over their states that vectorise, and what is done around them.

Neurons in a row with the same time constants form a group, whose coefficients are computed once. Those who are
refractory take part in every loop, and what stands still is put back afterwards, because they are few.
"""

import numpy as np

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.kinds import BLOCKS, COUPLING, DECAY, HOLDS_I, HOLDS_V, JUMPS, LEAK, NUMBERS
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.scratch import matrix_at, prefetch, vector_at
from eventsnn.engine.native.words import (
    ALL_JUMP,
    ANY_JUMPS,
    COEFS,
    D_AT,
    GROUP_OF,
    GROUPS,
    HELD_I,
    HELD_V,
    I_AT,
    KINDS,
    LISTED,
    N_GROUPS,
    N_LISTED,
    N_REFRACTORY,
    NUMBERS_AT,
    REFRACTORY_AT,
    THETA,
    V_AT,
    WEIGHTS,
    WORDS,
    N,
)


@fast
def count_reaching(v, i, d, theta, keep, feed, fade, gain, a, b, dt, one):
    """How many of the neurons may reach their threshold in a stretch: see `crossing` for why.

    The potential is compared in the end. Where it may have been higher before, its tangent at the start bounds it. This
    is a count, and nothing is stored, because LLVM vectorises neither a maximum nor a loop over many arrays it writes.
    It counts in the dtype of the states (`one`), so that a vector of states makes a vector of counts.
    """
    count = one - one
    for j in range(v.shape[0]):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        reach = v[j] + dt * (drive - a * v[j])
        reach = reach if drive > target else top
        reach = reach if b * fade * i[j] + d[j] <= target else top
        top = reach if reach > top else top
        count += one if top >= theta[j] else one - one
    return count


@fast
def list_reaching(v, i, d, theta, keep, feed, fade, gain, a, b, dt, first, listed, count):
    """The same neurons, one by one; `first` is the number of the first of these."""
    for j in range(v.shape[0]):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        reach = v[j] + dt * (drive - a * v[j])
        if drive > target and b * fade * i[j] + d[j] <= target and reach > top:
            top = reach
        if top >= theta[j]:
            listed[count] = first + j
            count += 1
    return count


@fast
def move(v, i, d, keep, feed, fade, gain):
    """The states at the end of a stretch."""
    for j in range(v.shape[0]):
        v[j] = keep * v[j] + feed * i[j] + gain * d[j]
        i[j] = fade * i[j]


@fast
def add_row(x, weights):
    """An arrival."""
    for j in range(x.shape[0]):
        x[j] += weights[j]


@fast
def count_above(v, theta):
    """How many neurons are at their threshold or above."""
    count = 0
    for j in range(v.shape[0]):
        count += 1 if v[j] >= theta[j] else 0
    return count


@compiled
def width_of(t, eps):
    """How far apart two times near `t` may lie and still be the same instant: `instants.instant_width`."""
    return 2 * eps * abs(t)


@compiled
def find_groups(m):
    """Neurons in a row with the same time constants share their coefficients: where such groups start."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    group_of = vector_at(s[GROUP_OF], n, np.int64)
    count = 0
    for j in range(n):
        same = j > 0
        for row in range(DECAY + 1):
            same = same and numbers[row, j] == numbers[row, j - 1]
        if not same:
            groups[count] = j
            count += 1
        group_of[j] = count - 1
    groups[count] = n
    s[N_GROUPS] = count


@compiled
def set_coefficients(m, dt):
    """The coefficients of every group for a stretch of `dt`."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    coefs = matrix_at(s[COEFS], n, 4, np.float64)
    for g in range(s[N_GROUPS]):
        j = groups[g]
        coefs[g, 0], coefs[g, 1], coefs[g, 2], coefs[g, 3] = coefficients(
            dt, numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j]
        )


@compiled
def note_held(dtype, m):
    """Before a stretch or an arrival: the states of those who are refractory."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    refractory = vector_at(s[REFRACTORY_AT], n, np.int64)
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    held_v, held_i = vector_at(s[HELD_V], n, dtype), vector_at(s[HELD_I], n, dtype)
    for k in range(s[N_REFRACTORY]):
        held_v[k], held_i[k] = v[refractory[k]], i[refractory[k]]


@compiled
def hold(dtype, m, count, which_v, which_i):
    """After it: of the first `count` of them, what stands still, if the neuron is of one of these kinds."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    refractory, kinds = vector_at(s[REFRACTORY_AT], n, np.int64), vector_at(s[KINDS], n, np.int32)
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    held_v, held_i = vector_at(s[HELD_V], n, dtype), vector_at(s[HELD_I], n, dtype)
    for k in range(count):
        j = refractory[k]
        if kinds[j] & which_v:
            v[j] = held_v[k]
        if kinds[j] & which_i:
            i[j] = held_i[k]


@compiled
def move_all(dtype, m):
    """All neurons through a stretch, whatever they reach in it."""
    s = vector_at(m, WORDS, np.int64)
    n, held = s[N], s[N_REFRACTORY]
    groups, coefs = vector_at(s[GROUPS], n + 1, np.int64), matrix_at(s[COEFS], n, 4, np.float64)
    v, i, d = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype), vector_at(s[D_AT], n, dtype)
    if held > 0:
        note_held(dtype, m)
    for g in range(s[N_GROUPS]):
        low, high = groups[g], groups[g + 1]
        keep, feed, fade, gain = dtype(coefs[g, 0]), dtype(coefs[g, 1]), dtype(coefs[g, 2]), dtype(coefs[g, 3])
        move(v[low:high], i[low:high], d[low:high], keep, feed, fade, gain)
    if held > 0:
        hold(dtype, m, held, HOLDS_V, HOLDS_I)


@compiled
def fetch_row(dtype, m, row):
    """Ask for a row of the weights before it is needed."""
    s = vector_at(m, WORDS, np.int64)
    start = s[WEIGHTS] + row * s[N] * vector_at(m, 1, dtype).itemsize
    for line in range(min(s[N] * vector_at(m, 1, dtype).itemsize, 1024) // 64):
        prefetch(start + 64 * line)


@compiled
def arrive(dtype, m, row):
    """A spike arrives through a row of the weights."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    weights = matrix_at(s[WEIGHTS], row + 1, n, dtype)[row]
    if s[N_REFRACTORY] > 0:
        note_held(dtype, m)
    if not s[ANY_JUMPS]:
        add_row(i, weights)
    elif s[ALL_JUMP]:
        add_row(v, weights)
    else:
        kinds = vector_at(s[KINDS], n, np.int32)
        for j in range(n):
            if kinds[j] & JUMPS:
                v[j] += weights[j]
            else:
                i[j] += weights[j]
    if s[N_REFRACTORY] > 0:
        hold(dtype, m, s[N_REFRACTORY], BLOCKS | HOLDS_V, BLOCKS | HOLDS_I)


# Where somebody may reach the threshold, blocks of so many neurons are counted before each is looked at.
_BLOCK = 32


@compiled
def find_reaching(dtype, m, dt):
    """Who may reach the threshold in a stretch of `dt`: a list, and how many there are."""
    s = vector_at(m, WORDS, np.int64)
    n = s[N]
    numbers, groups = matrix_at(s[NUMBERS_AT], NUMBERS, n, np.float64), vector_at(s[GROUPS], n + 1, np.int64)
    coefs, listed = matrix_at(s[COEFS], n, 4, np.float64), vector_at(s[LISTED], n, np.int64)
    v, i = vector_at(s[V_AT], n, dtype), vector_at(s[I_AT], n, dtype)
    d, theta = vector_at(s[D_AT], n, dtype), vector_at(s[THETA], n, dtype)
    count = 0
    for g in range(s[N_GROUPS]):
        low, end = groups[g], groups[g + 1]
        keep, feed, fade, gain = dtype(coefs[g, 0]), dtype(coefs[g, 1]), dtype(coefs[g, 2]), dtype(coefs[g, 3])
        a, b, step, one = dtype(numbers[LEAK, low]), dtype(numbers[COUPLING, low]), dtype(dt), dtype(1)
        high, whole = end, True
        while low < end:
            reaching = count_reaching(
                v[low:high], i[low:high], d[low:high], theta[low:high], keep, feed, fade, gain, a, b, step, one
            )
            if reaching > 0 and whole and end - low > _BLOCK:
                # All again, block by block.
                whole = False
                high = low + _BLOCK
                continue
            if reaching > 0:
                count = list_reaching(
                    v[low:high], i[low:high], d[low:high], theta[low:high], keep, feed, fade, gain, a, b, step, low,
                    listed, count,
                )  # fmt: skip
            low, high = high, min(high + _BLOCK, end)
    s[N_LISTED] = count
    return count
