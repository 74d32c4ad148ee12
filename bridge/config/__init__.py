"""Configuration: one TOML file, the environment and the command line become one frozen Struct, or every problem."""

from bridge.config.load import load, read
from bridge.config.settings import Config, LogSettings

__all__ = ["Config", "LogSettings", "load", "read"]
