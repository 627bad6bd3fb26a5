"""The oracle of `oracle_zoo.py`: what a model is, and the linear ones. NumPy alone.

A model says what it does between events (`slope`), at arrivals (`arrive`), where it spikes (`excess` rises through 0)
and what a spike does (`fire`). `excess` is linear in the state, which `oracle_zoo` uses to sharpen spike times.

The state may be integrated in other coordinates than the user's channels (`inside`, `outside`): where V explodes at a
spike, its step size would go to zero with the time that is left, so a coordinate is taken that moves at a finite speed.
"""

import math

import numpy as np


class Model:
    """Parameters by keyword over `defaults`; `y0` is the state at time 0 in the order of `channels`."""

    channels: tuple[str, ...]
    held = ("V",)
    defaults: dict[str, float] = {}

    def __init__(self, y0=None, **parameters):
        unknown = set(parameters) - set(self.defaults)
        if unknown:
            raise TypeError(f"{type(self).__name__} has no parameters {sorted(unknown)}: it has {list(self.defaults)}")
        for name, default in self.defaults.items():
            setattr(self, name, float(parameters.get(name, default)))
        self.y0 = np.array(self.rest() if y0 is None else y0, float)

    def rest(self):
        return [0.0] * len(self.channels)

    def slope(self, y, current):
        """dy/dt; `current` is what a time-dependent bias adds to the constant one at this moment."""
        raise NotImplementedError

    def arrive(self, y, weights):
        """All that arrives at one instant; a weight is a number, for EGRU three."""
        jump = np.zeros(len(y))
        jump[self.channels.index("I")] = sum(weights)
        return y + jump

    def excess(self, y):
        return y[0] - self.thresh

    def fire(self, y):
        """The state after a crossing, and whether the crossing was a spike."""
        return self.with_channel(y, 0, self.vreset), True

    def inside(self, y):
        return y

    def outside(self, y):
        return y

    @staticmethod
    def with_channel(y, channel, value):
        y = np.array(y)
        y[channel] = value
        return y


class IF(Model):
    channels = ("V", "I")
    defaults = {"tmem": 20, "tsyn": 5, "thresh": 1, "vreset": 0, "ic": 0}

    def slope(self, y, current):
        _, i = y
        return np.array([(i + self.ic + current) / self.tmem, -i / self.tsyn])


class LIF(IF):
    def slope(self, y, current):
        v, i = y
        return np.array([(-v + i + self.ic + current) / self.tmem, -i / self.tsyn])


class LeakyIntegrator(LIF):
    defaults = {"tmem": 20, "tsyn": 5, "ic": 0}

    def excess(self, y):
        return -1.0


class DeltaLIF(Model):
    channels = ("V",)
    defaults = {"tmem": 20, "thresh": 1, "vreset": 0, "ic": 0}

    def slope(self, y, current):
        return np.array([(-y[0] + self.ic + current) / self.tmem])

    def arrive(self, y, weights):
        return y + sum(weights)


class AlphaLIF(Model):
    channels = ("V", "I", "J")
    defaults = IF.defaults

    def slope(self, y, current):
        v, i, j = y
        return np.array([(-v + i + self.ic + current) / self.tmem, (j - i) / self.tsyn, -j / self.tsyn])

    def arrive(self, y, weights):
        return y + np.array([0, 0, math.e * sum(weights)])


class DualExpLIF(Model):
    channels = ("V", "I", "J")
    defaults = {"tmem": 20, "trise": 1, "tdecay": 5, "thresh": 1, "vreset": 0, "ic": 0}

    def slope(self, y, current):
        v, i, j = y
        return np.array([(-v + i + self.ic + current) / self.tmem, -i / self.tdecay + j, -j / self.trise])

    def arrive(self, y, weights):
        return y + np.array([0, 0, sum(weights) / self.peak()])

    def peak(self):
        """The largest current after J = 1: the difference of two exponentials, of which the slopes meet at `when`."""
        rise, decay = 1 / self.trise, 1 / self.tdecay
        if rise == decay:
            return self.tdecay / math.e
        when = math.log(rise / decay) / (rise - decay)
        return (math.exp(-decay * when) - math.exp(-rise * when)) / (rise - decay)


class ConductanceLIF(Model):
    channels = ("V", "g_exc", "g_inh")
    defaults = {
        **{"vrest": -60, "thresh": -50, "vreset": -60, "eexc": 0, "einh": -80},
        **{"tmem": 20, "texc": 5, "tinh": 10, "ic": 0},
    }

    def rest(self):
        return [self.vrest, 0, 0]

    def slope(self, y, current):
        v, exc, inh = y
        dv = (self.vrest - v) + exc * (self.eexc - v) + inh * (self.einh - v) + self.ic + current
        return np.array([dv / self.tmem, -exc / self.texc, -inh / self.tinh])

    def arrive(self, y, weights):
        return y + np.array([0, sum(w for w in weights if w > 0), sum(-w for w in weights if w < 0)])


class ExpLIF(Model):
    channels = ("V", "I")
    defaults = {"V_rest": -60, "V_th": -50, "V_reset": -60, "tau": 20, "tsyn": 5, "I_e": 0}

    def rest(self):
        return [self.V_rest, 0]

    def slope(self, y, current):
        v, i = y
        return np.array([(-(v - self.V_rest) + self.I_e + i + current) / self.tau, -i / self.tsyn])

    def excess(self, y):
        return y[0] - self.V_th

    def fire(self, y):
        return self.with_channel(y, 0, self.V_reset), True


class ALIF(Model):
    channels = ("V", "I", "A")
    defaults = {**IF.defaults, "tadapt": 100, "beta": 0.5}

    def slope(self, y, current):
        v, i, a = y
        return np.array([(-v + i + self.ic + current) / self.tmem, -i / self.tsyn, -a / self.tadapt])

    def excess(self, y):
        return y[0] - self.thresh - y[2]

    def fire(self, y):
        return np.array([self.vreset, y[1], y[2] + self.beta]), True


class MAT(Model):
    channels = ("V", "I", "H1", "H2")
    defaults = {"tmem": 5, "tsyn": 5, "omega": 19, "alpha1": 37, "alpha2": 2, "t1": 10, "t2": 200, "ic": 0}

    def slope(self, y, current):
        v, i, fast, slow = y
        return np.array([(-v + i + self.ic + current) / self.tmem, -i / self.tsyn, -fast / self.t1, -slow / self.t2])

    def excess(self, y):
        return y[0] - self.omega - y[2] - y[3]

    def fire(self, y):
        return y + np.array([0, 0, self.alpha1, self.alpha2]), True


class TwoCompartment(Model):
    channels = ("Vs", "Vd", "I")
    held = ("Vs",)
    defaults = {
        **{"tsoma": 10, "tdend": 20, "gsoma": 1, "gdend": 0.2},
        **{"tsyn": 5, "thresh": 1, "vreset": 0, "ic": 0},
    }

    def slope(self, y, current):
        soma, dend, i = y
        dsoma = (-soma + self.gsoma * (dend - soma) + self.ic + current) / self.tsoma
        ddend = (-dend + self.gdend * (soma - dend) + i) / self.tdend
        return np.array([dsoma, ddend, -i / self.tsyn])
