"""Pictures of neurons, their spikes and states, networks and training.

Every function draws into `ax`, or into new axes if it is `None`, and returns the axes; a picture that
needs several takes and returns an array of them. They need matplotlib: `pip install 'eventsnn[plot]'`.
"""

from ._axes import new_axes as new_axes
from .fi_curve import plot_fi_curve as plot_fi_curve
from .history import plot_history as plot_history
from .maps import plot_latencies as plot_latencies
from .maps import plot_plane as plot_plane
from .maps import plot_rates as plot_rates
from .phase_plane import plot_phase_plane as plot_phase_plane
from .raster import plot_raster as plot_raster
from .states import plot_states as plot_states
from .states import plot_traces as plot_traces
from .weights import plot_weights as plot_weights
