"""A stage with traffic on it: what was acknowledged, and what is on the log."""

import asyncio

from pipeline.edges.kafka import KafkaLog
from pipeline.edges.kafka_names import topic_names

from ..soak.traffic import Traffic
from ..waiting import eventually
from .brokers import OwnBrokers
from .stage import PARTITIONS, Stage, seeded

_RATE = 200  # events a second
_WITHIN_S = 90.0  # Kafka takes nine seconds to give up a broker that was killed


class Sending:
    """A stage with traffic on it."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.topic = topic_names(stage.recount.deployment)["events"]
        self.traffic = Traffic(
            stage.recount.services.address,
            self.topic,
            partitions=PARTITIONS,
            seed=seeded(stage.name).randrange(10**6),
            rate=_RATE,
        )

    def moves(self, fault: str) -> None:
        """The stream moves again, while traffic goes on."""
        self.stage.recovers(fault, within_s=_WITHIN_S, live=True)

    def values(self) -> list[bytes]:
        """Every record that is on the log, but those of transactions."""
        recount, found = self.stage.recount, list[bytes]()

        async def read() -> None:
            names = topic_names(recount.deployment)
            address = recount.services.address
            log = KafkaLog(address, events=names["events"], rejected=names["rejected"])
            try:
                for number, span in (await log.spans()).items():
                    async for batch in log.read(number, span.start, span.end):
                        found.extend(bytes(record.value or b"") for record in batch)
            finally:
                await log.close()

        asyncio.run(read())
        return [value for value in found if b'"transaction_id": "x' not in value]

    def ends(self) -> None:
        """End the traffic; then everything equals the oracle, also what was taken back."""
        self.traffic.stop()
        self.stage.caught_up()
        eventually(
            lambda: not any(line.get("stale") for line in self.stage.recount.run("status")),
            within_s=60,
            because="what was taken back is counted again",
        )
        self.stage.exact()

    def exact(self, brokers: OwnBrokers) -> None:
        """End the traffic with all brokers there: each record is there once, and counted."""
        brokers.start()
        self.ends()
        assert len(self.values()) == self.traffic.sent
