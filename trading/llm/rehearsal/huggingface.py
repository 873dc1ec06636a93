"""Answers and refusals as the router of Hugging Face words them: chat completions in OpenAI's shape."""

from __future__ import annotations

from typing import Any, Final

from trading.llm.rehearsal.asked import Asked
from trading.llm.rehearsal.items import Item
from trading.llm.rehearsal.replies import HttpReply, Wait, encoded, page
from trading.llm.rehearsal.said import Said, tokens

_FINISH: Final = {"stop": "stop", "length": "length", "filter": "content_filter"}


def completion(said: Said, asked: Asked, *, ident: str, created: int) -> dict[str, Any]:
    """A chat completion; `created` in seconds since 1970."""
    return {
        "id": f"chatcmpl-{ident}",
        "object": "chat.completion",
        "created": created,
        "model": asked.model.partition(":")[0],
        "system_fingerprint": "fp_rehearsal",
        "choices": [] if said.absent else [_choice(said)],
        "usage": _usage(said, asked),
    }


def _choice(said: Said) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": said.text}
    if said.thinking:
        message["reasoning_content"] = said.thinking
    if said.blocked:
        message["refusal"] = "The prompt was blocked by the content filter."
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": _FINISH[said.finish]}


def _usage(said: Said, asked: Asked) -> dict[str, Any]:
    prompt, thought = tokens(asked.prompt), tokens(said.thinking)
    answer = tokens(said.text) + thought
    usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
    if thought:
        usage["completion_tokens_details"] = {"reasoning_tokens": thought}
    return usage


def refusal(item: Item, model: str, now: float) -> HttpReply:
    """A refusal by its code; `now` in seconds since 1970, for hints that are dates."""
    wait = Wait.of(item, "seconds")
    if "retry_info" in wait.forms:  # the router has no such field
        wait = Wait(seconds=wait.seconds, forms=wait.forms - {"retry_info"} | {"seconds"})
    status = _STATUS.get(item.name) or int(item.name)
    if status == 502:
        return page(502, "502 Bad Gateway")
    body = encoded({"error": _error(item.name, model)})
    return HttpReply(status=status, body=body, headers=wait.headers(now), hint=wait.hint)


_STATUS: Final = {"bad_model": 400, "bad_key": 401}
_SAID: Final = {
    "400": "Bad request: the request body could not be understood",
    "401": "Invalid username or password.",
    "bad_key": "Invalid username or password.",
    "402": "You have exceeded your monthly included credits for Inference Providers. "
    "Subscribe to PRO to get 20x more monthly included credits.",
    "403": "This authentication method does not have sufficient permissions to call Inference Providers on behalf of "
    "the user",
    "408": "Request Timeout",
    "413": "Payload too large: the request body exceeds 2097152 bytes",
    "422": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8192",
    "429": "Rate limit exceeded: too many requests, please slow down",
    "500": "Internal Server Error",
    "503": "The model is overloaded, please try again later",
    "504": "The request timed out before the model finished generating",
}


def _error(name: str, model: str) -> object:
    """Some of the router's errors are sentences, those about the model are objects."""
    if name == "bad_model":
        text = f"The requested model '{model}' is not supported by any provider you have enabled."
        return {"message": text, "type": "invalid_request_error", "param": "model", "code": "model_not_supported"}
    if name == "404":
        text = f"The requested model '{model}' does not exist"
        return {"message": text, "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    return _SAID[name]


def invalid(problem: str) -> HttpReply:
    """A request that is not of this wire."""
    error = {"message": problem, "type": "invalid_request_error", "param": None, "code": None}
    return HttpReply(status=400, body=encoded({"error": error}))
