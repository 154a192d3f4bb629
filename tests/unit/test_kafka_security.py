"""RECOUNT_KAFKA_SECURITY_…: it reaches both clients, and what cannot be had is refused."""

import ast
import re
import ssl
from pathlib import Path

import pytest
import trustme

from pipeline.errors import UsageError
from pipeline.settings import describe, load_settings

from ..services import ROOT

PREFIX = "RECOUNT_KAFKA_SECURITY_"
LOGIN = {
    "PROTOCOL": "sasl_plaintext",
    "SASL_MECHANISM": "scram-sha-256",
    "SASL_USERNAME": "me",
    "SASL_PASSWORD": "secret",
}


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No .env of anybody's."""
    monkeypatch.chdir(tmp_path)


def put(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    """Set variables."""
    for name, text in given.items():
        monkeypatch.setenv(f"{PREFIX}{name}", text)


def test_without_settings_nothing_is_encrypted() -> None:
    """The default is plain, and both clients say so."""
    address = load_settings().address

    assert address.aiokafka()["security_protocol"] == "PLAINTEXT"
    assert address.rdkafka()["security.protocol"] == "PLAINTEXT"


@pytest.mark.parametrize("spelt", ["SASL_MECHANISM", "SASL_MECHANISMS"])
def test_a_login_reaches_both_clients(monkeypatch: pytest.MonkeyPatch, spelt: str) -> None:
    """Either spelling, in any case; both clients get the same."""
    given = dict(LOGIN)
    given[spelt] = given.pop("SASL_MECHANISM")
    put(monkeypatch, given)
    address = load_settings().address

    assert {"sasl_mechanism": "SCRAM-SHA-256", "sasl_plain_username": "me"}.items() <= (
        address.aiokafka().items()
    )
    assert address.aiokafka()["sasl_plain_password"] == "secret"  # noqa: S105  a test's
    rdkafka = address.rdkafka()
    assert rdkafka["security.protocol"] == "SASL_PLAINTEXT"
    assert rdkafka["sasl.mechanism"] == "SCRAM-SHA-256"
    assert (rdkafka["sasl.username"], rdkafka["sasl.password"]) == ("me", "secret")


def test_a_file_of_settings_counts_and_the_environment_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """.env is read for these as for all others; an empty variable hides what it says."""
    lines = [f"{PREFIX}{name}={text}" for name, text in LOGIN.items()]
    Path(".env").write_text("\n".join(lines))
    monkeypatch.setenv(f"{PREFIX}SASL_USERNAME", "other")

    assert load_settings().address.rdkafka()["sasl.username"] == "other"
    for name in LOGIN:
        monkeypatch.setenv(f"{PREFIX}{name}", "")
    assert load_settings().address.aiokafka()["security_protocol"] == "PLAINTEXT"


def test_a_secret_comes_from_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password is the file without the line break at its end, and is shown nowhere."""
    Path("word").write_text(" s3cret \n")
    given = {name: text for name, text in LOGIN.items() if name != "SASL_PASSWORD"}
    put(monkeypatch, {**given, "SASL_PASSWORD_FILE": "word"})
    settings = load_settings()

    assert settings.address.rdkafka()["sasl.password"] == " s3cret "
    assert "s3cret" not in str(describe(settings))
    shown = {row["variable"]: row["value"] for row in describe(settings)}
    assert shown[f"{PREFIX}SASL_PASSWORD_FILE"] == "word"
    assert shown[f"{PREFIX}SASL_USERNAME"] == "me"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"SASL_MECHANISM": "GSSAPI"}, "'GSSAPI' cannot be had; one of PLAIN, SCRAM-SHA-256"),
        ({"SASL_MECHANISM": "OAUTHBEARER"}, "one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ({"SASL_MECHANISM": ""}, "SASL_MECHANISM is not set"),
        ({"SASL_PASSWORD": ""}, "SASL_PASSWORD is not set"),
        ({"SASL_USERNAME": ""}, "SASL_USERNAME is not set"),
        ({"PROTOCOL": "TLS"}, "'TLS' cannot be had; one of PLAINTEXT, SSL, SASL_PLAINTEXT"),
        ({"PROTOCOL": ""}, "SASL_MECHANISM has no effect with PLAINTEXT"),
        ({"SSL_CA_LOCATION": "x"}, "SSL_CA_LOCATION has no effect with SASL_PLAINTEXT"),
        ({"SASL_MECHANISMS": "PLAIN"}, "set only one of"),
        ({"SASL_PASSWORD_FILE": "x"}, "set only one of"),
        ({"SASL_PASSWORD": "", "SASL_PASSWORD_FILE": "none"}, "none: No such file"),
        ({"SASL_PASSWORD": "", "SASL_PASSWORD_FILE": "empty"}, "empty is empty"),
        ({"SASL_OAUTHBEARER_CONFIG": "x"}, "SASL_OAUTHBEARER_CONFIG is not known; one of"),
        ({"SSL_KEY_PEM": "x"}, "SSL_KEY_PEM is not known; one of"),
        ({"SASL_KERBEROS_PRINCIPAL": ""}, "SASL_KERBEROS_PRINCIPAL is not known; one of"),
    ],
)
def test_what_cannot_be_had_is_refused(
    monkeypatch: pytest.MonkeyPatch, change: dict[str, str], said: str
) -> None:
    """Nobody connects otherwise than the operator meant; the message names variable and choice."""
    Path("empty").write_text("\n")
    put(monkeypatch, {**LOGIN, **change})

    with pytest.raises(UsageError, match=re.escape(said)) as raised:
        load_settings()
    assert PREFIX in str(raised.value)
    assert "secret" not in str(raised.value)


def test_an_unknown_name_in_the_file_is_refused() -> None:
    """The same holds of .env."""
    Path(".env").write_text(f"{PREFIX}SASL_PASWORD=x\n")

    with pytest.raises(UsageError, match="SASL_PASWORD is not known"):
        load_settings()


def test_certificates_are_read_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Authority, certificate and key are in the context; whatever is wrong names its variable."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path("ca")
    mine, other = authority.issue_cert("me@example.org"), authority.issue_cert("o@example.org")
    mine.private_key_and_cert_chain_pem.write_to_path("mine")
    other.private_key_pem.write_to_path("key")
    Path("text").write_text("no certificate")
    good = {
        "PROTOCOL": "SSL",
        "SSL_CA_LOCATION": "ca",
        "SSL_CERTIFICATE_LOCATION": "mine",
        "SSL_KEY_LOCATION": "mine",
    }
    put(monkeypatch, good)
    address = load_settings().address

    context = address.aiokafka()["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname
    assert address.rdkafka()["ssl.key.location"] == "mine"
    for change, said in (
        ({"SSL_CA_LOCATION": "none"}, "SSL_CA_LOCATION: none: No such file"),
        ({"SSL_CA_LOCATION": "text"}, "SSL_CA_LOCATION: text holds no certificate"),
        ({"SSL_KEY_LOCATION": "key"}, "SSL_CERTIFICATE_LOCATION and .*: mine and key are no"),
        ({"SSL_KEY_LOCATION": ""}, "are set together"),
        ({"SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "ldap"}, "one of https, none"),
    ):
        with monkeypatch.context() as changed:
            put(changed, change)
            with pytest.raises(UsageError, match=said):
                load_settings()
    put(monkeypatch, {"SSL_ENDPOINT_IDENTIFICATION_ALGORITHM": "none"})
    unchecked = load_settings().address.aiokafka()["ssl_context"]
    assert not unchecked.check_hostname
    assert unchecked.verify_mode == ssl.CERT_REQUIRED


def test_every_client_is_made_with_the_login() -> None:
    """No module makes a client of Kafka with settings of its own: each takes an address's."""
    kinds = {"AIOKafkaConsumer", "AIOKafkaProducer", "AIOKafkaClient", "AIOKafkaAdminClient"}
    kinds |= {"PlacedConsumer", "PlacedProducer"}
    kinds |= {"AdminClient", "Producer", "Consumer", "create_conn"}
    logins = {"address.aiokafka()", "address.first.aiokafka()", "self.app.kafka", "login"}
    logins |= {"address.rdkafka()", "self.address.rdkafka()", "self._address.rdkafka()"}
    made = {}
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in kinds:
                first = [ast.unparse(each) for each in node.args]
                first += [ast.unparse(each.value) for each in node.keywords if each.arg is None]
                place = f"{path.relative_to(ROOT)}: {ast.unparse(node.func)}"
                made[place] = bool(logins & set(first))

    assert len(made) >= 6
    assert [place for place, given in made.items() if not given] == []
