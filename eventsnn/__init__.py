"""Spiking neural networks by events: any ODE neuron, exact spike times, exact gradients."""

from .analysis import Traces as Traces
from .analysis import fi_curve as fi_curve
from .analysis import firing_rates as firing_rates
from .analysis import sample_traces as sample_traces
from .connections import Dense as Dense
from .connections import Sparse as Sparse
from .devices import over_devices as over_devices
from .engine.report import SimulationError as SimulationError
from .engine.results import RESULTS as RESULTS
from .evnn import EvNN as EvNN
from .evnn import FFEvNN as FFEvNN
from .evnn import Record as Record
from .io import load as load
from .io import save as save
from .neuron_models import IF as IF
from .neuron_models import LIF as LIF
from .neuron_models import QIF as QIF
from .neuron_models import DeltaLIF as DeltaLIF
from .neuron_models import LeakyIntegrator as LeakyIntegrator
from .neuron_models import LinearFlow as LinearFlow
from .neuron_models import NeuronModel as NeuronModel
from .neuron_models import Parameter as Parameter
from .neuron_models.check import check_neuron_model as check_neuron_model
from .neuron_models.parameter import trainable as trainable

__version__ = "0.1.0"
