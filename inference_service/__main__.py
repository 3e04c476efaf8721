"""Starts the inference service: settings, engine, admission, servicer, and their end in reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

from askonce import serving, startup, telemetry
from askonce.access import RELOAD_SECONDS, Guard
from askonce.periodic import PeriodicThread
from askonce.serving import Registration, Server
from inference_service.admission import Admission
from inference_service.engine import Engine
from inference_service.registry import build, described
from inference_service.service import NAME, InferenceService
from inference_service.settings import Settings


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the service until SIGINT or SIGTERM."""
    about = "Hosts the model that answers what memory does not."
    startup.command("askonce-inference", "inference", Settings, about, run, arguments, check=engine, further=engine)


def engine(settings: Settings) -> list[tuple[str, str, str]]:
    """The settings of the engine. Raises SettingsError."""
    return described(settings.engine)


def run(settings: Settings) -> None:
    """Serves with these settings. Raises SettingsError, StartError, and EngineError where no model can be loaded."""
    engine = build(settings.engine)
    metrics = telemetry.start_metrics(settings.telemetry.metrics_listen)
    try:
        asyncio.run(serve(settings, engine))
    finally:
        if metrics is not None:
            metrics[1].shutdown()


async def serve(settings: Settings, engine: Engine) -> None:
    """Serves `engine`; the health says SERVING once it has loaded and warmed up."""
    admission = Admission(engine.capacity, settings.queue_limit)
    service = InferenceService(engine, admission, settings.limits, settings.timeout)
    guard = await asyncio.to_thread(Guard, settings.access)
    server = Server("inference", settings.serving, [Registration(NAME, service.add)], guard=guard)

    async def prepare(stack: AsyncExitStack) -> None:
        keys = PeriodicThread("keys", guard.refresh, RELOAD_SECONDS)
        keys.start()
        stack.push_async_callback(asyncio.to_thread, keys.stop)
        stack.push_async_callback(engine.stop)
        await engine.start()

    await serving.run(server, prepare, engine.healthy)


if __name__ == "__main__":
    main()
