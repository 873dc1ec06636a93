"""A model server of our own: what Hugging Face's router and Gemini say on the wire, without a key and without a model.

    server      `RehearsalServer`: one port on loopback, start and stop it as often as you like
    script      what the next calls will be answered with: by agent, provider, key, bucket or for anybody
    items       everything a call can be answered with, one line each
    asked       a request on either wire: who is asked, with which key, about which packet
    answers     three agents of its own opinion: well-formed, grounded answers reasoned from the facts of the packet
    temperament how the agents are disposed: sound, contrarian, drunk, hostile
    said        what the model said: soundly, or spoilt: cut, wrapped, ungrounded, out of range
    huggingface, gemini   an answer and a refusal as each provider words it
    delivery    how bytes reach the caller: at once, late, a byte at a time, never
    log         what was asked: times, models, the last four characters of keys

`docs/rehearsal.md` says how to rehearse with it. Nothing here reads the twins of `trading.council`: it is a second
opinion, and it knows the council only by what stands in a request.
"""
