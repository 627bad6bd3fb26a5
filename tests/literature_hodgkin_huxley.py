"""Where the equations of Hodgkin and Huxley (1952) rest and where they fire, for tests of anything that simulates them.

Space clamp, 6.3 C, ENa 50, EK -77, ELeak -54.387 mV: Hodgkin and Huxley's constants with rest at -65 mV, their ELeak of
10.613 mV above rest. Currents in uA/cm2, times in ms, voltages in mV.

HOPF_POINTS, AT_8 and FOLD are from C. Hendrick, "Hopf bifurcations and bistability in the Hodgkin-Huxley equations at
the 1952 parameters: computer-assisted proofs" (manuscript, github.com/ChaseHendrick/hh-dynamics), which counts voltages
from rest. Proved there are the Hopf points, the equilibrium and the period at 8, of which we have the digits that are
certain, and bounds of the lowest and highest voltage; the fold is numerical there. For ELeak 10.599 mV above rest its
lower Hopf point is at 9.7796, the 9.78 of the literature.

INTERVALS and what is said about steps from rest are ours: `oracle_zoo` computed them.
"""

from typing import NamedTuple


class HopfPoint(NamedTuple):
    """Where the equilibrium loses or regains its stability: its voltage, and its angular frequency in 1/ms."""

    current: float
    voltage: float
    frequency: float


HOPF_POINTS = (
    HopfPoint(9.775437995393, -65 + 5.345856397004, 0.586233813130),
    HopfPoint(154.522433665808, -65 + 21.941907987016, 1.062921806760),
)

# Between the fold of periodic orbits and the lower Hopf point rest and repetitive firing are both stable.
FOLD = {"current": 6.260321, "period": 19.8952}
AT_8 = {
    "period": 16.00771280383,
    "equilibrium": -65 + 4.646624016873,
    "lowest": (-65 - 10.154729, -65 - 10.139662),
    "highest": (-65 + 95.953532, -65 + 96.045119),
}

# A step from rest fires once at all from between these two on, and again and again from between these two on.
ONE_SPIKE = (2.2, 2.3)
REPETITIVE = (6.1, 6.3)

# Intervals of repetitive firing.
INTERVALS = {
    6.3: 19.094602,
    7.0: 17.1447,
    10.0: 14.63621,
    20.0: 11.564697,
    50.0: 8.54438,
}
