"""What a question's answer hangs on besides what the image shows: the file itself, the day, the moment.

Two files may show the same and differ in size, sharpness or in what is up; an answer about "today" is right until
midnight. The word lists lean towards yes: a question that is wrongly taken to be about the file or the day is asked
again once too often, and no more.
"""

import re
import tomllib
from enum import Enum
from functools import lru_cache
from importlib.resources import files

from dedup_service.question.normal import QUOTED


class Subject(Enum):
    """What an answer hangs on."""

    CONTENT = "CONTENT"
    """Nothing but what the image shows."""
    PICTURE = "PICTURE"
    """The file itself: its size, format, quality, direction, what stands where."""
    DAY = "DAY"
    """The day on which it is asked."""
    MOMENT = "MOMENT"
    """The moment at which it is asked, or where the asker is."""


def _read() -> dict[Subject, re.Pattern[str]]:
    lists = tomllib.loads(files("dedup_service.question").joinpath("subject.toml").read_text("utf-8"))
    fragments = lists.pop("fragments")
    return {
        Subject[name.upper()]: re.compile(
            re.sub(r"<<(\w+)>>", lambda found: fragments[found[1]], "|".join([*words["en"], *words["zh"]]))
        )
        for name, words in lists.items()
    }


_LISTS = _read()


@lru_cache(maxsize=16384)
def subjects_of(question: str) -> frozenset[Subject]:
    """What the answer to a question hangs on besides the image's content; empty when it hangs on nothing else. Quoted
    text is what the image says and does not count. Any text is accepted."""
    said = QUOTED.sub(" ", question).casefold().replace("’", "'")
    return frozenset(subject for subject, words in _LISTS.items() if words.search(said))
