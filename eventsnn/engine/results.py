"""How a run ended."""

import diffrax


class RESULTS(diffrax.RESULTS):  # pyright: ignore
    """Diffrax's results and those that only spiking networks have."""

    invalid_input = "A number that was given is NaN, infinite or out of range."
    too_many_spikes = "A list of spikes is full: raise `max_event_steps`."
    reset_above_threshold = "A neuron was still at or above threshold after its reset."
    step_too_small = "A step became smaller than the resolution of time."
    endless = "Neurons fired each other without time passing."
    queue_full = "Too many spikes were on their way to a neuron: raise `max_pending`."
    too_many_windows = "The shortest delay is too short for the length of the run."
    not_finite = "A state became NaN or infinite."
