"""The image encoder that needs no weights: low frequencies of brightness, edges and colour."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.picture import Picture, fit_within

_GRID = 64
_LUMA_SIDE = 14
_EDGE_SIDE = 14
_CHROMA_SIDE = 5
# Margins of a plain colour are trimmed before the picture is described: a border or the white around a receipt is not
# what it shows. Plain means within this many grey levels of the corner.
_PLAIN = 24


class DctEncoder:
    """DCT coefficients of a 64 x 64 rendering, with magnitudes compressed so that no single one dominates.

    Three parts, each of unit length before they are joined: brightness, local edge strength (which places text lines
    and survives changes of brightness) and colour.
    """

    dimension = (_LUMA_SIDE**2 - 1) + _EDGE_SIDE**2 + 2 * _CHROMA_SIDE**2
    identity = f"dct-{_GRID}-{dimension}-v1"

    def encode(self, pictures: Sequence[Picture]) -> NDArray[np.float32]:
        """(N, D) float32 rows of length 1; 2 ms a picture."""
        rows = [_describe(_planes(picture), 0) for picture in pictures]
        return np.stack(rows) if rows else np.zeros((0, self.dimension), np.float32)

    def encode_turns(self, picture: Picture) -> NDArray[np.float32]:
        """(4, D): the picture turned counter-clockwise by 0, 90, 180, 270 degrees."""
        planes = _planes(picture)
        return np.stack([_describe(planes, turn) for turn in range(4)])

    def close(self) -> None:
        """Nothing is held."""


def _planes(picture: Picture) -> NDArray[np.float32]:
    """(4, 64, 64): brightness, edge strength, Cr and Cb of the picture without its plain margins."""
    rgb = _trim(fit_within(picture.rgb, side=256))
    size = (_GRID, _GRID)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    edges = cv2.magnitude(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    edges = cv2.resize(edges, size, interpolation=cv2.INTER_AREA)
    small = cv2.cvtColor(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2YCrCb).astype(np.float32)
    return np.stack([small[:, :, 0], edges - edges.mean(), small[:, :, 1] - 128, small[:, :, 2] - 128])


def _describe(planes: NDArray[np.float32], turn: int) -> NDArray[np.float32]:
    luma, edges, red, blue = (np.rot90(plane, turn) for plane in planes)
    bright = _low(luma, _LUMA_SIDE)[1:]
    sharp = _low(edges, _EDGE_SIDE)
    colour = np.concatenate([_low(red, _CHROMA_SIDE), _low(blue, _CHROMA_SIDE)])
    parts = (
        bright / max(float(np.linalg.norm(bright)), 1e-3),
        sharp / max(float(np.linalg.norm(sharp)), 1e-3),
        # Never blown up: a grey document's colour noise must not weigh as much as its text.
        0.7 * colour / max(float(np.linalg.norm(colour)), 40.0),
    )
    vector = np.concatenate(parts)
    length = float(np.linalg.norm(vector))
    if length < 1e-6:  # one plain grey: all such pictures are alike
        vector[0] = length = 1.0
    return np.asarray(vector / length, dtype=np.float32)


def _low(plane: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    block = np.asarray(cv2.dct(np.ascontiguousarray(plane)))[:side, :side].ravel()
    return np.asarray(np.sign(block) * np.sqrt(np.abs(block)), dtype=np.float32)


def _trim(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Without plain margins of the corners' colour; as it is when less than a quarter of either side would remain."""
    corners = rgb[[0, 0, -1, -1], [0, -1, 0, -1]].astype(np.int16)
    distance = np.abs(rgb.astype(np.int16) - np.median(corners, axis=0).astype(np.int16)).max(axis=2) > _PLAIN
    rows = np.flatnonzero(distance.mean(axis=1) > 0.01)
    columns = np.flatnonzero(distance.mean(axis=0) > 0.01)
    if len(rows) == 0 or len(columns) == 0:
        return rgb
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    if bottom - top < rgb.shape[0] // 4 or right - left < rgb.shape[1] // 4:
        return rgb
    return np.ascontiguousarray(rgb[top:bottom, left:right])
