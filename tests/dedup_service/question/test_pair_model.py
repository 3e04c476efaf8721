"""The shipped pair model."""

import math

import numpy as np
import pytest

from dedup_service.question.alignment import align
from dedup_service.question.asked_encoder import AskedEncoder
from dedup_service.question.features import FEATURES, features
from dedup_service.question.lexicon import shipped
from dedup_service.question.pair_model import shipped_model
from dedup_service.question.reading import read
from dedup_service.question.veto import find

PAIRS = [
    ("what is the total", "how much does it all come to", 0.6),
    ("who sold it", "what is the seller's address", 0.4),
    ("总金额是多少", "一共花了几块钱", 0.7),
    ("有几个人", "有几个人坐着", 0.5),
]


def row(a: str, b: str, cosine: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The features of a pair."""
    one, other, lexicon = read(a), read(b), shipped()
    alignment = align(one, other, lexicon)
    return features(one, other, alignment, find(a, b, one, other, alignment, (), lexicon), cosine, lexicon)


@pytest.mark.parametrize(("a", "b", "cosine"), PAIRS)
def test_features_do_not_depend_on_the_order(a: str, b: str, cosine: float) -> None:
    """Whichever question came first, the features are the same."""
    assert np.allclose(row(a, b, cosine), row(b, a, cosine), equal_nan=True)


@pytest.mark.parametrize(("a", "b", "cosine"), PAIRS)
def test_the_model_is_monotone(a: str, b: str, cosine: float) -> None:
    """More of a similarity never scores less, more of a difference never scores more."""
    model, base = shipped_model(), row(a, b, cosine)
    for at, direction in enumerate(FEATURES.values()):
        if direction and not math.isnan(base[at]):
            more = base.copy()
            more[at] += 0.3
            assert direction * (model.log_odds(more) - model.log_odds(base)) >= -1e-6


def test_a_missing_cosine_is_no_cosine_of_zero() -> None:
    """Without vectors the words decide, and the log-odds stay finite."""
    model = shipped_model()
    missing = model.log_odds(row("what is the total", "how much is the total", math.nan))
    assert math.isfinite(missing)
    assert missing > model.log_odds(row("what is the total", "how much is the total", -0.2))


def test_facets_of_one_thing_score_lower_than_wordings() -> None:
    """The name and the address of a seller are two questions."""
    model = shipped_model()
    same = model.log_odds(row("seller's name", "what is the seller called", math.nan))
    assert same > model.log_odds(row("seller's name", "seller's address", math.nan)) + 1


class Foreign:
    """An encoder that the projection was not trained on."""

    identity, dimension = "foreign", 3

    def readable(self, text: str) -> bool:
        return True

    def encode(self, texts: list[str]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
        return np.array([[len(text), 0, 0] for text in texts], np.float32)


def test_only_what_is_asked_is_encoded() -> None:
    """The encoder sees the asking clause; vectors of a foreign encoder are left as they are, and not calibrated."""
    encoder = AskedEncoder(Foreign())
    assert not encoder.calibrated
    assert encoder.dimension == 3
    assert encoder.encode(["Hi! how much is it?"])[0, 0] == len("how much is it")
    assert encoder.encode([]).shape == (0, 3)
