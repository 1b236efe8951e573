"""Loihi's number formats: the bit widths and limits of its neurons, synapses and messages.

Sources: Lava 0.10.0 (``proc/lif/models.py``, ``proc/dense``, ``utils/weightutils.py``), lava-dl
0.6.0 (``netx``). `ashneuro.program.program` has the arithmetic.
"""

# Decays du and dv: 12-bit fractions of DECAY_ONE.
DECAY_BITS = 12
DECAY_ONE = 1 << DECAY_BITS
LARGEST_DECAY = DECAY_ONE - 1

# State u and v: 24 bits, signed. u wraps around, v saturates at ±LARGEST_STATE.
STATE_RANGE = 1 << 23
LARGEST_STATE = STATE_RANGE - 1

# Input sums a and thresholds are shifted left on their way to the state: STATE_UNIT units of state
# are one unit of a.
STATE_SHIFT = 6
STATE_UNIT = 1 << STATE_SHIFT

LARGEST_THRESHOLD = (1 << 17) - 1

# A bias is a 13-bit mantissa, shifted left by 0 … LARGEST_BIAS_EXP.
BIAS_MANTISSA = (-(1 << 12), (1 << 12) - 1)
LARGEST_BIAS_EXP = 7

# Weights have 8 bits. Where a synapse has both signs, the lowest bit is lost to the sign.
MIXED_WEIGHTS = (-256, 254)
LARGEST_WEIGHT = 255
WEIGHT_EXP = (-8, 7)

LARGEST_MESSAGE = (1 << 15) - 1  # graded spikes and input: 16 bits, signed
LARGEST_DELAY = 62  # of an axon, in steps
