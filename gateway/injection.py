"""Orders to the model: text of a user's that tries to change what the model is told, in English and Chinese.

A question about an image may mention rules, prompts and overrides as much as it likes. What is looked for is an
imperative that is aimed at the model. Three signs tell it: the verb begins a clause (nobody "tells the reader to"), the
object is the model's own ("your instructions", 你的规则), and nothing says that it stands in the image. Quoted text is
mentioned, not said, and is left out. The rules are in `injection.toml`; the figures for both errors come from
`python -m benchmarks.screening`.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from importlib.resources import files

_QUOTED = re.compile(r'"[^"]{1,200}"|“[^”]{1,200}”|「[^」]{1,200}」|『[^』]{1,200}』|《[^》]{1,200}》|«[^»]{1,200}»')
_SPACED = re.compile(r"(?<!\w)(?:[a-z] ){3,}[a-z](?!\w)|(?<![\u4e00-\u9fff])(?:[\u4e00-\u9fff] ){2,}[\u4e00-\u9fff]")
"""Words spelt out letter by letter, and Chinese ones character by character."""


def _compiled(fragments: Mapping[str, str], rules: Iterable[str]) -> re.Pattern[str]:
    """Rules as one expression, their fragments put in."""
    whole = "|".join(f"(?:{rule})" for rule in rules)
    return re.compile(re.sub(r"<<(\w+)>>", lambda name: fragments[name[1]], whole))


def _rules() -> tuple[re.Pattern[str], ...]:
    read = tomllib.loads(files("gateway").joinpath("injection.toml").read_text("utf-8"))
    fragments = read["fragments"]
    return (
        _compiled(fragments, [*read["anywhere"]["en"], *read["anywhere"]["zh"]]),
        _compiled(fragments, [*read["elsewhere"]["en"], *read["elsewhere"]["zh"]]),
        _compiled(fragments, ["<<in_image>>"]),
        _compiled(fragments, ["<<asked>>"]),
    )


_ANYWHERE, _ELSEWHERE, _IN_IMAGE, _ASKED = _rules()


def gives_orders(text: str) -> bool:
    """Whether a text, in small letters and half width, gives the model orders."""
    said = _QUOTED.sub(' "" ', text)
    if len(said.replace('"', "").strip()) < 4:
        said = text
    said = _SPACED.sub(lambda run: run[0].replace(" ", ""), said)
    said = _ASKED.sub(lambda question: " " if _IN_IMAGE.search(question[0]) else question[0], said)
    return bool(_ANYWHERE.search(said) or (_ELSEWHERE.search(said) and not _IN_IMAGE.search(said)))
