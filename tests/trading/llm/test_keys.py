"""The key pool: whose turn it is, who rests for how long, who is gone, and what of a key is ever seen."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.trading.llm.in_memory import MemoryKeys
from trading.errors import BadInput, Transient
from trading.llm.keys import DRAIN_SECONDS, LONGEST_REST, Key, KeyPool, KeyRecord, keys_of

START = datetime(2026, 11, 23, 3, 0, tzinfo=UTC)
HF, GEMINI = "huggingface", "gemini"


@dataclass
class Wall:
    """A wall clock that is set by hand."""

    at: datetime = START

    def __call__(self) -> datetime:
        return self.at

    def pass_(self, seconds: float) -> None:
        """Let time pass, or set the clock back."""
        self.at += timedelta(seconds=seconds)


@dataclass
class FailingKeys(MemoryKeys):
    """A store whose disk is full for a while."""

    full: bool = False
    saved: list[Sequence[KeyRecord]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    async def save(self, records: Sequence[KeyRecord]) -> None:
        if self.full:
            raise Transient("the disk is full")
        self.saved.append(records)
        await super().save(records)


def secret(name: str) -> str:
    """A key that ends in its name."""
    return f"hf_{'0' * 30}{name}"


def pool_of(wall: Wall, *buckets: str, store: MemoryKeys | None = None) -> KeyPool:
    """A pool of Hugging Face keys; each bucket is one key for each letter of its name."""
    keys = [Key(provider=HF, bucket=bucket, secret=secret(f"{bucket}{place}")) for bucket in buckets for place in "12"]
    return KeyPool(keys, store or MemoryKeys(), wall)


def took(pool: KeyPool, *avoid: str) -> str:
    """The tail of the key whose turn it is, without its zeros."""
    key = pool.take(HF, avoid)
    return "" if key is None else key.tail.strip("0")


def key_of(pool: KeyPool, tail: str) -> Key:
    return next(key for key in pool._keys if key.tail.endswith(tail))


def test_the_least_used_key_comes_first_and_ties_go_by_order() -> None:
    """Every key once before any twice; buckets and keys to avoid are passed over."""
    pool = pool_of(Wall(), "a", "b")
    assert [took(pool) for _ in range(5)] == ["a1", "a2", "b1", "b2", "a1"]
    assert took(pool, "a") == "b1"
    assert took(pool, "b", key_of(pool, "a2").fingerprint) == "a1"
    assert took(pool, "a", "b") == ""
    assert [row.uses for row in pool.report()] == [3, 1, 2, 1]
    assert pool.take(GEMINI) is None


async def test_a_hint_cools_the_whole_bucket_and_nothing_else() -> None:
    """Until its very second; a shorter hint does not shorten it, a longer one does lengthen it."""
    wall = Wall()
    pool = pool_of(wall, "a", "b")
    await pool.cool(key_of(pool, "a1"), 60.0, "429")
    assert {took(pool) for _ in range(6)} == {"b1", "b2"}
    await pool.cool(key_of(pool, "a2"), 5.0, "429")
    assert pool.wait(HF) == 0.0
    await pool.cool(key_of(pool, "b1"), 90.0, "429")
    assert (took(pool), pool.wait(HF)) == ("", 60.0)
    wall.pass_(59.999)
    assert took(pool) == ""
    wall.pass_(0.001)
    assert (took(pool), pool.wait(HF)) == ("a1", 0.0)
    await pool.cool(key_of(pool, "b2"), 600.0, "429")
    assert [round(row.seconds) for row in pool.report()] == [0, 0, 600, 600]
    assert [row.state for row in pool.report()] == ["healthy", "healthy", "cooling", "cooling"]


@pytest.mark.parametrize("seconds", [0.0, -5.0, float("nan"), float("-inf")])
async def test_a_hint_in_the_past_is_harmless(seconds: float) -> None:
    """Nobody rests, and who rests goes on resting."""
    pool = pool_of(Wall(), "a")
    await pool.cool(key_of(pool, "a1"), seconds, "429")
    assert pool.wait(HF) == 0.0
    await pool.cool(key_of(pool, "a1"), 60.0, "429")
    await pool.cool(key_of(pool, "a1"), seconds, "429")
    assert pool.wait(HF) == 60.0


async def test_a_hint_without_end_is_not_for_ever() -> None:
    """A month at most."""
    pool = pool_of(Wall(), "a")
    await pool.cool(key_of(pool, "a1"), float("inf"), "429")
    assert pool.wait(HF) == LONGEST_REST


async def test_a_clock_that_is_set_back_does_not_lengthen_a_rest() -> None:
    """It begins anew, never ends early in real time, and does end."""
    wall = Wall(START + timedelta(days=1500))
    pool = pool_of(wall, "a")
    await pool.cool(key_of(pool, "a1"), 60.0, "429")
    wall.at = START
    assert pool.wait(HF) == 60.0
    wall.pass_(59.0)
    assert took(pool) == ""
    wall.pass_(1.0)
    assert took(pool) == "a1"


async def test_402_drains_the_bucket_for_six_hours_and_tells_its_owner_once() -> None:
    """Both keys of the account in flight: one sentence."""
    wall = Wall()
    pool = pool_of(wall, "a", "b")
    await asyncio.gather(pool.drain(key_of(pool, "a1")), pool.drain(key_of(pool, "a2")))
    assert [took(pool) for _ in range(3)] == ["b1", "b2", "b1"]
    (alert,) = pool.drain_alerts()
    assert alert.startswith("The credits of a Hugging Face key (…00a1) are used up (402)")
    assert "HF_TOKEN" in alert
    wall.pass_(3600)
    await pool.drain(key_of(pool, "a2"))
    await pool.cool(key_of(pool, "a1"), 10.0, "429")
    assert pool.drain_alerts() == ()
    assert [row.state for row in pool.report()] == ["draining", "draining", "healthy", "healthy"]
    wall.pass_(DRAIN_SECONDS)
    assert pool.report()[0].state == "healthy"
    await pool.drain(key_of(pool, "a2"))
    assert "00a2" in " ".join(pool.drain_alerts())


async def test_a_refused_key_is_gone_for_good_and_its_bucket_is_not() -> None:
    """Told once; when all are gone there is nothing to wait for."""
    wall = Wall()
    pool = pool_of(wall, "a")
    await pool.retire(key_of(pool, "a1"), 401)
    await pool.retire(key_of(pool, "a1"), 403)
    what, cure = "was refused (401) and is not used any more", "put a new one into HF_TOKEN or KEY_FILE"
    assert pool.drain_alerts() == (f"A Hugging Face key (…00a1) {what}: {cure}",)
    assert pool.drain_alerts() == ()
    wall.pass_(LONGEST_REST * 9)
    assert {took(pool) for _ in range(3)} == {"a2"}
    await pool.cool(key_of(pool, "a1"), 60.0, "429")
    assert pool.report()[0].state == "retired"
    await pool.retire(key_of(pool, "a2"), 403)
    assert (took(pool), pool.wait(HF), pool.wait(GEMINI)) == ("", None, None)
    assert KeyPool((), MemoryKeys(), wall).wait(HF) is None


async def test_a_refused_key_may_be_tried_again() -> None:
    """Once its owner says so, also in the next process; refused again, it is told again."""
    wall, store = Wall(), MemoryKeys()
    pool = pool_of(wall, "a", store=store)
    for name in ("a1", "a2"):
        await pool.retire(key_of(pool, name), 403)
    assert len(pool.drain_alerts()) == 2
    await pool.revive()
    again = pool_of(wall, "a", store=store)
    await again.load()
    assert [row.state for row in again.report()] == ["healthy", "healthy"]
    await again.retire(key_of(again, "a1"), 403)
    assert len(again.drain_alerts()) == 1


async def test_a_new_process_knows_what_the_old_one_knew() -> None:
    """Rest, retirement and, after `flush`, uses and what was told; a key that joins a bucket rests with it."""
    wall, store = Wall(), MemoryKeys()
    pool = pool_of(wall, "a", "b", "c", store=store)
    await pool.cool(key_of(pool, "a1"), 60.0, "429")
    await pool.retire(key_of(pool, "b1"), 401)
    await pool.drain(key_of(pool, "c1"))
    assert len(pool.drain_alerts()) == 2
    for _ in range(3):
        took(pool)
    await pool.flush()

    again = pool_of(wall, "c", "b", "a", store=store)
    assert took(again) == "c1"
    await again.load()
    assert {took(again) for _ in range(3)} == {"b2"}
    assert again.drain_alerts() == ()
    assert again.wait(HF) == 0.0
    assert [row.uses for row in again.report()] == [0, 0, 0, 6, 0, 0]

    key, mate = Key(provider=HF, bucket="x", secret=secret("a1")), Key(provider=HF, bucket="x", secret=secret("new"))
    grown = KeyPool((mate, key), store, wall)
    await grown.load()
    assert [row.seconds for row in grown.report()] == [60.0, 60.0]


async def test_an_alert_that_nobody_can_have_read_comes_again() -> None:
    """Killed between the commit and the chat: the next process tells it."""
    store = MemoryKeys()
    await (pool := pool_of(Wall(), "a", store=store)).retire(key_of(pool, "a1"), 401)
    again = pool_of(Wall(), "a", store=store)
    await again.load()
    assert len(again.drain_alerts()) == 1


async def test_a_store_that_fails_does_not_bring_a_key_back() -> None:
    """The rest counts at once; the next commit takes it along."""
    store = FailingKeys()
    pool = pool_of(Wall(), "a", store=store)
    store.full = True
    with pytest.raises(Transient):
        await pool.cool(key_of(pool, "a1"), 60.0, "429")
    assert pool.wait(HF) == 60.0
    store.full = False
    await pool.flush()
    assert {record.state for record in await store.load()} == {"cooling"}
    count = len(store.saved)
    await pool.flush()
    assert len(store.saved) == count


async def test_nothing_of_a_key_is_seen_but_its_tail() -> None:
    """Neither in its repr, nor in what is stored, reported or told, nor in a reason that quotes it."""
    store = MemoryKeys()
    pool = pool_of(Wall(), "a", store=store)
    key = key_of(pool, "a1")
    await pool.cool(key, 60.0, f"the provider said: bad token {key.secret}!")
    await pool.retire(key_of(pool, "a2"), 403)
    seen = f"{pool._keys} {key} {await store.load()} {pool.report()} {pool.drain_alerts()}"
    assert key.secret[:8] not in seen
    assert "the provider said: bad token …00a1!" in seen
    assert (len(key.fingerprint), key.fingerprint) == (
        16,
        Key(provider=GEMINI, bucket="", secret=key.secret).fingerprint,
    )


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["take", "cool", "drain", "retire", "pass"]),
        st.integers(0, 5),
        st.floats(-100, 100_000, allow_nan=False),
    ),
    max_size=40,
)


@given(ACTIONS)
def test_no_key_is_given_out_while_it_rests_or_once_it_is_gone(actions: list[tuple[str, int, float]]) -> None:
    """Whatever happens in whatever order, over restarts too."""
    asyncio.run(storm(actions))


async def storm(actions: list[tuple[str, int, float]]) -> None:
    """Against a model that remembers, by bucket and key, when each may be used again."""
    wall, store = Wall(), MemoryKeys()
    pool = pool_of(wall, "a", "b", "c", store=store)
    warm, gone = dict.fromkeys("abc", START), set[Key]()
    for what, place, seconds in actions:
        key = pool._keys[place]
        if what == "pass":
            wall.pass_(abs(seconds))
        elif what == "cool":
            await pool.cool(key, seconds, "429")
            warm[key.bucket] = max(warm[key.bucket], wall.at + timedelta(seconds=max(seconds, 0.0)))
        elif what == "drain":
            await pool.drain(key)
            warm[key.bucket] = max(warm[key.bucket], wall.at + timedelta(seconds=DRAIN_SECONDS))
        elif what == "retire":
            await pool.retire(key, 401)
            gone.add(key)
        free = {each for each in pool._keys if each not in gone and warm[each.bucket] <= wall.at}
        left = [warm[each.bucket] for each in pool._keys if each not in gone]
        wait = max((min(left) - wall.at).total_seconds(), 0.0) if left else None
        assert pool.wait(HF) == wait
        given_out = pool.take(HF)
        assert given_out in free if free else given_out is None
        await pool.flush()
        pool = pool_of(wall, "a", "b", "c", store=store)
        await pool.load()


# The parser


def buckets_of(keys: Sequence[Key]) -> dict[str, str]:
    """Bucket by the last two characters of a key."""
    return {f"{key.provider[0]}:{key.secret[-2:]}": key.bucket for key in keys}


def test_keys_come_from_variables_and_lines() -> None:
    """Commas and lines part accounts, bars do not; comments, blanks and doubles go."""
    keys = keys_of(
        ["hf_0000000a1, hf_0000000b1 | hf_0000000b2", ""],
        ["AIza000000g1,AQ.0000000g2,"],
        [
            "\ufeff# my accounts\n",
            "\n",
            "  hf_0000000c1 | AIza000000g3 | hf_0000000c2  # the second one\r\n",
            "hf_0000000a1\n",
            "|AQ.0000000g4|",
        ],
    )
    assert buckets_of(keys) == {
        "h:a1": "HF_TOKEN 1",
        "h:b1": "HF_TOKEN 2",
        "h:b2": "HF_TOKEN 2",
        "g:g1": "GEMINI_API_KEY 1",
        "g:g2": "GEMINI_API_KEY 2",
        "h:c1": "KEY_FILE line 3",
        "h:c2": "KEY_FILE line 3",
        "g:g3": "KEY_FILE line 3",
        "g:g4": "KEY_FILE line 5",
    }
    assert keys[0].secret == "hf_0000000a1"
    assert keys_of([], [], []) == ()


def test_a_key_named_twice_makes_its_accounts_one() -> None:
    """The file says that two keys of the variable are of one account: they cool together."""
    keys = keys_of(["hf_0000000a1,hf_0000000b1"], [], ["hf_0000000b1|hf_0000000c1", "hf_0000000c1|hf_0000000a1"])
    assert len(keys) == 3
    assert len({key.bucket for key in keys}) == 1


@pytest.mark.parametrize(
    ("hf", "gemini", "lines", "where"),
    [
        ([], [], ["# fine", "sk-proj-0123456789"], "line 2 of KEY_FILE"),
        ([], [], ["hf_0000000a1", "", "hf_0000 0000a1"], "line 3 of KEY_FILE"),
        ([], [], ["hf_1"], "line 1 of KEY_FILE"),
        ([], [], ["hf_0000000a1,hf_0000000b1"], "line 1 of KEY_FILE"),
        ([], [], ["hf_0000000\x00a1"], "line 1 of KEY_FILE"),
        (["hf_0000000a1,AIza0000000g1"], [], [], "key 2 of HF_TOKEN"),
        ([], ["hf_0000000a1"], [], "key 1 of GEMINI_API_KEY"),
        (["hf_00000ä00a1"], [], [], "key 1 of HF_TOKEN"),
    ],
)
def test_what_is_no_key_is_told_by_its_place(hf: list[str], gemini: list[str], lines: list[str], where: str) -> None:
    """Never by its text."""
    with pytest.raises(BadInput, match=where) as refused:
        keys_of(hf, gemini, lines)
    assert "0000" not in str(refused.value)
    assert "0123" not in str(refused.value)
