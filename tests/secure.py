"""A broker whose listeners are those of companies: TLS, logins, client certificates, rights."""

import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trustme
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from pipeline.stack.probe import kafka_answers
from pipeline.stack.processes import Ports, free_port, kafka_command

from .waiting import eventually

SECURITY = "RECOUNT_KAFKA_SECURITY_"
USER, PASSWORD = "meterer", "p4ss, w0rd=1"
KEY_PASSWORD = "of the key"  # noqa: S105
LISTENERS = {  # name → protocol; MUTUAL asks for a certificate, ASTRAY leads nowhere
    "PLAINTEXT": "PLAINTEXT",
    "SSL": "SSL",
    "MUTUAL": "SSL",
    "SASL_PLAINTEXT": "SASL_PLAINTEXT",
    "SASL_SSL": "SASL_SSL",
    "ASTRAY": "PLAINTEXT",
}
_PLAIN = 'org.apache.kafka.common.security.plain.PlainLoginModule required user_{}="{}";'
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


def certify(folder: Path) -> None:
    """Make an authority, a broker's certificate and those of clients."""
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    stranger.cert_pem.write_to_path(folder / "stranger.pem")
    broker = authority.issue_cert("127.0.0.1", "localhost")
    client = authority.issue_cert("meterer@example.org")
    other = stranger.issue_cert("meterer@example.org")
    chain = b"".join(part.bytes() for part in broker.cert_chain_pems)
    (folder / "broker.pem").write_bytes(_pkcs8(broker) + chain)
    for name, each in (("client", client), ("other", other)):
        each.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        (folder / f"{name}.key").write_bytes(_pkcs8(each, KEY_PASSWORD))


def make_user(admin: AdminClient) -> None:
    """Make the user of both SCRAM mechanisms."""
    for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
        user = UserScramCredentialUpsertion(
            USER, ScramCredentialInfo(mechanism, 4096), PASSWORD.encode()
        )
        for future in admin.alter_user_scram_credentials([user]).values():
            future.result(20)


