"""How much goes into a flush: its fixed cost and its cells are shared by many records."""

import asyncio

from ..world import World, body, event, parse


def test_many_matching_metrics_still_share_a_flush() -> None:
    """Fifty metrics of 250 customers fit into a flush: it is not cut after its first slice."""
    metrics = {
        f"m{number}": parse(body("COUNT", f"m{number}", event_type_filter={"in_values": ["use"]}))
        for number in range(50)
    }
    world = World(metrics=metrics)
    world.append(event(number, customer_id=f"c{number % 250}") for number in range(7_000))

    async def run() -> int:
        owner = world.owner()
        await owner.open()
        await owner.take(world.log.records[0])
        return owner.done["commits"]

    # 1,000 records, then 2,000, then 4,000; a cut at 10,000 cells made fourteen of them.
    assert asyncio.run(run()) <= 4
    assert world.state.counters["counted"] == 7_000
