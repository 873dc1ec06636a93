"""The phone: a Telegram Bot API server on loopback with a page that looks like a chat.

It is a service of its own with its own durable store, so that an unmodified python-telegram-bot talks to it
as it talks to Telegram. It knows nothing of trading and imports nothing of the rest of the program.
"""

from bot.phone.errors import PhoneError, PhonePortInUse, PhoneStoreUnusable
from bot.phone.server import DEFAULT_TOKEN, Phone

__all__ = ["DEFAULT_TOKEN", "Phone", "PhoneError", "PhonePortInUse", "PhoneStoreUnusable"]
