"""The Yin-Yang data set: three classes in a plane, given as spike times."""

import dataclasses
import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray

CLASS_NAMES = ("yin", "yang", "dot")
"""The names of the classes 0, 1 and 2."""

SPLITS = {"train": (42, 5000), "validation": (41, 1000), "test": (40, 1000)}
"""The published seed and size of each part."""

IN_SIZE = 5
"""The number of input channels that `encode` makes."""

_RADIUS = 0.5
_DOT_RADIUS = 0.1
_CENTRE = (0.5, 0.5)
_LEFT_DOT = (0.25, 0.5)
_RIGHT_DOT = (0.75, 0.5)


@dataclasses.dataclass(frozen=True)
class YinYang:
    """Points in the unit square and their classes.

    - `points`: shape `(samples, 2)`, the coordinates x and y.
    - `labels`: shape `(samples,)`, the class of each point: 0, 1 or 2.
    """

    points: Float[NDArray, "samples 2"]
    labels: Int[NDArray, " samples"]

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n_samples: int | None) -> "YinYang":
        """The first `n_samples` of the data, or all of it for `None`.

        **Raises:** `ValueError` if there are fewer.
        """
        if n_samples is None:
            return self
        if not 1 <= n_samples <= len(self):
            raise ValueError(f"{n_samples} samples were asked for, expected a number from 1 to {len(self)}")
        return YinYang(self.points[:n_samples], self.labels[:n_samples])


def load_split(name: str) -> YinYang:
    """The published data: `"train"` (5000 samples), `"validation"` (1000) or `"test"` (1000).

    **Raises:** `ValueError` for another name.
    """
    if name not in SPLITS:
        raise ValueError(f"split is {name!r}, expected one of {', '.join(SPLITS)}")
    seed, size = SPLITS[name]
    return make_yin_yang(size, seed)


def make_yin_yang(n_samples: int, seed: int) -> YinYang:
    """Draw a data set in which the three classes are about equally frequent.

    Every sample draws a class first and then points until one is inside the circle and of that
    class, in the order of the published code, so that the same seed gives the same samples.

    Source: Kriener, Göltz and Petrovici, *The Yin-Yang dataset* (2022).
    """
    random = np.random.RandomState(seed)
    points = np.empty((n_samples, 2))
    labels = np.empty(n_samples, np.int64)
    for sample in range(n_samples):
        labels[sample] = random.randint(3)
        points[sample] = random.rand(2)
        while _class_inside(points[sample]) != labels[sample]:
            points[sample] = random.rand(2)
    return YinYang(points, labels)


def classify(points: ArrayLike) -> Int[NDArray, "*batch"]:
    """The true class of each point, and -1 outside the circle. `points` has shape `(*batch, 2)`."""
    points = np.asarray(points, float)
    return np.apply_along_axis(_class_inside, -1, points).astype(np.int64)


def encode(points: ArrayLike, t_late: float = 30.0) -> Float[NDArray, "*batch 5 1"]:
    """Points as spike times in ms, in the form that `FFEvNN` expects.

    The channels x, y, 1 - x and 1 - y spike at 0 … `t_late`, and a fifth one always at 0.
    `points` has shape `(*batch, 2)`; the result has shape `(*batch, 5, 1)`.
    """
    points = np.asarray(points, float)
    if points.ndim == 0 or points.shape[-1] != 2:
        raise ValueError(f"points has shape {points.shape}, expected (*batch, 2): x and y of each point")
    bias = np.zeros((*points.shape[:-1], 1))
    return np.concatenate([t_late * points, t_late * (1 - points), bias], axis=-1)[..., None]


def _class_inside(point: Float[NDArray, "2"]) -> int:
    x, y = point
    if _distance(x, y, _CENTRE) > _RADIUS:
        return -1
    right, left = _distance(x, y, _RIGHT_DOT), _distance(x, y, _LEFT_DOT)
    if right < _DOT_RADIUS or left < _DOT_RADIUS:
        return 2
    if right <= _DOT_RADIUS or _DOT_RADIUS < left <= _RADIUS / 2:
        return 1
    return int(y > _RADIUS and right > _RADIUS / 2)


def _distance(x: float, y: float, centre: tuple[float, float]) -> float:
    # The published code takes the root of the sum of squares; hypot may round differently.
    return math.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2)
