"""Imported once by the fork server, so that every worker starts with everything loaded and looked up."""

import sklearn.datasets
import sklearn.model_selection
import torch.utils.tensorboard

import resweep.sweep.check
import resweep.tensorboard
import resweep.train
from resweep.environment import package_versions, processor

LOADED = (sklearn.datasets, sklearn.model_selection, torch.utils.tensorboard, resweep.sweep.check, resweep.tensorboard,
          resweep.train)  # fmt: skip
package_versions()
processor()
