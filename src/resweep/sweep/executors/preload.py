"""Imported once by the fork server, so that every worker starts with everything loaded."""


import resweep.sweep.check
import resweep.tensorboard
import resweep.train  # noqa: F401
