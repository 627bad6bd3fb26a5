"""Does a neuron model keep the contract?"""

from .checked import guess_neurons as guess_neurons
from .neuron_model import check_neuron_model as check_neuron_model
