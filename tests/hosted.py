"""A Redis as it is hosted: TLS alone, client certificates, users with few rights, no CONFIG."""

from pathlib import Path

import trustme

from pipeline.stack.processes import free_port

from .roles import AUTHENTICATED, ROLES, rule_of


def certify_redis(folder: Path) -> None:
    """Make an authority, a server's certificate, a client's, and one that a stranger signed."""
    folder.mkdir(parents=True, exist_ok=True)
    ca, other = trustme.CA(), trustme.CA()
    ca.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other.pem")
    for name, cert in (
        ("server", ca.issue_cert("127.0.0.1", "localhost")),
        ("client", ca.issue_cert("client")),
        ("stranger", other.issue_cert("client")),
    ):
        cert.private_key_pem.write_to_path(folder / f"{name}.key")
        (folder / f"{name}.pem").write_bytes(
            b"".join(blob.bytes() for blob in cert.cert_chain_pems)
        )


def tls_options(folder: Path, port: int) -> list[str]:
    """How to start a server that speaks TLS alone, and wants certificates."""
    return [
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "yes"),
        *("--tls-cert-file", f"{folder}/server.pem", "--tls-key-file", f"{folder}/server.key"),
        *("--tls-ca-cert-file", f"{folder}/ca.pem"),
    ]


def tls_query(folder: Path, **options: str) -> str:
    """The options of a URL that connects there; options: over those that are right."""
    known = {
        "ssl_ca_certs": f"{folder}/ca.pem",
        "ssl_certfile": f"{folder}/client.pem",
        "ssl_keyfile": f"{folder}/client.key",
    }
    return "&".join(f"{name}={text}" for name, text in ({**known, **options}).items() if text)


class Hosted:
    """A Redis that speaks TLS alone, wants certificates and users, and has no CONFIG."""

    def __init__(self, folder: Path, deployment: str) -> None:
        self.folder, self.port, self.deployment = folder, free_port(), deployment
        certify_redis(folder)

    def url(self, user: str = "admin", *, password: str = AUTHENTICATED, **options: str) -> str:
        """The address of a user; options: of the URL, over those that are right."""
        query = tls_query(self.folder, **options)
        return f"rediss://{user}:{password}@127.0.0.1:{self.port}/0?{query}"

    def options(self) -> list[str]:
        """How to start it."""
        users = [f"user admin on >{AUTHENTICATED} ~* +@all -config", "user default off"]
        users += [f"user {role} {rule_of(role, self.deployment)}" for role in ROLES]
        users.append(f"user nobody on >{AUTHENTICATED} ~* +@all -rpush")
        users.append(f"user plain on >{AUTHENTICATED} ~* +@read +multi +exec +script|load")
        (self.folder / "users.acl").write_text("".join(f"{line}\n" for line in users))
        return [
            *tls_options(self.folder, self.port),
            *("--aclfile", f"{self.folder}/users.acl"),
            *("--unixsocket", f"{self.folder}/socket"),
        ]
