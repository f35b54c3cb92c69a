"""What each of many starts does in one go does not add up to one long round of the event loop."""

from __future__ import annotations

import asyncio

from container_provisioner.turns import turn


async def test_no_two_go_on_in_the_same_round() -> None:
    round_number, rounds = 0, []

    async def count() -> None:
        nonlocal round_number
        while True:
            round_number += 1
            await asyncio.sleep(0)

    async def start() -> None:
        await turn()
        rounds.append(round_number)

    counting = asyncio.ensure_future(count())
    await asyncio.gather(*(start() for _ in range(20)))
    counting.cancel()
    assert len(set(rounds)) == 20


def test_a_second_event_loop_has_turns_of_its_own() -> None:
    for _ in range(2):
        asyncio.run(_both())


async def _both() -> None:
    await asyncio.gather(turn(), turn())
