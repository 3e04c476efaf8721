"""Forms: what many images of one tenant share, such as the printed part of an invoice.

Images belong to one form when they register to one another. Among images of one form every global descriptor fails: a
thousand siblings are as near as the original of a copy. So an image is moved into its form's frame and described there
by what differs from the others (`residual`).

All values here are immutable. What a form has learnt is counted, so that what two processes learnt can be added up.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dedup_service.image.keypoints import Keypoints, Matrix, Registration, find_keypoints, register
from dedup_service.image.local_descriptor import describe
from dedup_service.image.registration import warp
from dedup_service.image.residual import Cells, Frame, Projection, frame_of, learn
from dedup_service.image.running_statistics import RunningStatistics

REFERENCE = 400
"""Keypoints of the image that founds a form by which others are registered to it."""
JOINED = 20
"""Fewest keypoints of the form that an image of it shows."""
JOINED_SPREAD = 0.15
"""Least share of the form's parts in which they lie."""
MEMBER = 0.3
"""Least share of the keypoints that members usually show which a new member shows. A copy that shows less is looked for
among them all the same, but no image is stored as a member by chance."""
FOUNDED = 36
"""Fewest keypoints that two different images share when they found a form together."""
FOUNDED_SPREAD = 0.25
"""Least share of the parts of the first in which these lie: a logo alone makes no form."""
FIRST_LEARNT = 8
"""Images after which a form's first projection is learnt; the next follow whenever their number has doubled."""
LAST_LEARNT = 1024
"""Images beyond which nothing more is learnt: mean and variance hardly move any more."""

# An image that shows less than this share of what members usually show is looked at once more.
_PLAIN_SIGHT = 0.7
# Forms asked for votes, keypoints of each, and keypoints of the image that vote.
_SHORTLIST = 12
_VOTERS = 160
_ELECTORATE = 500
# Hamming distance of 256 bits from which on a keypoint is no evidence for a form.
_VOTE_REACH = 32.0


