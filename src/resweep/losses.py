"""Losses that judge every class or label by itself, and the check that a loss fits the task.

Each takes all three kinds of targets: labels (B, K), classes int64 (B,), which become one-hot rows, and the rows of
mixed images. Logits of half precision are made single precision first, so that targets are not rounded to their type.

Shapes: B batch, K classes or labels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import sigmoid_focal_loss

from resweep.errors import Problem, RequestError
from resweep.tasks import Multilabel, Task

ONE_CLASS_ONLY = (nn.CrossEntropyLoss, nn.NLLLoss, nn.MultiMarginLoss)  # take (B, K) rows for something else
INSTEAD = {"multiclass": "loss=cross_entropy", "multilabel": "loss=bce"}


class BinaryCrossEntropy(nn.Module):
    """Binary cross-entropy of the sigmoid of every logit, the mean over the batch and the labels.

    ``-mean(w y log p + (1 - y) log(1 - p))``, with p the sigmoid and w the label's ``pos_weight``. For classes this
    trains K one-against-all decisions, as Wightman et al. 2021 do; for labels it is the plain loss of the task.

    Args:
        label_smoothing: e in [0, 1); the targets of classes, mixed ones too, become ``(1 - e) y + e / K``, those of
            labels ``(1 - e) y + e / 2``: a mixture with all classes, or with both answers, being equally likely.
        pos_weight: factor of the positive part, above 0: one number, or one per label; None is 1.
        target_threshold: in [0, 1); targets above it count as 1, the others as 0, before smoothing: each class of a
            mixed image is then fully present. None leaves the shares as they are.
        multilabel: whether targets are those of labels, which float rows alone do not tell.

    Raises:
        ValueError: an argument is out of range, or ``pos_weight`` has another length than K (when first called).

    Source: Wightman et al. 2021 ("ResNet strikes back", arXiv 2110.00476, section 3.1); smoothing as Szegedy et al.
    2015 (arXiv 1512.00567, section 7); checked against torch and timm.
    """

    pos_weight: Tensor | None

    def __init__(
        self,
        label_smoothing: float = 0.0,
        pos_weight: float | Sequence[float] | Tensor | None = None,
        target_threshold: float | None = None,
        *,
        multilabel: bool = False,
    ) -> None:
        super().__init__()
        _check_share("label_smoothing", label_smoothing)
        if target_threshold is not None:
            _check_share("target_threshold", target_threshold)
        self.label_smoothing = label_smoothing
        self.target_threshold = target_threshold
        self.multilabel = multilabel
        self.register_buffer("pos_weight", _weights(pos_weight), persistent=False)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar of float32, or of float64 for such logits.

        Args:
            logits: (B, K), any float type.
            targets: int64 (B,) or float (B, K).
        """
        logits = _at_least_single(logits)
        rows = _rows(logits, targets)
        if self.target_threshold is not None:
            rows = (rows > self.target_threshold).to(rows)
        if self.label_smoothing > 0:
            answers = 2 if self.multilabel else rows.shape[1]
            rows = rows * (1 - self.label_smoothing) + self.label_smoothing / answers
        if self.pos_weight is not None and self.pos_weight.dim() and len(self.pos_weight) != rows.shape[1]:
            message = f"has {len(self.pos_weight)} numbers, but there are {rows.shape[1]} labels"
            raise ValueError(f"pos_weight={self.pos_weight.tolist()}: {message}")
        return F.binary_cross_entropy_with_logits(logits, rows, pos_weight=self.pos_weight)


class Focal(nn.Module):
    """Focal loss: binary cross-entropy in which decisions that are right already count little.

    ``-mean(a_t (1 - p_t)**gamma log p_t)``, where p_t is the probability of what is true, and a_t is alpha for present
    labels and 1 - alpha for absent ones. The mean is over the batch and the labels; the paper divides the sum by the
    number of boxes with an object, which images without boxes do not have.

    Args:
        alpha: share of the present labels in the balance, in [0, 1].
        gamma: how fast easy decisions lose their weight, at least 0; 0 is the balanced binary cross-entropy.

    Raises:
        ValueError: an argument is out of range.

    Source: Lin et al. 2017 (arXiv 1708.02002, section 3.2, equation 5); computed by torchvision.
    """

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha={alpha}: must be at least 0 and at most 1")
        if gamma < 0:
            raise ValueError(f"gamma={gamma}: must be at least 0")
        self.alpha = alpha
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the loss, a scalar of float32, or of float64 for such logits.

        Args:
            logits: (B, K), any float type.
            targets: int64 (B,) or float (B, K).
        """
        logits = _at_least_single(logits)
        return sigmoid_focal_loss(logits, _rows(logits, targets), self.alpha, self.gamma, reduction="mean")


def check_loss(loss: Callable[[Tensor, Tensor], Tensor], task: Task, *, mixes: bool = False) -> None:
    """Refuse a loss that cannot take the targets of a task; it is tried on two made-up images.

    Args:
        loss: logits (B, K) and targets to a scalar.
        task: the task of the data.
        mixes: whether training images are mixed (MixUp, CutMix), so that classes become rows of shares.

    Raises:
        RequestError: key ``loss``; says which loss to set.
    """
    name = type(loss).__name__
    instead = INSTEAD[task.name]
    if isinstance(task, Multilabel) and isinstance(loss, ONE_CLASS_ONLY):
        message = f"takes one class per image, but this data has several labels per image; set {instead}"
        raise RequestError(Problem("loss", name, message))
    logits = torch.zeros(2, task.num_classes)
    targets = torch.ones(2, task.num_classes) if isinstance(task, Multilabel) else torch.tensor([0, 1])
    if mixes:
        targets = task.one_hot(targets).flip(0) * 0.25 + task.one_hot(targets) * 0.75
    try:
        value = loss(logits, targets)
    except (ValueError, TypeError, RuntimeError, IndexError) as error:
        said = str(error).splitlines()[0] if str(error) else type(error).__name__
        if not isinstance(loss, (BinaryCrossEntropy, Focal, nn.CrossEntropyLoss)):  # else the type is not to blame
            kind = "mixed targets" if mixes else "targets"
            said = f"does not take the {kind} of this data ({said}); {instead} does"
        raise RequestError(Problem("loss", name, said)) from error
    if not isinstance(value, Tensor) or value.dim() != 0:
        shape = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise RequestError(Problem("loss", name, f"must return one number per batch, got {shape}"))


def _at_least_single(logits: Tensor) -> Tensor:
    """Return half precision as float32; float32 and float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _rows(logits: Tensor, targets: Tensor) -> Tensor:
    """Return targets as rows like the logits."""
    return F.one_hot(targets, logits.shape[1]).to(logits) if targets.dim() == 1 else targets.to(logits)


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name}={value}: must be at least 0 and below 1")


def _weights(given: float | Sequence[float] | Tensor | None) -> Tensor | None:
    if given is None:
        return None
    given = given.tolist() if isinstance(given, Tensor) else given
    values = given if isinstance(given, Sequence) else [given]
    if not all(isinstance(value, Real) and 0 < value < float("inf") for value in values):
        raise ValueError(f"pos_weight={given}: must be a number above 0, a list of one per label, or null")
    return torch.tensor(given, dtype=torch.float32)
