"""Groups that form by themselves: questions that ask the same, and images that are told apart only just. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dedup_service.audit.suspicion import mix, often
from dedup_service.audit.traffic import SAME_FILE, Traffic
from dedup_service.policy.recorded import RIGHT, WRONG

LARGEST_INTENT = 200
"""Questions in one group beyond which the chain that links them is not to be believed."""


@dataclass(frozen=True)
class Group:
    """Questions or images that belong together."""

    size: int
    """Distinct members."""
    decisions: int
    """Decisions that compared two of them."""
    newest: float
    """When the newest member joined, seconds since the epoch."""
    contradictions: int
    """Decisions that speak against it: answers that differed, or a look-alike that was served."""
    ids: tuple[str, ...]
    """Ids of decisions that show its members, at most eight, the most frequent first."""


def intents(traffic: Traffic) -> list[Group]:
    """Groups of questions that were served for each other, or found to have the same answer, on one image; within one
    tenant. The largest first."""
    same_file = traffic.image_tier.mask(*SAME_FILE)
    differ = (traffic.question != traffic.nearest_question) & (traffic.nearest_question != 0)
    label = traffic.recorded.label
    linked = differ & same_file & (traffic.recorded.would_hit | (label == RIGHT)) & (label != WRONG)
    against = differ & same_file & (label == WRONG)
    salt = (traffic.tenant.code.astype(np.int64) + 1) * np.int64(1_000_003)
    return grouped(traffic, traffic.question ^ salt, traffic.nearest_question ^ salt, linked, against)


def lookalikes(traffic: Traffic) -> list[Group]:
    """Groups of images that the look-alike check told apart; `contradictions` counts hits between two of them. The
    largest first."""
    refused = traffic.reason.mask("IMAGE_LOOKALIKE") & (traffic.image != traffic.nearest_image)
    served = traffic.recorded.would_hit & (traffic.image != traffic.nearest_image)
    return grouped(traffic, traffic.image, traffic.nearest_image, refused, served)


def grouped(
    traffic: Traffic,
    left: NDArray[np.int64],
    right: NDArray[np.int64],
    linked: NDArray[np.bool_],
    against: NDArray[np.bool_],
) -> list[Group]:
    """Connected components of the linked pairs (n,), with the decisions inside them that speak against them."""
    rows = np.flatnonzero(linked)
    if len(rows) == 0:
        return []
    nodes = np.unique(np.concatenate([left[rows], right[rows]]))
    one, other = np.searchsorted(nodes, left[rows]), np.searchsorted(nodes, right[rows])
    from scipy.sparse import coo_matrix  # slow to import: not at every start
    from scipy.sparse.csgraph import connected_components

    graph = coo_matrix((np.ones(len(rows), np.int8), (one, other)), shape=(len(nodes), len(nodes)))
    count, component = connected_components(graph, directed=False)
    sizes = np.bincount(component, minlength=count)
    of_row = component[one]
    decisions = np.bincount(of_row, minlength=count)
    joined = np.full(len(nodes), np.inf)
    times = traffic.recorded.time[rows]
    np.minimum.at(joined, one, times)
    np.minimum.at(joined, other, times)
    newest = np.full(count, -np.inf)
    np.maximum.at(newest, component, joined)
    doubted = np.flatnonzero(against & often(mix(left, right), against, linked, np.arange(len(left))))
    contradictions = np.zeros(count, np.int64)
    if len(doubted):
        at = [np.minimum(np.searchsorted(nodes, side[doubted]), len(nodes) - 1) for side in (left, right)]
        inside = (nodes[at[0]] == left[doubted]) & (nodes[at[1]] == right[doubted])
        inside &= component[at[0]] == component[at[1]]
        np.add.at(contradictions, component[at[0]][inside], 1)
    members = shown(traffic, component, one, rows)
    return [
        Group(int(sizes[c]), int(decisions[c]), float(newest[c]), int(contradictions[c]), members.get(c, ()))
        for c in np.lexsort((-decisions, -sizes))
    ]


def shown(
    traffic: Traffic, component: NDArray[np.int32], one: NDArray[np.int64], rows: NDArray[np.int64]
) -> dict[int, tuple[str, ...]]:
    """Up to eight decisions of every group, one for each of its most frequent members."""
    counts = np.bincount(one, minlength=len(component))
    members, first = np.unique(one, return_index=True)
    order = np.lexsort((-counts[members], component[members]))
    found: dict[int, list[str]] = {}
    for at in order:
        held = found.setdefault(int(component[members[at]]), [])
        if len(held) < 8:
            held.append(traffic.recorded.id[rows[first[at]]].decode())
    return {key: tuple(value) for key, value in found.items()}
