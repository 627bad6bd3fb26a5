"""Spiking neural networks by events: any ODE neuron, exact spike times, exact gradients."""

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
from .neuron_models import ALIF as ALIF
from .neuron_models import EGRU as EGRU
from .neuron_models import EIF as EIF
from .neuron_models import IF as IF
from .neuron_models import IZHIKEVICH_REGIMES as IZHIKEVICH_REGIMES
from .neuron_models import LIF as LIF
from .neuron_models import MAT as MAT
from .neuron_models import QIF as QIF
from .neuron_models import AdEx as AdEx
from .neuron_models import AlphaLIF as AlphaLIF
from .neuron_models import ConductanceLIF as ConductanceLIF
from .neuron_models import DeltaLIF as DeltaLIF
from .neuron_models import DualExpLIF as DualExpLIF
from .neuron_models import ExpLIF as ExpLIF
from .neuron_models import HodgkinHuxley as HodgkinHuxley
from .neuron_models import Izhikevich as Izhikevich
from .neuron_models import LeakyIntegrator as LeakyIntegrator
from .neuron_models import LinearFlow as LinearFlow
from .neuron_models import NeuronModel as NeuronModel
from .neuron_models import Parameter as Parameter
from .neuron_models import TwoCompartment as TwoCompartment
from .neuron_models import bias as bias
from .neuron_models import hyperparameter as hyperparameter
from .neuron_models import initial_state as initial_state
from .neuron_models import izhikevich_regime as izhikevich_regime
from .neuron_models.check import check_neuron_model as check_neuron_model
from .neuron_models.parameter import trainable as trainable

__version__ = "0.1.0"
