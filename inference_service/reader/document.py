"""A page with the fields that were found on it: what follow-up questions are answered from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from inference_service.reader.fields import Field, find
from inference_service.reader.page import Page


@dataclass(frozen=True, slots=True)
class Document:
    """One page and its fields."""

    page: Page
    fields: Mapping[Field, str]
    """Values as they are printed; a field that was not found is absent."""

    @property
    def size(self) -> int:
        """Bytes that the document takes in memory, roughly."""
        return self.page.size + sum(100 + 4 * len(value) for value in self.fields.values())


def study(page: Page) -> Document:
    """Finds the fields of a page."""
    return Document(page, find(page))
