"""Neuron models and the contract that they fulfil."""

from .base import NeuronModel as NeuronModel
from .lif import LIF as LIF
from .parameter import Parameter as Parameter
from .qif import QIF as QIF
