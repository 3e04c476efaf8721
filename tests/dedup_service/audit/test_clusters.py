"""Intents and look-alikes as the ledger shows them."""

from __future__ import annotations

import numpy as np

from dedup_service.audit.clusters import intents, lookalikes
from dedup_service.policy.recorded import UNLABELLED, WRONG
from tests.dedup_service.audit.columns import traffic_of


def test_questions_served_for_each_other_form_an_intent() -> None:
    """Links chain: 1-2 and 2-3 make one group of three."""
    traffic = traffic_of(3, question=[1, 2, 8], nearest_question=[2, 3, 9])
    found = intents(traffic)
    assert [group.size for group in found] == [3, 2]
    assert found[0].decisions == 2


def test_tenants_do_not_share_intents() -> None:
    """The same questions of two tenants are two groups."""
    traffic = traffic_of(2, question=[1, 2], nearest_question=[2, 3], tenant=["acme", "globex"])
    assert [group.size for group in intents(traffic)] == [2, 2]


def test_an_intent_with_a_different_answer_inside_is_contradictory() -> None:
    """A wrong label between two of its members counts against it."""
    label = np.array([UNLABELLED, UNLABELLED, WRONG])
    traffic = traffic_of(3, question=[1, 2, 1], nearest_question=[2, 3, 3], label=label, hit=[True, True, False])
    assert intents(traffic)[0].contradictions == 1


def test_lookalikes_served_all_the_same() -> None:
    """Images told apart form a group; a hit between two of them counts against it."""
    traffic = traffic_of(
        3, image=[1, 2, 1], nearest_image=[2, 3, 2], reason=["IMAGE_LOOKALIKE", "IMAGE_LOOKALIKE", "EXACT"],
        hit=[False, False, True],
    )  # fmt: skip
    found = lookalikes(traffic)
    assert (found[0].size, found[0].decisions, found[0].contradictions) == (3, 2, 1)


def test_no_decisions_no_groups() -> None:
    """Nothing comes of nothing."""
    assert intents(traffic_of(0)) == []
    assert lookalikes(traffic_of(0)) == []
