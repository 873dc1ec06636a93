"""Answers and refusals as the Gemini API words them: generateContent of v1beta."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from trading.llm.rehearsal.asked import Asked
from trading.llm.rehearsal.items import Item
from trading.llm.rehearsal.replies import HttpReply, Wait, encoded, page
from trading.llm.rehearsal.said import Said, thoughts, tokens

_FINISH: Final = {"stop": "STOP", "length": "MAX_TOKENS", "filter": "SAFETY"}
_TYPE: Final = "type.googleapis.com/google.rpc."
_SERVICE: Final = "generativelanguage.googleapis.com"
LEAST_PATIENCE: Final = 10.0
"""Seconds: a shorter deadline in `X-Server-Timeout` is refused."""


def content(said: Said, asked: Asked, *, ident: str) -> dict[str, Any]:
    """The answer to generateContent."""
    body: dict[str, Any] = {}
    if said.blocked:
        body["promptFeedback"] = {"blockReason": "PROHIBITED_CONTENT"}
    elif not said.absent:
        body["candidates"] = [_candidate(said)]
    return {**body, "usageMetadata": _usage(said, asked), "modelVersion": asked.model, "responseId": ident}


def _candidate(said: Said) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model"}, "finishReason": _FINISH[said.finish], "index": 0}
    parts: list[dict[str, Any]] = []
    if said.thinking and said.finish == "stop":  # thoughts that ate the whole budget are not shown
        parts.append({"text": said.thinking, "thought": True})
    if said.text or (said.text == "" and said.finish == "stop"):
        parts.append({"text": said.text})
    if parts:
        candidate["content"] = {"parts": parts, "role": "model"}
    if said.finish == "filter":
        rating = {"category": "HARM_CATEGORY_DANGEROUS_CONTENT", "probability": "HIGH", "blocked": True}
        candidate |= {"safetyRatings": [rating]}
    return candidate


def _usage(said: Said, asked: Asked) -> dict[str, Any]:
    prompt, answer = tokens(asked.prompt), tokens(said.text)
    if said.blocked:
        return {"promptTokenCount": prompt, "totalTokenCount": prompt}
    thought = thoughts(said, "gemini")
    return {
        "promptTokenCount": prompt,
        "candidatesTokenCount": answer,
        "totalTokenCount": prompt + answer + thought,
        "thoughtsTokenCount": thought,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
    }


def refusal(item: Item, model: str, now: float) -> HttpReply:
    """A refusal by its code; `now` in seconds since 1970, for hints that are dates."""
    wait = Wait.of(item, "retry_info")
    if item.name == "502":
        return page(502, "502 Bad Gateway")
    status, word, message = _REFUSALS[item.name]
    details = list(_details(item.name, model, wait))
    error: dict[str, Any] = {"code": status, "message": message.format(model=model), "status": word}
    body = encoded({"error": {**error, "details": details} if details else error})
    return HttpReply(status=status, body=body, headers=wait.headers(now), hint=wait.hint)


def _details(name: str, model: str, wait: Wait) -> list[dict[str, Any]]:
    details: list[dict[str, Any]] = []
    if name == "bad_key":
        metadata = {"service": _SERVICE}
        details.append(_detail("ErrorInfo", reason="API_KEY_INVALID", domain="googleapis.com", metadata=metadata))
    if name == "429":
        details.append(_detail("QuotaFailure", violations=[_violation(model)]))
        details.append(_detail("Help", links=[_HELP]))
    if "retry_info" in wait.forms:
        details.append(_detail("RetryInfo", retryDelay=f"{wait.seconds:g}s"))
    return details


_HELP: Final = {
    "description": "Learn more about Gemini API quotas",
    "url": "https://ai.google.dev/gemini-api/docs/rate-limits",
}


def _detail(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"{_TYPE}{kind}", **fields}


def _violation(model: str) -> dict[str, Any]:
    return {
        "quotaMetric": f"{_SERVICE}/generate_content_free_tier_requests",
        "quotaId": "GenerateRequestsPerMinutePerProjectPerModel-FreeTier",
        "quotaDimensions": {"location": "global", "model": model},
        "quotaValue": "10",
    }


_NO_MODEL: Final = "models/{model} is not found for API version v1beta, or is not supported for generateContent."
_REFUSALS: Final = {
    "400": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "bad_key": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "401": (401, "UNAUTHENTICATED", "Request had invalid authentication credentials."),
    "402": (402, "FAILED_PRECONDITION", "Your prepayment credits are depleted. Please manage your billing."),
    "403": (403, "PERMISSION_DENIED", "Your API key was reported as leaked. Please use another API key."),
    "404": (404, "NOT_FOUND", _NO_MODEL),
    "bad_model": (404, "NOT_FOUND", _NO_MODEL),
    "408": (408, "DEADLINE_EXCEEDED", "The request was not received in time."),
    "413": (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    "422": (422, "INVALID_ARGUMENT", "The request failed validation."),
    "429": (429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details."),
    "500": (500, "INTERNAL", "An internal error has occurred. Please retry."),
    "503": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "504": (504, "DEADLINE_EXCEEDED", "The request could not be completed within its deadline."),
}


def refused(body: Mapping[str, Any], patience: float | None) -> str:
    """What Gemini takes offence at in a request that is otherwise sound; an empty string when there is nothing."""
    if patience is not None and patience < LEAST_PATIENCE:
        return f"Manually set deadline {patience:g}s is too short. Minimum allowed deadline is {LEAST_PATIENCE:g}s."
    config = body.get("generationConfig")
    thinking = config.get("thinkingConfig") if isinstance(config, Mapping) else None
    named = {str(name).replace("_", "").lower() for name in thinking} if isinstance(thinking, Mapping) else set()
    if {"thinkingbudget", "thinkinglevel"} <= named:
        return "You can only set one of thinking budget and thinking level."
    return ""


def invalid(problem: str, *, status: int = 400, word: str = "INVALID_ARGUMENT") -> HttpReply:
    """A request that is not of this wire."""
    return HttpReply(status=status, body=encoded({"error": {"code": status, "message": problem, "status": word}}))
