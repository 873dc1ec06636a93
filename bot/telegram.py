"""python-telegram-bot inside our own loop: connected, watched and rebuilt in the background.

Nothing here ever stops trading: a Telegram that cannot be reached, a rejected token or a second poller is
said once and tried again with back-off. Updates leave through a queue whose `put` commits them, so that
Telegram's offset moves on only after the commit. The token never reaches a log: see `Redaction`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import warnings
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import quote

from telegram import Bot, BotCommandScopeAllPrivateChats, Update
from telegram.constants import ChatAction
from telegram.error import Conflict, InvalidToken, TelegramError
from telegram.ext import Updater
from telegram.request import HTTPXRequest
from telegram.warnings import PTBDeprecationWarning

from trading.errors import ConclaveError
from trading.exchange.bybit.endpoints import is_loopback
from trading.ports import Clock

_LOG = logging.getLogger(__name__)
_TELEGRAM: Final = "https://api.telegram.org"
_KINDS: Final = ("message", "callback_query")
_POLL_SECONDS: Final = 10
_SILENCE_SECONDS: Final = 90.0
_LOOK_SECONDS: Final = 1.0
_FIRST_WAIT: Final = 1.0
_LONGEST_WAIT: Final = 60.0
_CLOSE_SECONDS: Final = 1.5


class Redaction(logging.Filter):
    """Takes secrets out of every record of a handler: message, arguments, traceback."""

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__()
        self._secrets = [form for secret in secrets if secret for form in _forms(secret)]

    def __call__(self, text: str) -> str:
        """The text without any secret."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text

    def filter(self, record: logging.LogRecord) -> bool:
        """Always True: the record is cleaned, not dropped."""
        said = record.getMessage()
        if (clean := self(said)) != said:
            record.msg, record.args = clean, None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text and (clean := self(record.exc_text)) != record.exc_text:
            record.exc_text, record.exc_info = clean, None
        return True


def _forms(secret: str) -> list[str]:
    """The secret as it stands, as it stands in an address, and a bot token's secret half alone."""
    return [secret, quote(secret, safe=""), *[half for half in secret.split(":")[1:] if len(half) >= 8]]


