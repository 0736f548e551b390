"""TensorBoard files of a run: readable scalars, pictures, a layout of charts, and columns of the HParams page."""

from resweep.tensorboard.columns import hyperparameters, sweep_axes
from resweep.tensorboard.logger import RunLogger

__all__ = ["RunLogger", "hyperparameters", "sweep_axes"]
