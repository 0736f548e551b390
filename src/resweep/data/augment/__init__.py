"""Augmentation of training images: whole batches on their device, each image with its own draws."""

from resweep.data.augment.augment import Augment
from resweep.data.augment.geometry import crop

__all__ = ["Augment", "crop"]
