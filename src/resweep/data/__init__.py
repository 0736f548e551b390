"""Data: sources of images, splits, augmentation, the batch loader and the data module that joins them."""
