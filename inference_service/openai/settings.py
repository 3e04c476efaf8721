"""Settings of the engine in front of OpenAI-compatible servers; section `openai`, variables `ASKONCE_OPENAI_…`."""

from __future__ import annotations

from dataclasses import dataclass

from askonce.limits import MAX_PIXELS, MAX_TOKENS


@dataclass(frozen=True, slots=True)
class OpenAISettings:
    """Where the servers are, what they host and how long to wait for them."""

    base_url: str = ""
    """One address or several, separated by commas, each up to and with `/v1`. Required."""
    model: str = ""
    """The model's name at the servers; empty asks the first server for its first model."""
    revision: str = ""
    """What else answers depend on, such as the commit of the weights, an adapter or a quantisation. Stored answers of
    another revision are not used: change it when the servers change what they host under the same name."""
    api_key: str = ""
    """Sent as a bearer token; empty sends none."""
    ca_bundle: str = ""
    """A file of certificates (PEM) to trust for https; empty trusts the system's."""
    connect_timeout_s: float = 2.0
    """To open a connection."""
    first_token_timeout_s: float = 60.0
    """From the request to the first event."""
    idle_timeout_s: float = 20.0
    """Between two events."""
    request_timeout_s: float = 120.0
    """For a whole answer where the request has no deadline."""
    emit_interval_s: float = 0.04
    """Pieces of one answer that come within this time, in seconds, are one event; 0 makes each its own."""
    concurrency: int = 64
    """Requests at once, per server."""
    attempts: int = 3
    """The most servers asked for one answer. Nothing is tried again once text was received."""
    retry_share: float = 0.2
    """Retries allowed, as a share of requests."""
    breaker_threshold: int = 5
    """Failures in a row that open a server's circuit."""
    breaker_ttl_s: float = 10.0
    """How long an open circuit lets nothing through."""
    probe_interval_s: float = 5.0
    """How often each server is asked whether it is there, and one in trouble whether the trouble is over."""
    template_kwargs: bool = True
    """Whether to send `chat_template_kwargs` to switch thinking; vLLM and SGLang take it, some endpoints refuse it."""
    cache_salt: bool = True
    """Whether to send `cache_salt`, another one for each tenant, so that no tenant can tell by the time of an answer
    what another has asked; vLLM and SGLang keep prefixes of different salts apart, some endpoints refuse it."""
    decoders: int = 2
    """Child processes that decode images."""
    max_images: int = 16
    """The most images that the servers take in one request."""
    vendor_params: bool = True
    """Whether the servers take `repetition_penalty`, `top_k` and `min_p`; vLLM and SGLang do, OpenAI's own do not."""
    response_format: bool = True
    """Whether the servers hold the model to `response_format`."""
    image_token_side: int = 28
    """Pixels of the square that costs one image token, 28 for GLM-4.6V. A server that counts fewer than half of the
    tokens that the image must cost has lost it. 0 for a model that counts otherwise: nothing is checked then."""
    max_tokens_limit: int = MAX_TOKENS[1]
    """The most tokens that one answer may take."""
    max_pixels_limit: int = MAX_PIXELS[1]
    """Images of more pixels are made smaller before they are sent."""
    max_source_pixels: int = 100_000_000
    """Images that decode to more pixels are refused."""
    judge: bool = True
    """Whether CompareQuestions asks the model; needs log-probabilities from the server."""
    judge_temperature: float = 1.0
    """Divides the judge's log-odds: calibrates its probabilities on labelled pairs."""
    judge_same_at: float = 0.9
    """From this probability on, in each order, a pair is judged the same."""
    judge_different_at: float = 0.2
    """Up to this probability, a pair is judged different."""
