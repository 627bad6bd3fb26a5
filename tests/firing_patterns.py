"""Names for the structure of a train of spikes: functions of spike times in ms that are true where it is there."""

import numpy as np

GAP = 20.0


def bursts(times, gap=GAP):
    """Sizes of the groups of spikes whose intervals are below `gap`."""
    ends = np.flatnonzero(np.append(np.diff(times) >= gap, True))
    return tuple(int(size) for size in np.diff(np.append(-1, ends)))


def fires_regularly(times):
    """The last five intervals are the same to a thousandth."""
    last = np.diff(times)[-5:]
    return len(last) == 5 and bool(np.ptp(last) < 1e-3 * last[-1])


def slows_down(times):
    """Intervals grow, all in all at least twofold."""
    if len(times) < 4:
        return False
    intervals = np.diff(times)
    return bool(intervals[-1] > 2 * intervals[0] and np.all(np.diff(intervals) > -0.01 * intervals[1:]))


def slows_down_once(times):
    """Regular after a first interval that is shorter by half."""
    intervals = np.diff(times)
    return fires_regularly(times) and bool(intervals[0] < 0.5 * intervals[-1])


def bursts_first(times):
    """A burst, then single spikes at regular intervals that are at least five times as long as the first."""
    if not fires_regularly(times):
        return False
    intervals = np.diff(times)
    sizes = bursts(times, 0.5 * intervals[-1])
    return sizes[0] >= 2 and set(sizes[1:]) == {1} and bool(intervals[-1] > 5 * intervals[0])


def bursts_again_and_again(times):
    """Bursts of the same size but for the first and the last, with long silences between."""
    if len(times) < 6:
        return False
    longest = np.diff(times).max()
    sizes = bursts(times, 0.5 * longest)
    return len(sizes) >= 4 and min(sizes[:-1]) >= 2 and len(set(sizes[1:-1])) == 1


def speeds_up(times):
    """Every interval is shorter than the one before."""
    return len(times) > 10 and bool(np.all(np.diff(times, 2) < 0))


def stops(times):
    """Spikes only at the beginning of a current that goes on for hundreds of ms."""
    return len(times) >= 1 and bool(times[-1] < 100)


def bursts_on_release(times):
    """Silent under a hyperpolarization that ends at 50, then one burst."""
    return len(times) >= 3 and bool(times[0] > 50 and times[-1] < 100)


def never_repeats(times):
    """Late intervals vary by more than a third of their mean, and have no period of up to eight of them."""
    late = np.diff(times)[len(times) // 2 :]
    if len(late) < 16:
        return False
    shifts = [np.abs(late[period:] / late[:-period] - 1).max() for period in range(1, 9)]
    return bool(late.std() > late.mean() / 3 and min(shifts) > 0.2)


def starts_late(behaviour, delay):
    """`behaviour`, and no spike before `delay` after the onset of the current at 0."""
    return lambda times: len(times) > 0 and bool(times[0] > delay) and behaviour(times)
