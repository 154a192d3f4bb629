"""A Kafka and a Redis that nobody reaches but over TLS, with a certificate and a login.

Kafka has one listener for clients, SASL_SSL; Redis has TLS alone, and no user without a password.
Both stand behind a proxy, which sees how each connection begins.
"""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from confluent_kafka.admin import AdminClient

from pipeline.edges.kafka_client import KafkaAddress
from pipeline.stack.probe import kafka_answers
from pipeline.stack.processes import Ports, free_port, kafka_command

from ..hosted import Hosted
from ..secure import KEY_PASSWORD, PASSWORD, SECURITY, USER, certify, login_lines, make_user
from ..waiting import eventually
from .own import own_redis
from .proxy import Proxy

TLS = 22  # the first byte of whoever begins a TLS handshake
_BROKER = 'org.apache.kafka.common.security.plain.PlainLoginModule required username="{0}" '
_BROKER += 'password="{1}" user_{0}="{1}";'


@dataclass(frozen=True)
class Sealed:
    """Both services. hosted: the Redis behind its proxy, with a user for each role."""

    folder: Path
    kafka: Proxy
    redis: Proxy
    hosted: Hosted

    @property
    def places(self) -> dict[str, str]:
        """host:port → which service it is."""
        return {f"127.0.0.1:{self.kafka.port}": "kafka", f"127.0.0.1:{self.redis.port}": "redis"}

    def environment(self, role: str, *, password: str = PASSWORD) -> dict[str, str]:
        """The variables of a role: the documented ones, secrets in files."""
        words = {"login": password, "key": KEY_PASSWORD}
        for name, text in words.items():
            (self.folder / f"{name}-{len(text)}").write_text(f"{text}\n")
        return {
            "RECOUNT_KAFKA": f"127.0.0.1:{self.kafka.port}",
            "RECOUNT_REDIS": self.hosted.url(role).replace(
                f":{self.hosted.port}/", f":{self.redis.port}/"
            ),
            "RECOUNT_DEPLOYMENT": self.hosted.deployment,
            f"{SECURITY}PROTOCOL": "SASL_SSL",
            f"{SECURITY}SASL_MECHANISM": "SCRAM-SHA-512",
            f"{SECURITY}SASL_USERNAME": USER,
            f"{SECURITY}SASL_PASSWORD_FILE": f"{self.folder}/login-{len(password)}",
            f"{SECURITY}SSL_CA_LOCATION": f"{self.folder}/ca.pem",
            f"{SECURITY}SSL_CERTIFICATE_LOCATION": f"{self.folder}/client.pem",
            f"{SECURITY}SSL_KEY_LOCATION": f"{self.folder}/client.key",
            f"{SECURITY}SSL_KEY_PASSWORD_FILE": f"{self.folder}/key-{len(KEY_PASSWORD)}",
        }

    def strangers(self) -> list[str]:
        """Whoever came without TLS, without a login or with a wrong one, or lacked a right."""
        found = [
            f"{name}: {count} began with byte {first}"
            for name, proxy in (("kafka", self.kafka), ("redis", self.redis))
            for first, count in proxy.firsts.items()
            if first != TLS
        ]
        if self.kafka.dropped:  # a client that was let in is the one to leave
            found.append(f"kafka: {self.kafka.dropped} were shown out")
        with redis.Redis.from_url(self.hosted.url()) as client:
            found += [
                f"redis: {each['username']}: {each['reason']} {each['object']}, {each['count']}"
                for each in client.acl_log()
            ]
            found += [
                f"redis: {name} {count}"
                for name, count in client.info("errorstats").items()
                if name.removeprefix("errorstat_") in {"NOAUTH", "WRONGPASS", "NOPERM"}
            ]
        return found


def _broker(folder: Path, port: int, front: int) -> list[str]:
    """Write the configuration of the broker, and return how to start it."""
    command = kafka_command(folder, Ports(port, free_port(), 0))
    config = folder / "kafka.properties"
    lines = dict(line.split("=", 1) for line in config.read_text().splitlines())
    for each, at in (("listeners", port), ("advertised.listeners", front)):
        _, *rest = lines[each].split(",")
        lines[each] = ",".join([f"SASL_SSL://127.0.0.1:{at}", *rest])
    lines["listener.security.protocol.map"] = "SASL_SSL:SASL_SSL,CONTROLLER:PLAINTEXT"
    lines |= login_lines(folder, ["SASL_SSL"])
    of = "listener.name.sasl_ssl"
    lines |= {
        "inter.broker.listener.name": "SASL_SSL",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        f"{of}.plain.sasl.jaas.config": _BROKER.format(USER, PASSWORD),
        f"{of}.ssl.client.auth": "required",
        # Whoever is not let in is shown out at once, not when it has left by itself.
        "connection.failed.authentication.delay.ms": "0",
    }
    config.write_text("".join(f"{name}={text}\n" for name, text in lines.items()))
    return command


@contextmanager
def sealed(folder: Path, deployment: str) -> Iterator[Sealed]:
    """Both services, which end with the block."""
    certify(folder)
    inside = free_port()
    hosted = Hosted(folder / "hosted", deployment)
    made = Sealed(folder, Proxy(inside), Proxy(hosted.port), hosted)
    login = {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.username": USER,
        "sasl.password": PASSWORD,
        "ssl.ca.location": f"{folder}/ca.pem",
        "ssl.certificate.location": f"{folder}/client.pem",
        "ssl.key.location": f"{folder}/client.key",
        "ssl.key.password": KEY_PASSWORD,
    }
    at = KafkaAddress(f"127.0.0.1:{made.kafka.port}", login)
    with own_redis(hosted.folder, *hosted.options(), url=hosted.url()):
        with (folder / "kafka.log").open("ab") as output:
            broker = subprocess.Popen(
                _broker(folder, inside, made.kafka.port), stdout=output, stderr=output
            )
        try:
            eventually(lambda: kafka_answers(at), within_s=60, because="Kafka lets us in")
            make_user(AdminClient(at.rdkafka()))
            yield made
        finally:
            broker.kill()
            broker.wait(20)
            for proxy in (made.kafka, made.redis):
                proxy.close()