@dataclass(frozen=True, slots=True, eq=False)
class Learnt:
    """What the members of a form taught it.

    Attributes:
        statistics: of their cells.
        shown: (N,) int64: how many members showed each keypoint of the form.
        members: how many there were.
    """

    statistics: RunningStatistics
    shown: NDArray[np.int64]
    members: int = 0

    @classmethod
    def nothing(cls, frame: Frame, keypoints: int) -> "Learnt":
        """What a form knows before its first member."""
        return cls(RunningStatistics.empty(frame.cells), np.zeros(keypoints, np.int64))

    @classmethod
    def of(cls, cells: Cells, agreed: NDArray[np.int64], keypoints: int) -> "Learnt":
        """What one member teaches."""
        shown = np.zeros(keypoints, np.int64)
        shown[agreed] = 1
        return cls(RunningStatistics.of(cells.ink, cells.seen), shown, 1)

    def merge(self, other: "Learnt") -> "Learnt":
        """What the members of both taught. The order does not matter."""
        return Learnt(self.statistics.merge(other.statistics), self.shown + other.shown, self.members + other.members)


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A form.

    Attributes:
        id: that of the image record that founded it, so that two processes that found it at once found one.
        tenant: whose it is.
        frame: the coordinates of its members.
        keypoints: of the first image, in the frame.
        descriptor: (256,) float32: the local descriptor of the first image.
        learnt: what its members taught.
        projections: those under which members are stored, oldest first, at most two. New members get the last one.
        create_time: seconds since the epoch.
        last_use: when an image was last found to be of it, seconds since the epoch.
        revision: grows with every change that is stored.
    """

    id: str
    tenant: str
    frame: Frame
    keypoints: Keypoints
    descriptor: NDArray[np.float32]
    learnt: Learnt
    projections: tuple[Projection, ...]
    create_time: float
    last_use: float
    revision: int = 0

    @property
    def projection(self) -> Projection:
        """The one that new members are described by."""
        return self.projections[-1]

    def usual(self) -> float:
        """How many of its keypoints a member usually shows, the first image left out: that one shows all."""
        others = self.learnt.members - 1
        return float(self.learnt.shown.sum() - len(self.keypoints)) / others if others > 0 else len(self.keypoints)

    def loose(self) -> bool:
        """Whether its members have too little in common: hardly anything that most of them show."""
        return self.learnt.members >= FIRST_LEARNT and int((2 * self.learnt.shown > self.learnt.members).sum()) < JOINED

    def with_learnt(self, news: Learnt) -> "Form":
        """With what further members taught; beyond `LAST_LEARNT` nothing is added."""
        return self if self.learnt.members >= LAST_LEARNT else replace(self, learnt=self.learnt.merge(news))

    def due(self) -> bool:
        """Whether a new projection should be learnt: enough is new, and no members wait for the last one."""
        return len(self.projections) == 1 and self.learnt.members >= max(FIRST_LEARNT, 2 * self.projection.samples)

    def relearnt(self, key: str) -> "Form":
        """With a new projection of this key; members of the old one are still found by it."""
        return replace(self, projections=(self.projection, learn(self.learnt.statistics, key)))

    def settled(self) -> "Form":
        """With the last projection alone: no member is left under another."""
        return replace(self, projections=(self.projection,))

    def to_bytes(self) -> bytes:
        """What can't be seen from outside; 60 to 200 kB. NumPy's own archive format, compressed."""
        arrays: dict[str, Any] = {
            "frame": np.array([self.frame.width, self.frame.height]),
            "keypoints": np.frombuffer(self.keypoints.to_bytes(), np.uint8),
            "descriptor": self.descriptor,
            "count": self.learnt.statistics.count.astype(np.uint16),
            "mean": self.learnt.statistics.mean,
            "squares": self.learnt.statistics.squares,
            "shown": self.learnt.shown,
            "members": np.array(self.learnt.members),
            "samples": np.array([one.samples for one in self.projections]),
            "means": np.stack([one.mean for one in self.projections]).astype(np.float16),
            "weights": np.stack([one.weight for one in self.projections]).astype(np.float16),
        }
        file = io.BytesIO()
        np.savez_compressed(file, **arrays)
        return file.getvalue()

    @classmethod
    def from_bytes(
        cls,
        stored: bytes,
        *,
        id: str,  # noqa: A002 -- the field's name
        tenant: str,
        keys: tuple[str, ...],
        create_time: float,
        last_use: float,
        revision: int,
    ) -> "Form":
        """Read what `to_bytes` wrote; `keys` are those of the projections. Raises ValueError for anything else."""
        try:
            with np.load(io.BytesIO(stored), allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            frame = Frame(int(arrays["frame"][0]), int(arrays["frame"][1]))
            statistics = RunningStatistics(arrays["count"].astype(np.float32), arrays["mean"], arrays["squares"])
            projections = tuple(
                Projection(key, int(samples), mean.astype(np.float32), weight.astype(np.float32))
                for key, samples, mean, weight in zip(
                    keys, arrays["samples"], arrays["means"], arrays["weights"], strict=True
                )
            )
            return cls(
                id=id,
                tenant=tenant,
                frame=frame,
                keypoints=Keypoints.from_bytes(arrays["keypoints"].tobytes()),
                descriptor=arrays["descriptor"],
                learnt=Learnt(statistics, arrays["shown"], int(arrays["members"])),
                projections=projections,
                create_time=create_time,
                last_use=last_use,
                revision=revision,
            )
        except (KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError("this form can't be read") from error


def found_form(id: str, tenant: str, keypoints: Keypoints, width: int, height: int, time: float) -> tuple[Form, Matrix]:  # noqa: A002
    """The form that an image founds, without members yet, and the map (3 x 3) of the image's pixels to its frame.

    Args:
        id: of the image record.
        tenant: whose it is.
        keypoints: of the image, in its pixels.
        width, height: of the image in these pixels.
        time: seconds since the epoch.
    """
    frame, matrix = frame_of(width, height)
    reference = keypoints.first(REFERENCE).moved(matrix)
    learnt = Learnt.nothing(frame, len(reference))
    projection = learn(learnt.statistics, "0")
    return Form(id, tenant, frame, reference, describe(keypoints), learnt, (projection,), time, time), matrix


def of_form(form: Form, keypoints: Keypoints, grey: NDArray[np.uint8] | None = None) -> list[Registration]:
    """How an image may lie in the form's frame: at most two ways, the likelier first; none when it is not of it.

    Args:
        form: the form.
        keypoints: of the image.
        grey: (H, W) uint8, the image itself. Where it shows fewer keypoints than members usually do, because the page
            is smaller in it or turned, it is moved into the frame and looked at once more: about 20 ms, and half the
            error.
    """
    found = [one for one in register(keypoints, form.keypoints, 2) if joins(one)]
    if grey is None or not found or len(found[0].agreed) >= _PLAIN_SIGHT * form.usual():
        return found
    return [_again(form, one, grey) for one in found]


def _again(form: Form, found: Registration, grey: NDArray[np.uint8]) -> Registration:
    """A registration made better by another look at the image within the frame; the same if that shows no more.

    Only the map is taken over: where pages of two forms lie on one another, text meets text, and many keypoints agree.
    Whether the image is of the form is for the first look to say.
    """
    moved = warp(grey, found.matrix, (form.frame.height, form.frame.width))
    second = register(find_keypoints(np.asarray(moved, np.uint8)), form.keypoints)
    if not second or len(second[0].agreed) <= len(found.agreed):
        return found
    return replace(found, matrix=second[0].matrix @ found.matrix)


def joins(found: Registration) -> bool:
    """Whether an image that registers so to a form is of it."""
    return len(found.agreed) >= JOINED and found.spread >= JOINED_SPREAD


def belongs(form: Form, agreed: int) -> bool:
    """Whether an image that shows so many keypoints of a form is to be stored as its member."""
    return agreed >= max(JOINED, MEMBER * form.usual())


def founds(found: Registration) -> bool:
    """Whether two images that register so, though they differ, are of one form."""
    return len(found.agreed) >= FOUNDED and found.spread >= FOUNDED_SPREAD


def likeliest(forms: Sequence[Form], keypoints: Keypoints, descriptor: NDArray[np.float32], count: int) -> list[Form]:
    """The forms that an image may be of, likeliest first.

    Those whose first images are most alike by the local descriptor (256,) are asked whose keypoints lie nearest to
    the image's: forms in one type face have the same letters, but not the same words. About 10 ms, however many.
    """
    if not forms or not len(keypoints):
        return []
    likeness = np.stack([form.descriptor for form in forms]) @ descriptor
    chosen = [forms[i] for i in np.argsort(-likeness, kind="stable")[:_SHORTLIST]]
    if len(chosen) == 1:
        return chosen
    telling = [np.argsort(-form.learnt.shown, kind="stable")[:_VOTERS] for form in chosen]
    owner = np.repeat(np.arange(len(chosen)), [len(which) for which in telling])
    stacked = np.concatenate([form.keypoints.described[which] for form, which in zip(chosen, telling, strict=True)])
    votes = np.zeros(len(chosen))
    for match in cv2.BFMatcher(cv2.NORM_HAMMING).match(keypoints.first(_ELECTORATE).described, stacked):
        votes[owner[match.trainIdx]] += max(0.0, _VOTE_REACH - match.distance)
    return [chosen[i] for i in np.argsort(-votes, kind="stable")[:count]]
