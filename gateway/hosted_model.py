"""Which model is hosted: asked of the inference service now and then, remembered while it is down."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog

from askonce.faults import Fault, Unreachable
from gateway.clients import InferenceClient

INTERVAL, UNKNOWN_INTERVAL = 5.0, 0.5
"""Seconds between two questions for the model, once it is known and until then."""
TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Model:
    """The hosted model as far as answers depend on it."""

    name: str
    revision: str = ""
    can_judge: bool = False


class HostedModel:
    """Knows the hosted model."""

    def __init__(self, inference: InferenceClient, pinned: Model | None = None) -> None:
        self.inference = inference
        self.model = pinned
        self.asking = asyncio.Lock()
        self.log: structlog.stdlib.BoundLogger = structlog.get_logger(service="gateway")

    async def get(self, timeout: float) -> Model:
        """The model. Raises Unreachable when it was never learnt and inference can't be asked."""
        if (known := self.model) is not None:
            return known
        async with self.asking:
            if (known := self.model) is None:
                known = await self.refresh(min(timeout, TIMEOUT))
        if known is None:
            raise Unreachable(
                "INFERENCE_UNAVAILABLE",
                "The inference service has not answered yet, so the hosted model is unknown; try again shortly.",
                retry_after=1.0,
            )
        return known

    async def refresh(self, timeout: float = TIMEOUT) -> Model | None:
        """Asks once and returns the model; what was known stays when there is no answer."""
        try:
            info = await self.inference.info(timeout)
        except Fault:
            return self.model
        model = Model(info.model, info.model_revision, info.can_judge)
        if info.model and model != self.model:
            self.log.info("model", name=model.name, revision=model.revision, can_judge=model.can_judge)
            self.model = model
        return self.model

    async def step(self) -> float:
        """Asks again. Returns the seconds until the next time, fewer while nothing is known."""
        await self.refresh()
        return INTERVAL if self.model else UNKNOWN_INTERVAL
