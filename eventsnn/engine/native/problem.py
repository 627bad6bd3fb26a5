"""Which problem a run is reported with, and in which words: plain Python, that Numba compiles as well.

`engine/sentence.py` makes the tables and says what the numbers are. This file imports nothing of Numba, so that errors
can be raised without it.
"""

import math

# Columns of a table of conditions: the group whose numbers hold the first bad one, and which of them are those of the
# condition. For each axis of its array follow the distance between neighbours and the length.
GROUP, START, SIZE, AXES = range(4)

# Columns of a table of layers: how many spikes there is room for, and how many one neuron may emit.
CAPACITY, LIMIT = range(2)

# What there is of each sample: an integer and a real number for each group, then so many for each layer.
COUNT, FAILED, NEURON, STATUS, BUSIEST, MOST, LAYER_INTEGERS = range(7)
STOPPED, FULL, NEEDED, LAYER_REALS = range(4)

# Where each kind of text begins in the list of all; the number of groups, and the sizes of the rows of samples.
OF_SAMPLE, OF_CHECK, OF_FAILURE, OF_STATUS, OF_OTHERS, OF_FULL, OF_ADVICE, OF_BUSY = range(8)
GROUPS, N_INTEGERS, N_REALS, N_WORDS = range(8, 12)

# A sentence has so many texts, with so many real numbers in them, and about a layer so many integers.
PIECES, REALS, INTEGERS_OF_LAYER = 4, 2, 2

# Room for a number: `%.10g` has at most 17 characters, an int32 has 11.
NUMBER_ROOM = 24

# No list of spikes is that long.
MANY_SPIKES = 2**31


def find_problem(integers, reals, checks, layers, batch, words, pieces, whole, real):
    """The first problem of the first sample that has one: 1 if an input is at fault, 0 if the run is, -1 for none.

    All arrays have one axis, because Numba takes three times as long for tables with two.

    - `integers`, `reals`: row by row, one for each sample.
    - `checks`, `layers`: the tables row by row, in the order in which problems are reported.
    - `batch`: the lengths of the axes of samples.
    - `words`: where texts begin, and the sizes of rows.
    - `pieces`, `whole`, `real`: are filled with the texts of the sentence and its numbers. `pieces` must be 0, which
        is an empty text. The last integers say which sample it is about.
    """
    groups, columns = words[GROUPS], AXES + 2 * (whole.shape[0] - batch.shape[0])
    for sample in range(integers.shape[0] // words[N_INTEGERS]):
        at, at_real = sample * words[N_INTEGERS], sample * words[N_REALS]
        own, left = whole.shape[0], sample
        for axis in range(batch.shape[0] - 1, -1, -1):
            own -= 1
            whole[own] = left % batch[axis]
            left //= batch[axis]
        for row in range(checks.shape[0] // columns):
            check = row * columns
            group = checks[check + GROUP]
            place = integers[at + group] - checks[check + START]
            if integers[at + group] >= 0 and place >= 0 and place < checks[check + SIZE]:
                pieces[0] = words[OF_SAMPLE] + group
                pieces[1] = words[OF_CHECK] + row
                real[0] = reals[at_real + group]
                for k in range((columns - AXES) // 2):
                    axis = check + AXES + 2 * k
                    whole[k] = place // checks[axis] % checks[axis + 1]
                return 1
        for layer in range(layers.shape[0] // 2):
            first = at + groups + layer * LAYER_INTEGERS
            first_real = at_real + groups + layer * LAYER_REALS
            pieces[0] = words[OF_SAMPLE] + groups + layer
            failed, count = integers[first + FAILED], integers[first + COUNT]
            if failed > 0:
                pieces[1] = words[OF_FAILURE] + layer
                pieces[2] = words[OF_STATUS] + integers[first + STATUS]
                if failed > 1:
                    pieces[3] = words[OF_OTHERS]
                whole[0] = integers[first + NEURON]
                whole[1] = failed - 1
                real[0] = reals[first_real + STOPPED]
                return 0
            if count > layers[2 * layer + CAPACITY]:
                pieces[1] = words[OF_FULL] + layer
                pieces[2] = words[OF_ADVICE]
                real[0] = reals[first_real + FULL]
                enough = 1.2 * max(float(reals[first_real + NEEDED]), float(count))
                if enough < MANY_SPIKES:
                    # Rounded up to two digits.
                    unit = 1.0
                    while 100 * unit <= enough:
                        unit *= 10
                    real[1] = math.ceil(enough / unit) * unit
                else:
                    # Spikes that take no time would need a list without end.
                    pieces[2] += 1
                return 0
            if integers[first + MOST] > layers[2 * layer + LIMIT]:
                pieces[1] = words[OF_BUSY] + layer
                whole[0] = integers[first + BUSIEST]
                return 0
    return -1
