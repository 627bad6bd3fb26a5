"""All neurons on one clock together: loops over their states that vectorise, and what is done around them.

Neurons in a row with the same time constants form a group, whose coefficients are computed once. Those who are
refractory take part in every loop, and what stands still is put back afterwards, because they are few.
"""

from eventsnn.engine.native.compiled import compiled, fast
from eventsnn.engine.native.kinds import BLOCKS, COUPLING, DECAY, HOLDS_I, HOLDS_V, JUMPS, LEAK
from eventsnn.engine.native.linear import coefficients
from eventsnn.engine.native.scratch import prefetch
from eventsnn.engine.native.words import CLOCK


@fast
def count_reaching(v, i, d, theta, low, high, keep, feed, fade, gain, a, b, dt, one):
    """How many of the neurons from `low` to `high` may reach their threshold in a stretch: see `crossing` for why.

    The potential is compared in the end. Where it may have been higher before, its tangent at the start bounds it. This
    is a count, and nothing is stored, because LLVM vectorises neither a maximum nor a loop over many arrays it writes.
    It counts in the dtype of the states (`one`), so that a vector of states makes a vector of counts.
    """
    count = one - one
    for j in range(low, high):
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
def look_ahead(v, i, d, theta, ahead, low, high, keep, feed, fade, gain, a, b, dt, one):
    """The same, and their potentials at the end of the stretch.

    It stores one array only: with two, LLVM would have to make sure of more pairs of arrays than it is willing to.
    """
    count = one - one
    for j in range(low, high):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        ahead[j] = top
        reach = v[j] + dt * (drive - a * v[j])
        reach = reach if drive > target else top
        reach = reach if b * fade * i[j] + d[j] <= target else top
        top = reach if reach > top else top
        count += one if top >= theta[j] else one - one
    return count


@fast
def fade_currents(i, low, high, fade):
    """The currents at the end of a stretch."""
    for j in range(low, high):
        i[j] = fade * i[j]


@fast
def fade_and_add(i, weights, low, high, fade):
    """The currents at the end of a stretch, and after an arrival there."""
    for j in range(low, high):
        i[j] = fade * i[j] + weights[j]


@fast
def list_reaching(v, i, d, theta, low, high, keep, feed, fade, gain, a, b, dt, listed, count):
    """The same neurons, one by one."""
    for j in range(low, high):
        drive = b * i[j] + d[j]
        target = a * theta[j]
        top = keep * v[j] + feed * i[j] + gain * d[j]
        reach = v[j] + dt * (drive - a * v[j])
        if drive > target and b * fade * i[j] + d[j] <= target and reach > top:
            top = reach
        if top >= theta[j]:
            listed[count] = j
            count += 1
    return count


@fast
def move(v, i, d, low, high, keep, feed, fade, gain):
    """The states at the end of a stretch."""
    for j in range(low, high):
        v[j] = keep * v[j] + feed * i[j] + gain * d[j]
        i[j] = fade * i[j]


@fast
def add_row(x, weights, n):
    """An arrival."""
    for j in range(n):
        x[j] += weights[j]


@fast
def count_above(v, theta, n):
    """How many neurons are at their threshold or above."""
    count = 0
    for j in range(n):
        count += 1 if v[j] >= theta[j] else 0
    return count


@compiled
def width_of(t, eps):
    """How far apart two times near `t` may lie and still be the same instant: `instants.instant_width`."""
    return 2 * eps * abs(t)


@compiled
def find_groups(run):
    """Neurons in a row with the same time constants share their coefficients: where such groups start."""
    n = run.n
    numbers, groups = run.numbers, run.groups
    group_of = run.group_of
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
    run.n_groups = count


@compiled
def set_coefficients(run, dt):
    """The coefficients of every group for a stretch of `dt`."""
    numbers, groups = run.numbers, run.groups
    coefs = run.coefs
    for g in range(run.n_groups):
        j = groups[g]
        coefs[g, 0], coefs[g, 1], coefs[g, 2], coefs[g, 3] = coefficients(
            dt, numbers[LEAK, j], numbers[COUPLING, j], numbers[DECAY, j]
        )


@compiled
def coefficients_of(run, g):
    """Those of a group, in the dtype of the states."""
    coefs = run.coefs
    return run.dtype(coefs[g, 0]), run.dtype(coefs[g, 1]), run.dtype(coefs[g, 2]), run.dtype(coefs[g, 3])


