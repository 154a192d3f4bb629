"""docs/http.md: every request, sent in order to a real server, is answered as the page shows."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from ..guide import Command, File, Request, Run, as_text, exported, sent, steps
from ..services import ROOT, Recount
from ..stored import keys_of
from .doors import serving

pytestmark = pytest.mark.timeout(600)  # a dozen commands, each a process of its own
PAGE = ROOT / "docs/http.md"
DEPLOYMENT = "httpguide"
TRIES = 100  # to send two requests in one second of the clock


class Guide:
    """The page against servers of this test's own. variables: what the page exported."""

    def __init__(self, recount: Recount, folder: Path, servers: ExitStack) -> None:
        self.recount = recount
        self.folder = folder
        self.servers = servers
        self.run = Run({DEPLOYMENT: recount.deployment})
        self.variables: dict[str, str] = {}
        self.sent = 0

    def command(self, line: str, output: str) -> None:
        """Run a command; a server is started, and the page's port becomes the server's."""
        if variable := exported(self.run.of_page(line)):
            self.variables[variable[0]] = variable[1]
            return
        if "recount serve" in line:
            *before, _, _, _, port, _ = shlex.split(line)
            log = self.folder / "serve.log"
            server = self.servers.enter_context(serving(self.recount, log, {}, more=before))
            self.run.names[f"127.0.0.1:{port}"] = f"127.0.0.1:{server.port}"
            return
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        ended = subprocess.run(
            ["bash", "-c", self.run.of_page(line)],
            env={**self.recount.environment, "PATH": path},
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
            check=False,
        )
        self.run.same(line, output, ended.stdout)

    def request(self, step: Request) -> None:
        """Send a request and compare its answer; where 429 is due, until that is answered."""
        asked = sent(self.run.of_page(step.line), self.variables)
        with self.state(step.state):
            for _ in range(TRIES if step.status == 429 else 1):
                answer = httpx.request(
                    asked.method, asked.url, headers=asked.headers, content=asked.data, timeout=30
                )
                if answer.status_code == step.status:
                    break
        assert answer.status_code == step.status, f"{step.line}\n{answer.text}"
        for name, text in step.headers.items():
            assert answer.headers[name] == text, (step.line, name)
        self.run.same(step.line, as_text(step.body), as_text(answer.text))
        self.sent += 1

    @contextmanager
    def state(self, name: str | None) -> Iterator[None]:
        """The state that the page names: rebuilding is the mark of a rebuild on partition 0."""
        assert name in {None, "rebuilding"}
        if name is None:
            yield
            return
        key = keys_of(self.recount).state
        with redis.Redis.from_url(self.recount.services.redis) as store:
            kept = store.hgetall(key)
            store.delete(key)
            store.hset(key, mapping={b"rebuilding": b"1"})
            try:
                yield
            finally:
                store.delete(key)
                store.hset(key, mapping=kept)


def test_the_http_guide_does_what_it_says(recount: Recount, tmp_path: Path) -> None:
    """Every command and request of the page, in order, is answered as the page shows."""
    with ExitStack() as servers:
        guide = Guide(recount, tmp_path, servers)
        for step in steps(PAGE):
            match step:
                case Command(line, output):
                    guide.command(line, output)
                case Request():
                    guide.request(step)
                case File(name):
                    raise AssertionError(f"the guide has no files, but {name}")

        assert guide.sent > 20
