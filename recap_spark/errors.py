"""Every error this package raises on purpose.

RecapError
 ├─ SettingsError     a conf/ file is missing, unknown, mistyped or contradictory
 ├─ PlatformError     the machine, session or cluster cannot do what conf asks of it
 ├─ InputError        files named by the user are not there or are not what they should be
 ├─ ContractError     a frame does not match the table it is meant for
 ├─ AccountingError   a stage cannot say where every row went
 └─ WeightsError      a model directory is not the one its spec names
"""


class RecapError(Exception):
    """Base of every error raised on purpose here."""


class SettingsError(RecapError):
    """A configuration file cannot be turned into settings."""


class PlatformError(RecapError):
    """Java, Spark, Delta or a GPU is not as the settings need it."""


class InputError(RecapError):
    """Files named by the user are missing or unreadable as what they should be."""


class ContractError(RecapError):
    """A frame does not match the contract of the table it is meant for."""


class AccountingError(RecapError):
    """A stage's rows in and rows out do not add up."""


class WeightsError(RecapError):
    """A model directory does not hold what its spec promises."""
