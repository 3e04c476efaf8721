"""Limits and defaults of the wire that more than one service applies. The comments of the protos say the same.

`tests/askonce/test_limits.py` holds the protos to it.
"""

from __future__ import annotations

DEFAULT_MAX_TOKENS = 128
"""Tokens generated at most where nothing else is asked for."""
MAX_TOKENS = (1, 4_096)
"""Tokens that may be asked for; an engine's own limit may be less."""
MAX_PIXELS = (12_544, 4_816_896)
"""Pixels at which the model may see an image: 16 to 6,144 of its patches of 28 x 28."""
STOPS, STOP_CHARACTERS = 4, 64
"""Strings that may end an answer, and the characters of each."""
TAGS, TAG_CHARACTERS = 8, 63
"""Labels kept with an entry, and the characters of each."""
COMMENT_CHARACTERS, CORRECT_CHARACTERS = 1_000, 4_000
"""Characters of a comment on an answer, and of what it should have been."""
