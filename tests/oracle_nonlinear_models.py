"""The nonlinear models of the oracle of `oracle_zoo.py`, each in a coordinate that is smooth at a spike."""

import math

import numpy as np
from oracle_models import Model


class QIF(Model):
    """V = 1/2 + tan(x): tmem dx/dt = sin(x)^2 + (J - 1/4) cos(x)^2, and V is infinite at x = pi/2."""

    channels = ("V", "I")
    defaults = {"tmem": 20, "tsyn": 5, "ic": 0}

    def slope(self, y, current):
        x, i = y
        dx = math.sin(x) ** 2 + (i + self.ic + current - 0.25) * math.cos(x) ** 2
        return np.array([dx / self.tmem, -i / self.tsyn])

    def excess(self, y):
        return y[0] - math.pi / 2

    def fire(self, y):
        return self.with_channel(y, 0, -math.pi / 2), True

    def inside(self, y):
        return self.with_channel(y, 0, math.atan(y[0] - 0.5))

    def outside(self, y):
        return self.with_channel(y, 0, 0.5 + math.tan(y[0]))


class _Exponential(Model):
    """The first coordinate is z = log(1 + exp(-(V - vt)/delta_t)).

    Far below vt it is linear in V; above it is exp(-(V - vt)/delta_t), which falls to 0 at the speed gleak/capacitance
    while V runs away. dz = -(1 - exp(-z)) dV/delta_t, and the exponential term times that factor is exp(-z).
    """

    def voltage(self, z):
        # A trial step may pass the threshold; beyond it V is constant, so that the logarithm exists.
        return self.vt - self.delta_t * math.log(math.expm1(max(z, 0.999 * self.coordinate(self.thresh))))

    def coordinate(self, v):
        return float(np.logaddexp(0, -(v - self.vt) / self.delta_t))

    def dz(self, z, linear):
        """-(dV/dt)/delta_t (1 - exp(-z)), with `linear` what dV/dt holds besides the exponential, over the leak."""
        return math.expm1(-z) * linear / self.delta_t - math.exp(-z)

    def excess(self, y):
        return self.coordinate(self.thresh) - y[0]

    def inside(self, y):
        return self.with_channel(y, 0, self.coordinate(y[0]))

    def outside(self, y):
        return self.with_channel(y, 0, self.voltage(y[0]))


class EIF(_Exponential):
    channels = ("V", "I")
    defaults = {
        **{"vrest": -65, "vt": -59.9, "delta_t": 3.48, "vreset": -68, "thresh": 0},
        **{"tmem": 10, "tsyn": 5, "ic": 0},
    }

    def rest(self):
        return [self.vrest, 0]

    def slope(self, y, current):
        z, i = y
        linear = -(self.voltage(z) - self.vrest) + i + self.ic + current
        return np.array([self.dz(z, linear) / self.tmem, -i / self.tsyn])

    def fire(self, y):
        return self.with_channel(y, 0, self.coordinate(self.vreset)), True


class AdEx(_Exponential):
    channels = ("V", "w", "I")
    defaults = {
        **{"capacitance": 281, "gleak": 30, "vrest": -70.6, "vt": -50.4, "delta_t": 2, "vreset": -70.6, "thresh": 0},
        **{"tw": 144, "a": 4, "b": 80.5, "tsyn": 5, "ic": 0},
    }

    def rest(self):
        return [self.vrest, 0, 0]

    def slope(self, y, current):
        z, w, i = y
        v = self.voltage(z)
        linear = -(v - self.vrest) + (-w + i + self.ic + current) / self.gleak
        dz = self.dz(z, linear) * self.gleak / self.capacitance
        return np.array([dz, (self.a * (v - self.vrest) - w) / self.tw, -i / self.tsyn])

    def fire(self, y):
        return np.array([self.coordinate(self.vreset), y[1] + self.b, y[2]]), True


class Izhikevich(Model):
    channels = ("V", "U", "I")
    defaults = {"a": 0.02, "b": 0.2, "c": -65, "d": 8, "thresh": 30, "tsyn": 5, "ic": 0}

    def rest(self):
        return [-65, self.b * -65, 0]

    def slope(self, y, current):
        v, u, i = y
        # A trial step may pass the threshold, beyond which V would run to infinity.
        top = min(v, self.thresh + 10)
        dv = 0.04 * top**2 + 5 * top + 140 - u + i + self.ic + current
        return np.array([dv, self.a * (self.b * v - u), -i / self.tsyn])

    def fire(self, y):
        return np.array([self.c, y[1] + self.d, y[2]]), True


def _linear_rate(x):
    """x/(1 - exp(-x)), which is 1 at 0."""
    return x / -math.expm1(-x) if x else 1.0


class HodgkinHuxley(Model):
    """The last coordinate is 1 while a spike may come and 0 until V has fallen below vrearm."""

    channels = ("V", "m", "h", "n", "I")
    defaults = {
        **{"capacitance": 1, "gna": 120, "gk": 36, "gleak": 0.3, "ena": 50, "ek": -77, "eleak": -54.387},
        **{"thresh": 0, "vrearm": -10, "tsyn": 5, "ic": 0},
    }

    @staticmethod
    def rates(v):
        """Opening and closing rate of m, of h and of n."""
        return (
            (_linear_rate((v + 40) / 10), 4 * math.exp(-(v + 65) / 18)),
            (0.07 * math.exp(-(v + 65) / 20), 1 / (1 + math.exp(-(v + 35) / 10))),
            (0.1 * _linear_rate((v + 55) / 10), 0.125 * math.exp(-(v + 65) / 80)),
        )

    def rest(self):
        return [-65, *(opening / (opening + closing) for opening, closing in self.rates(-65)), 0]

    def slope(self, y, current):
        v, m, h, n, i, _ = y.tolist()
        sodium = self.gna * m**3 * h * (v - self.ena)
        potassium = self.gk * n**4 * (v - self.ek)
        dv = -sodium - potassium - self.gleak * (v - self.eleak) + i + self.ic + current
        gates = [up * (1 - x) - down * x for (up, down), x in zip(self.rates(v), (m, h, n), strict=True)]
        return np.array([dv / self.capacitance, *gates, -i / self.tsyn, 0])

    def excess(self, y):
        return y[0] - self.thresh if y[5] else self.vrearm - y[0]

    def fire(self, y):
        return self.with_channel(y, 5, 1 - y[5]), bool(y[5])

    def inside(self, y):
        return np.append(y, float(y[0] < self.thresh))

    def outside(self, y):
        return y[:5]


def _sigmoid(x):
    return 0.5 * (1 + math.tanh(x / 2))


class EGRU(Model):
    channels = ("c", "a_u", "a_r", "a_z")
    held = ("c",)
    defaults = {"tmem": 10, "tsyn": 5, "thresh": 0.5, "bias_u": 0, "bias_r": 0, "bias_z": 0}

    def slope(self, y, current):
        if current:
            raise ValueError("EGRU has no bias current")
        c, a_u, a_r, a_z = y
        proposed = math.tanh(_sigmoid(a_r + self.bias_r) * a_z + self.bias_z)
        dc = _sigmoid(a_u + self.bias_u) * (proposed - c) / self.tmem
        return np.array([dc, *(-y[1:] / self.tsyn)])

    def arrive(self, y, weights):
        return y + np.array([0, *np.sum(weights, axis=0)])

    def fire(self, y):
        return self.with_channel(y, 0, 0.0), True
