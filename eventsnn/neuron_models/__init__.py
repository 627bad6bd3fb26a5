"""Neuron models and the contract that they fulfil."""

from .adex import AdEx as AdEx
from .alif import ALIF as ALIF
from .alpha_lif import AlphaLIF as AlphaLIF
from .base import NeuronModel as NeuronModel
from .conductance_lif import ConductanceLIF as ConductanceLIF
from .declared import bias as bias
from .declared import hyperparameter as hyperparameter
from .declared import initial_state as initial_state
from .delta_lif import DeltaLIF as DeltaLIF
from .dual_exponential_lif import DualExpLIF as DualExpLIF
from .egru import EGRU as EGRU
from .eif import EIF as EIF
from .exp_lif import ExpLIF as ExpLIF
from .hodgkin_huxley import HodgkinHuxley as HodgkinHuxley
from .integrate_and_fire import IF as IF
from .izhikevich import IZHIKEVICH_REGIMES as IZHIKEVICH_REGIMES
from .izhikevich import Izhikevich as Izhikevich
from .izhikevich import izhikevich_regime as izhikevich_regime
from .leaky_integrator import LeakyIntegrator as LeakyIntegrator
from .lif import LIF as LIF
from .linear_flow import LinearFlow as LinearFlow
from .mat import MAT as MAT
from .parameter import Parameter as Parameter
from .qif import QIF as QIF
from .two_compartment import TwoCompartment as TwoCompartment
