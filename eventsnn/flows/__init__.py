"""Free dynamics in closed form: how a state moves between events, and when it next reaches its threshold."""

from .adaptive import AdaptiveThresholdFlow as AdaptiveThresholdFlow
from .base import AbstractFlow as AbstractFlow
from .exponentials import AbstractExponentialFlow as AbstractExponentialFlow
from .linear import LinearFlow as LinearFlow
from .two_stage import TwoStageFlow as TwoStageFlow
