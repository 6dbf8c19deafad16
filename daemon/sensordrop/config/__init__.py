"""What can be configured, where it is read from, and what is said when it is wrong.

`load` is the way in. docs/configuration.md says the same to operators.
"""

from sensordrop.config.addresses import masked
from sensordrop.config.credentials import take_credentials
from sensordrop.config.endpoints import Endpoint
from sensordrop.config.environment import Given, default_path
from sensordrop.config.loading import (
    Configuration,
    Explained,
    Salvage,
    explain,
    load,
    salvage,
    state_directory_of,
)
from sensordrop.config.models import DaemonConfig, DeliveryConfig
from sensordrop.config.problem import ConfigurationError, Notice, Problem, ProblemCode

__all__ = [
    "Configuration",
    "ConfigurationError",
    "DaemonConfig",
    "DeliveryConfig",
    "Endpoint",
    "Explained",
    "Given",
    "Notice",
    "Problem",
    "ProblemCode",
    "Salvage",
    "default_path",
    "explain",
    "load",
    "masked",
    "salvage",
    "state_directory_of",
    "take_credentials",
]