def quiet() -> None:
    """Libraries that log every request (with the token in its address) or every failed poll keep silent.

    What they report comes back as exceptions and is said once, by us.
    """
    for name in ("httpx", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("telegram").setLevel(logging.CRITICAL)
    # PTB warns of its own attribute whenever it makes a RetryAfter; both kinds of value are understood here.
    warnings.filterwarnings("ignore", message=".*attribute `retry_after`", category=PTBDeprecationWarning)


class Door(asyncio.Queue[object]):
    """What the Updater takes for its queue: an update put here is committed when `put` returns."""

    def __init__(self, accept: Callable[[Update], Awaitable[None]]) -> None:
        super().__init__()
        self._accept = accept

    async def put(self, item: object) -> None:
        """Commit one update; nothing is kept in memory."""
        if isinstance(item, Update):
            await self._accept(item)


class _PollRequest(HTTPXRequest):
    """The connection of getUpdates, which remembers when it last brought an answer."""

    def __init__(self, clock: Clock, answered: Callable[[], None], **options: Any) -> None:
        super().__init__(**options)
        self._clock = clock
        self._answered = answered
        self.stamp = clock.monotonic()
        self.rejected = False

    async def do_request(self, *args: Any, **kwargs: Any) -> tuple[int, bytes]:
        code, payload = await super().do_request(*args, **kwargs)
        self.rejected = code in {401, 404}
        if code == 200:
            self.stamp = self._clock.monotonic()
            self._answered()
        return code, payload


class TelegramBot:
    """The connection to Telegram, or to the phone when `api_url` is its address.

    `bot` may be used at any time; its calls fail while Telegram cannot be reached. `run` polls until it is
    cancelled, `close` (within two seconds) ends what `run` began.
    """

    def __init__(
        self,
        *,
        token: str,
        api_url: str | None,
        door: Door,
        menu: Sequence[tuple[str, str]],
        clock: Clock,
        redact: Callable[[str], str],
    ) -> None:
        root = (api_url or _TELEGRAM).rstrip("/")
        # A server of our own is never behind the proxy that the environment may name.
        options: dict[str, Any] = {"httpx_kwargs": {"trust_env": not is_loopback(root)}}
        self._poll = _PollRequest(clock, self._polled, **options, connection_pool_size=2)
        self.bot = Bot(
            token,
            base_url=f"{root}/bot",
            base_file_url=f"{root}/file/bot",
            request=HTTPXRequest(connection_pool_size=8, pool_timeout=5.0, **options),
            get_updates_request=self._poll,
        )
        self._door = door
        self._menu = list(menu)
        self._clock = clock
        self._redact = redact
        self._updater: Updater | None = None
        self._said = ""
        self.connected = asyncio.Event()

    async def run(self) -> None:
        """Connects, and connects anew whenever the line has been dead for too long."""
        wait = _FIRST_WAIT
        while True:
            try:
                await self._connect()
            except TelegramError as error:
                self._trouble(error)
                await self._hang_up()
                await self._clock.sleep(_LONGEST_WAIT if isinstance(error, InvalidToken) else wait)
                wait = min(wait * 2, _LONGEST_WAIT)
                continue
            wait = _FIRST_WAIT
            await self._watch()
            await self._hang_up()

    async def close(self) -> None:
        """Ends polling and closes the connections, within two seconds even when nobody answers."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._hang_up()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS / 4):
                await self.bot.shutdown()

    async def answer_tap(self, query_id: str) -> None:
        """Ends the button's spinner. A tap that is too old to answer, or an outage, needs no repetition."""
        try:
            await self.bot.answer_callback_query(query_id)
        except TelegramError as error:
            _LOG.debug("tap_not_answered error=%s", self._redact(str(error)))

    async def typing(self, chat_id: int) -> None:
        """Shows for some seconds that an answer is on its way; a failure is nobody's loss."""
        try:
            await self.bot.send_chat_action(chat_id, ChatAction.TYPING)
        except TelegramError as error:
            _LOG.debug("typing_not_shown error=%s", self._redact(str(error)))

    @property
    def silence(self) -> float | None:
        """Seconds since Telegram last answered a poll; None while there is no connection."""
        return self._clock.monotonic() - self._poll.stamp if self.connected.is_set() else None

    async def _connect(self) -> None:
        """A fresh Updater each time: PTB's cannot be started again after a rejected token."""
        self._updater = Updater(self.bot, self._door)
        await self._updater.initialize()
        await self.bot.set_my_commands(self._menu, scope=BotCommandScopeAllPrivateChats())
        self._poll.stamp, self._poll.rejected = self._clock.monotonic(), False
        await self._updater.start_polling(
            timeout=_POLL_SECONDS, allowed_updates=_KINDS, error_callback=self._trouble
        )
        _LOG.info("telegram_connected bot=%s", self.bot.username)
        self.connected.set()

    async def _watch(self) -> None:
        """Returns when the token is rejected, or no poll has been answered for too long."""
        while not self._poll.rejected:
            silence = self._clock.monotonic() - self._poll.stamp
            if silence > _SILENCE_SECONDS:
                _LOG.warning("telegram_silent seconds=%.0f next='a new connection'", silence)
                return
            await self._clock.sleep(_LOOK_SECONDS)
        self._trouble(InvalidToken())

    async def _hang_up(self) -> None:
        updater, self._updater = self._updater, None
        if updater is not None and updater.running:
            # What ended the polling task (a storage failure, too) was said when it happened.
            with contextlib.suppress(TelegramError, ConclaveError):
                await updater.stop()

    def _polled(self) -> None:
        if self._said:
            _LOG.info("telegram_recovered")
            self._said = ""

    def _trouble(self, error: TelegramError) -> None:
        """Says a failure once, until it changes or is over."""
        what = _advice(error)
        if what != self._said:
            _LOG.warning("telegram_unreachable reason='%s'", self._redact(what))
        self._said = what


def _advice(error: TelegramError) -> str:
    if isinstance(error, InvalidToken):
        return "the token was rejected: set TELEGRAM_BOT_TOKEN to the one that @BotFather gave"
    if isinstance(error, Conflict):
        return "another program polls with the same token: stop it, one bot has one poller"
    return f"{type(error).__name__}: {error}; trading goes on, messages wait in the outbox"
