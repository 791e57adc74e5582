"""What all connections keep together is bounded, and whoever has begun can end."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from authproxy.server.budget import Account, Budget, Pool

LARGEST = 100
LIMIT = 250


@dataclass
class Holder:
    """Takes room piece by piece until it has `length`; waits when there is none."""

    budget: Budget
    length: int
    has: int = 0
    called: int = 0
    account: Account = field(init=False)

    def __post_init__(self) -> None:
        self.account = self.budget.account(self._call)

    def _call(self) -> None:
        self.called += 1

    def take(self, size: int) -> bool:
        size = min(size, self.length - self.has)
        if not size or not self.account.take(size):
            return False
        self.has += size
        return True


def test_a_pool_gives_what_it_has_and_takes_it_back() -> None:
    pool = Pool(10)
    assert pool.take(7)
    assert not pool.take(4)
    pool.force(4)
    assert pool.left == -1
    pool.give_back(11)
    assert pool.take(10)


def test_room_for_one_largest_is_kept_for_the_one_that_waits_longest() -> None:
    budget = Budget(LIMIT, LARGEST)
    holders = [Holder(budget, LARGEST) for _ in range(4)]
    for holder in holders[:3]:
        assert holder.take(50)
    assert not budget.take(1)
    first, second = holders[1], holders[2]
    assert first.take(50)  # with the room that is kept
    assert not second.take(50)
    assert not holders[3].take(1)
    assert budget.scarce
    first.account.close()
    assert (second.called, holders[3].called) == (1, 0)
    assert second.take(50)


def test_nobody_overtakes_whoever_waits() -> None:
    budget = Budget(LIMIT, LARGEST)
    full, favoured, waiting, late = (Holder(budget, LARGEST) for _ in range(4))
    assert full.take(100)
    assert budget.take(50)
    assert favoured.take(10)
    assert not waiting.take(60)
    budget.give_back(50)
    assert not late.take(1)  # there is room for it, but not for the one before it
    assert not budget.account(lambda: None).take(1)
    full.account.close()
    assert waiting.called == 1
    assert waiting.take(60)
    assert late.called == 1
    assert late.take(1)


def test_who_is_gone_holds_up_nobody() -> None:
    budget = Budget(LIMIT, LARGEST)
    full, favoured, waiting, next_one = (Holder(budget, LARGEST) for _ in range(4))
    assert full.take(100)
    assert budget.take(50)
    assert favoured.take(10)
    assert not waiting.take(10)
    assert not next_one.take(10)
    budget.give_back(20)
    assert (waiting.called, next_one.called) == (1, 0)
    waiting.account.close()
    assert next_one.called == 1
    waiting.account.close()
    assert next_one.take(10)


@given(
    st.lists(st.integers(1, LARGEST), min_size=1, max_size=12),
    st.lists(st.integers(0, 1000), max_size=200),
    st.integers(LARGEST, 3 * LARGEST),
)
def test_whatever_the_order_all_end_and_nothing_is_exceeded(
    lengths: list[int], order: list[int], limit: int
) -> None:
    """Senders that go on whenever they are let, in any order, all come to their end."""
    budget = Budget(limit, LARGEST)
    open_ones = [Holder(budget, length) for length in lengths]
    turns = iter(order)
    idle_turns = 0
    while open_ones:
        assert sum(holder.has for holder in open_ones) <= limit
        at = next(turns, 0) % len(open_ones)
        # Those that wait go on when they are called, and not before.
        ready = [each for each in open_ones if not each.account.wanted or each.called]
        assert ready, "all wait, and nobody is called"
        holder = ready[at % len(ready)]
        holder.called = 0
        if holder.has == holder.length:
            holder.account.close()
            open_ones.remove(holder)
            continue
        idle_turns = 0 if holder.take(13) else idle_turns + 1
        assert idle_turns <= 2 * len(open_ones), "nobody gets on"
    assert not budget.scarce or limit - LARGEST < 256 * 1024