def login_lines(certificates: Path, listeners: Sequence[str]) -> dict[str, str]:
    """The lines of a broker's configuration for TLS, and for the login at these listeners."""
    lines = {
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.pem"),
    }
    for name in listeners:
        of = f"listener.name.{name.lower()}"
        lines[f"{of}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"
        lines[f"{of}.plain.sasl.jaas.config"] = _PLAIN.format(USER, PASSWORD)
        lines[f"{of}.scram-sha-256.sasl.jaas.config"] = _SCRAM
        lines[f"{of}.scram-sha-512.sasl.jaas.config"] = _SCRAM
    return lines


def _bound() -> socket.socket:
    """A socket that holds a port, so that nobody listens there."""
    made = socket.socket()
    made.bind(("127.0.0.1", 0))
    return made


@dataclass
class SecureKafka:
    """The broker, its certificates and its user. No ACL: all may do all, until one is set."""

    folder: Path
    ports: dict[str, int] = field(
        default_factory=lambda: {name: free_port() for name in LISTENERS}
    )
    nowhere: socket.socket = field(default_factory=_bound)  # where ASTRAY says that it is
    process: "subprocess.Popen[bytes] | None" = None

    def at(self, listener: str, host: str = "127.0.0.1") -> str:
        """The address of a listener."""
        return f"{host}:{self.ports[listener]}"

    @property
    def astray(self) -> int:
        """The port that ASTRAY gives as its own: nobody listens there, and nobody else can."""
        port: int = self.nowhere.getsockname()[1]
        return port

    @property
    def ca(self) -> str:
        """Who signed the broker's certificate."""
        return str(self.folder / "ca.pem")

    def environment(self, listener: str, mechanism: str | None = None) -> dict[str, str]:
        """The variables of a client of a listener."""
        protocol = LISTENERS[listener]
        found = {"PROTOCOL": protocol}
        if protocol.startswith("SASL"):
            assert mechanism is not None
            found |= {
                "SASL_MECHANISM": mechanism,
                "SASL_USERNAME": USER,
                "SASL_PASSWORD": PASSWORD,
            }
        if protocol.endswith("SSL"):
            found["SSL_CA_LOCATION"] = self.ca
        if listener == "MUTUAL":
            found |= {
                "SSL_CERTIFICATE_LOCATION": str(self.folder / "client.pem"),
                "SSL_KEY_LOCATION": str(self.folder / "client.key"),
                "SSL_KEY_PASSWORD": KEY_PASSWORD,
            }
        return {
            "RECOUNT_KAFKA": self.at(listener),
            **{f"{SECURITY}{name}": text for name, text in found.items()},
        }

    def start(self) -> None:
        """Start, and make the user of both SCRAM mechanisms."""
        certify(self.folder)
        command = kafka_command(self.folder, Ports(self.ports["PLAINTEXT"], free_port(), 0))
        config = self.folder / "kafka.properties"
        lines = dict(line.split("=", 1) for line in config.read_text().splitlines())
        more = {name: self.at(name) for name in LISTENERS if name != "PLAINTEXT"}
        told = {**more, "ASTRAY": f"127.0.0.1:{self.astray}"}
        for each, places in (("listeners", more), ("advertised.listeners", told)):
            lines[each] += "".join(f",{name}://{place}" for name, place in places.items())
        lines["listener.security.protocol.map"] += "".join(
            f",{name}:{LISTENERS[name]}" for name in more
        )
        lines["inter.broker.listener.name"] = "PLAINTEXT"
        lines |= login_lines(self.folder, ["SASL_SSL", "SASL_PLAINTEXT"])
        lines |= {
            "listener.name.mutual.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
        }
        config.write_text("".join(f"{name}={text}\n" for name, text in lines.items()))
        with (self.folder / "kafka.log").open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        eventually(lambda: kafka_answers(self.at("PLAINTEXT")), within_s=60, because="it answers")
        make_user(self.admin)

    @property
    def admin(self) -> AdminClient:
        """A client that may do all."""
        return AdminClient({"bootstrap.servers": self.at("PLAINTEXT"), "log_level": 0})

    @contextmanager
    def forbidden(self, kind: ResourceType, name: str, operation: AclOperation) -> Iterator[None]:
        """For a block, the user may do everything with this thing but one operation."""
        rules = [
            AclBinding(kind, name, ResourcePatternType.LITERAL, f"User:{USER}", "*", each, type_)
            for each, type_ in (
                (AclOperation.ALL, AclPermissionType.ALLOW),
                (operation, AclPermissionType.DENY),
            )
        ]
        filters = [
            AclBindingFilter(
                kind,
                name,
                ResourcePatternType.LITERAL,
                None,
                None,
                AclOperation.ANY,
                AclPermissionType.ANY,
            )
        ]
        admin = self.admin
        for future in admin.create_acls(rules).values():
            future.result(20)
        eventually(
            lambda: len(admin.describe_acls(filters[0]).result(20)) == len(rules),
            within_s=20,
            because="the broker obeys the rules",
        )
        try:
            yield
        finally:
            for deleted in admin.delete_acls(filters).values():
                deleted.result(20)


def _pkcs8(issued: trustme.LeafCert, password: str | None = None) -> bytes:
    """The key in the form that Java reads."""
    key = load_pem_private_key(issued.private_key_pem.bytes(), None)
    hidden = NoEncryption() if password is None else BestAvailableEncryption(password.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)


@contextmanager
def secure_kafka(folder: Path) -> Iterator[SecureKafka]:
    """A broker that ends with the block."""
    made = SecureKafka(folder)
    try:
        made.start()
        yield made
    finally:
        made.nowhere.close()
        if made.process is not None:
            made.process.kill()
            made.process.wait(20)