@compiled
def note_held(run):
    """Before a stretch or an arrival: the states of those who are refractory."""
    refractory = run.refractory
    v, i = run.v, run.i
    held_v, held_i = run.held_v, run.held_i
    for k in range(run.n_refractory):
        held_v[k], held_i[k] = v[refractory[k]], i[refractory[k]]


@compiled
def hold(run, count, which_v, which_i):
    """After it: of the first `count` of them, what stands still, if the neuron is of one of these kinds."""
    refractory, kinds = run.refractory, run.kinds
    v, i = run.v, run.i
    held_v, held_i = run.held_v, run.held_i
    for k in range(count):
        j = refractory[k]
        if kinds[j] & which_v:
            v[j] = held_v[k]
        if kinds[j] & which_i:
            i[j] = held_i[k]


@compiled
def move_all(run):
    """All neurons through a stretch, whatever they reach in it."""
    held = run.n_refractory
    groups = run.groups
    v, i, d = run.v, run.i, run.d
    if held > 0:
        note_held(run)
    for g in range(run.n_groups):
        low, high = groups[g], groups[g + 1]
        keep, feed, fade, gain = coefficients_of(run, g)
        move(v, i, d, low, high, keep, feed, fade, gain)
    if held > 0:
        hold(run, held, HOLDS_V, HOLDS_I)


_V, _AHEAD = CLOCK.place("v"), CLOCK.place("ahead")


@compiled
def end_stretch(run, row):
    """All neurons through the stretch that `find_reaching` has looked at, whatever they reach in it.

    With a `row` of 0 or more, the arrival through that row at the end as well. No neuron is refractory then.
    """
    run.arrived = row >= 0
    if run.n_refractory > 0:
        move_all(run)
        return
    run.words[_V], run.words[_AHEAD] = run.words[_AHEAD], run.words[_V]
    groups, i = run.groups, run.i
    for g in range(run.n_groups):
        fade = run.dtype(run.coefs[g, 2])
        if row >= 0:
            fade_and_add(i, run.weights[row], groups[g], groups[g + 1], fade)
        else:
            fade_currents(i, groups[g], groups[g + 1], fade)


@compiled
def fetch_row(run, matrix, row):
    """Ask for a row of a matrix before it is needed, because a large matrix is not in the cache."""
    # A cache line has 64 bytes. After the first 1024 bytes the processor prefetches the rest.
    for j in range(0, min(run.n, 1024 // run.itemsize), 64 // run.itemsize):
        prefetch(matrix[row], j)


@compiled
def arrive(run, row):
    """A spike arrives through a row of the weights."""
    n = run.n
    v, i = run.v, run.i
    weights = run.weights[row]
    if run.n_refractory > 0:
        note_held(run)
    if not run.any_jumps:
        add_row(i, weights, n)
    elif run.all_jump:
        add_row(v, weights, n)
    else:
        kinds = run.kinds
        for j in range(n):
            if kinds[j] & JUMPS:
                v[j] += weights[j]
            else:
                i[j] += weights[j]
    if run.n_refractory > 0:
        hold(run, run.n_refractory, BLOCKS | HOLDS_V, BLOCKS | HOLDS_I)


# Where somebody may reach the threshold, blocks of so many neurons are counted before each is looked at.
_BLOCK = 32


@compiled
def find_reaching(run, dt):
    """The neurons that may reach the threshold in a stretch of `dt`: a list, and how many there are."""
    numbers, groups = run.numbers, run.groups
    listed = run.listed
    v, i = run.v, run.i
    d, theta = run.d, run.theta
    count = 0
    for g in range(run.n_groups):
        low, end = groups[g], groups[g + 1]
        keep, feed, fade, gain = coefficients_of(run, g)
        a, b, step, one = run.dtype(numbers[LEAK, low]), run.dtype(numbers[COUPLING, low]), run.dtype(dt), run.dtype(1)
        high, whole = end, True
        while low < end:
            if whole:
                reaching = look_ahead(v, i, d, theta, run.ahead, low, high, keep, feed, fade, gain, a, b, step, one)
            else:
                reaching = count_reaching(v, i, d, theta, low, high, keep, feed, fade, gain, a, b, step, one)
            if reaching > 0 and whole and end - low > _BLOCK:
                # All again, block by block.
                whole = False
                high = low + _BLOCK
                continue
            if reaching > 0:
                count = list_reaching(
                    v, i, d, theta, low, high, keep, feed, fade, gain, a, b, step, listed, count,
                )  # fmt: skip
            low, high = high, min(high + _BLOCK, end)
    run.n_listed = count
    return count
