"""Keys over several servers: what is made or revoked counts at the next request, everywhere."""

from pathlib import Path

import httpx

from ..services import Recount
from .doors import serving

ROUNDS = 5


def test_a_revoked_key_is_refused_by_every_server_at_once(
    recount: Recount, tmp_path: Path
) -> None:
    """The first request after `keys revoke` has ended is 401, also where the key was just used."""
    recount.run("init", "--partitions", "1")
    with (
        serving(recount, tmp_path / "one.log") as one,
        serving(recount, tmp_path / "two.log", one.keys) as two,
        httpx.Client(timeout=30) as client,
    ):

        def status(url: str, key: str) -> int:
            headers = {"Authorization": f"Bearer {key}"}
            return client.get(f"{url}/recount/v1/status", headers=headers).status_code

        for number in range(ROUNDS):
            made = recount.run("keys", "create", "--name", f"k{number}", "--role", "read")[0]
            assert [status(each.url, made["key"]) for each in (one, two)] == [200, 200]
            recount.run("keys", "revoke", made["id"])
            assert [status(each.url, made["key"]) for each in (two, one)] == [401, 401]

        assert [status(each.url, one.keys["read"]) for each in (one, two)] == [200, 200]
