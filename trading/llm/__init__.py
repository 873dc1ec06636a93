"""The models behind the council: whom to ask, with which key, for how long and at what price.

    wire          one request to one model, as values, and how it can fail
    huggingface   chat completions through `huggingface_hub.AsyncInferenceClient`
    gemini        `generateContent` through `google-genai`
    hints         how long a provider asks us to wait, wherever it says so
    keys          many keys in quota buckets: cooled, retired, remembered over restarts
    budget        tokens and dollars a day, reserved before a call
    breaker       a model that keeps failing is left alone for a while
    caller        `Caller`, the `Panel` of real models: deadline, attempts, one repair
    cassette      a `Panel` that answers from a recording, and one that records
    rehearsal/    a model server of our own that speaks both wires, for trying all of this without a key

The SDKs are imported on first use: they weigh 60 MB.
"""
