"""From an engine's name in the settings to the engine. Vendors are imported only when their engine is asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping

from askonce.settings import SettingsError, describe, load
from inference_service.engine import Engine
from inference_service.picture_work import ChildPictureWork


def build(spec: str, environ: Mapping[str, str] | None = None) -> Engine:
    """Makes the engine that `spec` names; nothing is loaded before its `start`.

    "reader", "transformers:<path or hub id>" or "openai:<base url>". Raises SettingsError for another name, for
    settings that contradict each other and for an engine whose extra is not installed.
    """
    kind, rest = parts(spec)
    makers = {"reader": reader, "transformers": transformers, "openai": openai}
    try:
        return makers[kind](rest, environ)
    except SettingsError:
        raise
    except ValueError as error:
        raise SettingsError(f"engine: {error}") from error
    except ImportError as error:
        extra = {"reader": "reader", "transformers": "glm", "openai": "openai"}[kind]
        raise SettingsError(f"engine: {kind!r} needs `pip install askonce[{extra}]` ({error})") from error


def parts(spec: str) -> tuple[str, str]:
    """An engine's kind, and its model or address. Raises SettingsError."""
    kind, _, rest = spec.partition(":")
    if kind not in ("reader", "transformers", "openai") or bool(rest) != (kind != "reader"):
        raise SettingsError(
            f'engine: {spec!r} is not one of "reader", "transformers:<path or hub id>", "openai:<base url>"'
        )
    return kind, rest


def described(spec: str) -> list[tuple[str, str, str]]:
    """Variable, value and source of the settings of the engine that `spec` names; imports no vendor.

    Raises SettingsError for an unknown engine or setting, or a value that can't be read.
    """
    kind, rest = parts(spec)
    if kind == "transformers":
        from inference_service.glm.settings import GlmSettings

        return describe(GlmSettings, kind, named(None, "ASKONCE_TRANSFORMERS_MODEL", rest))
    if kind == "openai":
        from inference_service.openai.settings import OpenAISettings

        return describe(OpenAISettings, kind, named(None, "ASKONCE_OPENAI_BASE_URL", rest))
    from inference_service.reader.engine import ReaderSettings

    return describe(ReaderSettings, kind)


def reader(_: str, environ: Mapping[str, str] | None) -> Engine:
    """The embedded engine."""
    from inference_service.reader.engine import ReaderEngine, ReaderSettings

    return ReaderEngine(load(ReaderSettings, "reader", environ))


def transformers(model: str, environ: Mapping[str, str] | None) -> Engine:
    """GLM in this process."""
    from inference_service.glm.engine import GlmEngine, GlmSettings

    settings = load(GlmSettings, "transformers", named(environ, "ASKONCE_TRANSFORMERS_MODEL", model))
    return GlmEngine(settings, work=ChildPictureWork(settings.preprocess_threads))


def openai(base_url: str, environ: Mapping[str, str] | None) -> Engine:
    """An OpenAI-compatible endpoint."""
    from inference_service.openai.engine import OpenAIEngine, OpenAISettings

    settings = load(OpenAISettings, "openai", named(environ, "ASKONCE_OPENAI_BASE_URL", base_url))
    return OpenAIEngine(settings, work=ChildPictureWork(settings.decoders))


def named(environ: Mapping[str, str] | None, variable: str, value: str) -> dict[str, str]:
    """The environment with what the engine's name says in it."""
    return {**(os.environ if environ is None else environ), variable: value}
