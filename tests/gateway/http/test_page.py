"""The web page asks nobody but its own gateway."""

from __future__ import annotations

import json
import re

from askonce.reasons import OUTCOMES, errors
from gateway.http.page import PAGE, PAGE_HEADERS


def test_nothing_is_loaded_from_elsewhere() -> None:
    """The page is one file; its policy lets it talk to its own host only."""
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//""", PAGE) == []
    policy = PAGE_HEADERS["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_every_reason_is_explained_in_both_languages() -> None:
    """The page knows what each reason means, in English and in Chinese, and holds no raw markup of them."""
    reasons = json.loads(re.search(r"const reasons = (.*);", PAGE)[1])  # type: ignore[index]
    assert reasons.keys() >= {*OUTCOMES, *errors()}
    assert all(english and re.search("[\u4e00-\u9fff]", chinese) for english, chinese in reasons.values())


def test_every_english_label_has_a_chinese_one() -> None:
    """What stands on the page in English stands there in Chinese too, and both verdicts can be given."""
    body = PAGE.split("<body>")[1].split("<script>")[0]
    texts = [text.strip() for text in re.findall(r">([^<>]*[A-Za-z][^<>]*)<", body)]
    assert [] == []
    labelled = re.findall(r'data-zh="[^"]+">([^<]+)<', body)
    assert [text for text in texts if text not in labelled and text != "AskOnce"] == []
    assert "This is right" in PAGE
    assert "This is wrong" in PAGE
