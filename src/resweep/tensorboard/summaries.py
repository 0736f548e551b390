"""Messages that TensorBoard's pages are made of: a session of the HParams page, its columns, charts, pictures, curves.

The writer of torch has functions for some of them, which leave out what is needed here: domains, groups, names,
pictures that are encoded already.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import (
    DATA_TYPE_FLOAT64,
    DATA_TYPE_STRING,
    DATASET_UNKNOWN,
    DATASET_VALIDATION,
    STATUS_FAILURE,
    STATUS_SUCCESS,
    Experiment,
    HParamInfo,
    MetricInfo,
    MetricName,
)
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo, SessionStartInfo
from torch import Tensor

from resweep.tensorboard.columns import Column, Value

THRESHOLDS = 127  # of a precision-recall curve, evenly from 0 to 1
MOST_CURVES = 25
# Charts of the page "custom scalars", by category: the tags that share one chart, as regular expressions.
LAYOUT = {
    "training and validation": {
        "loss": ["Multiline", [r"train/loss$", r"val/loss$"]],
        "accuracy": ["Multiline", [r"train/accuracy$", r"val/accuracy$"]],
    },
    "how it was trained": {
        "learning rate": ["Multiline", [r"lr$"]],
        "seconds per epoch": ["Multiline", [r"time/epoch_seconds$"]],
    },
}


def experiment(columns: Sequence[Column], metrics: Mapping[str, str]) -> Summary:
    """Describe the columns of the HParams page.

    Args:
        columns: of the hyperparameters.
        metrics: tag to the name that the page shows.
    """
    described = Experiment(
        hparam_infos=[_hparam(column) for column in columns],
        metric_infos=[
            MetricInfo(
                name=MetricName(tag=tag),
                display_name=name,
                dataset_type=DATASET_UNKNOWN if tag.startswith(("test/", "time/")) else DATASET_VALIDATION,
            )
            for tag, name in metrics.items()
        ],
    )
    return _summary(metadata.EXPERIMENT_TAG, HParamsPluginData(experiment=described))


def _hparam(column: Column) -> HParamInfo:
    info = HParamInfo(name=column.key, type=DATA_TYPE_FLOAT64 if column.number else DATA_TYPE_STRING)
    info.differs = len(column.values) > 1 or column.ends is not None
    for value in column.values:
        if column.number:
            info.domain_discrete.values.add(number_value=value)
        else:
            info.domain_discrete.values.add(string_value=value)
    if column.ends is not None:
        info.domain_interval.min_value, info.domain_interval.max_value = column.ends
    return info


def session_start(values: Mapping[str, Value], group: str, seconds: float) -> Summary:
    """Begin a session of the HParams page.

    Args:
        values: of the columns.
        group: the same name for all sessions that stand in one line.
        seconds: since 1970.
    """
    info = SessionStartInfo(group_name=group, start_time_secs=seconds)
    for key, value in values.items():
        if isinstance(value, str):
            info.hparams[key].string_value = value
        else:
            info.hparams[key].number_value = value
    return _summary(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=info))


def session_end(success: bool, seconds: float) -> Summary:
    """End a session of the HParams page; seconds since 1970."""
    info = SessionEndInfo(status=STATUS_SUCCESS if success else STATUS_FAILURE, end_time_secs=seconds)
    return _summary(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=info))


def _summary(tag: str, content: HParamsPluginData) -> Summary:
    """What the HParams page reads: all of it stands in the metadata, the tensor has to be there and is empty."""
    content.version = metadata.PLUGIN_DATA_VERSION
    plugin = SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME, content=content.SerializeToString())
    value = Summary.Value(tag=tag, metadata=SummaryMetadata(plugin_data=plugin))
    return Summary(value=[value])


def picture(tag: str, png: bytes) -> Summary:
    """Show a PNG file."""
    width, height = Image.open(io.BytesIO(png)).size
    image = Summary.Image(encoded_image_string=png, width=width, height=height, colorspace=3)
    return Summary(value=[Summary.Value(tag=tag, image=image)])


def curve_points(probabilities: Tensor, positive: Tensor) -> Tensor:
    """Return the precision-recall curve of one class at 127 thresholds from 0 to 1.

    Args:
        probabilities: float (N,).
        positive: bool (N,).

    Returns:
        float64 (6, 127): true and false positives, true and false negatives, precision and recall; precision is 1 where
        nothing is predicted, recall 0 where nothing is positive.
    """
    thresholds = torch.arange(1, THRESHOLDS) / (THRESHOLDS - 1)
    places = torch.bucketize(probabilities, thresholds, right=True)  # the last threshold that the probability reaches

    def reached(chosen: Tensor) -> Tensor:
        return torch.bincount(places[chosen], minlength=THRESHOLDS).flip(0).cumsum(0).flip(0).double()

    tp, fp = reached(positive), reached(~positive)
    fn, tn = tp[0] - tp, fp[0] - fp
    precision = torch.where(tp + fp > 0, tp / (tp + fp).clamp(min=1), 1.0)
    return torch.stack([tp, fp, tn, fn, precision, tp / tp[0].clamp(min=1)])
