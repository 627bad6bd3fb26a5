"""Neuron models and the contract that they fulfil."""

from .base import NeuronModel as NeuronModel
from .delta_lif import DeltaLIF as DeltaLIF
from .integrate_and_fire import IF as IF
from .leaky_integrator import LeakyIntegrator as LeakyIntegrator
from .lif import LIF as LIF
from .linear_flow import LinearFlow as LinearFlow
from .parameter import Parameter as Parameter
from .qif import QIF as QIF
