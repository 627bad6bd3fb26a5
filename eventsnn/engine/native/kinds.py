"""What the kernels write down of events, neurons and runs, in whole numbers."""

# What is in the log: the number of the event times 8, and its kind.
# For SYNAPSE the number is that of an arrival at a single synapse, and on the way forth of how many there are.
INPUT, ARRIVAL, SPIKE, QUERY, INSTANT, FREE, SYNAPSE = 0, 1, 2, 3, 4, 5, 6
# Rows of the numbers of neurons.
LEAK, COUPLING, DECAY, DRIVE, THRESH, VRESET, TREF, V0, I0 = range(9)
NUMBERS = 9
# What is true of a neuron, as bits: spikes arrive at V itself; it has a threshold; it spikes once; while refractory V
# stands still, or I does, or spikes that arrive are lost; the run may end when all neurons of this kind have spiked.
JUMPS, SPIKES, ONCE, HOLDS_V, HOLDS_I, BLOCKS, OUTPUT = 1, 2, 4, 8, 16, 32, 64
# A threshold that is never reached. Infinity is not used: loops may assume that there is none.
NEVER = 1e30
# How a run ended, as in `lanes`.
FINE, NOT_FINITE, RESET_HIGH, ENDLESS = 0, 1, 2, 5
# A crossing is located to so large a part of the time since the start of its stretch.
RESOLUTION = 2e-16
