"""Guides and runbooks of docs/, run from their first file to their last command."""

import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ..guide import Command, File, Request, Run, exported, steps
from ..services import ROOT, Services

pytestmark = pytest.mark.timeout(900)  # some thirty commands, each a process of its own
# A page, the deployments that it makes, and how many commands it has at least.
PAGES = [
    ("tutorial.md", ("tutorial", "agelimit"), 25),
    ("billing.md", ("billing",), 18),
    ("operations/backup.md", ("ledger",), 8),
]
# Kafka's own tool, as far as the pages use it, for a machine that has only its jars.
KAFKA_TOPICS = f"""#!{sys.executable}
import sys
from confluent_kafka.admin import AdminClient
_, server, kafka, delete, topic, name = sys.argv
assert (server, delete, topic) == ("--bootstrap-server", "--delete", "--topic")
admin = AdminClient({{"bootstrap.servers": kafka}})
admin.delete_topics([name])[name].result()
while name in admin.list_topics(timeout=5).topics:
    pass
"""


def name_like(name: str) -> str:
    """A deployment name that nobody has used, as long as the page's: tables have its width."""
    return f"t{uuid.uuid4().hex}"[: len(name)]


@pytest.mark.parametrize(
    ("page", "deployments", "least"), PAGES, ids=[Path(page).stem for page, *_ in PAGES]
)
def test_a_page_does_what_it_says(
    stack: Services, tmp_path: Path, page: str, deployments: tuple[str, ...], least: int
) -> None:
    """Every command of the page, in order, prints what the page shows."""
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "kafka-topics.sh").write_text(KAFKA_TOPICS)
    (tools / "kafka-topics.sh").chmod(0o755)
    run = Run({name: name_like(name) for name in deployments})
    environment = {
        **os.environ,
        "RECOUNT_KAFKA": stack.kafka,
        "RECOUNT_REDIS": stack.redis,
        "PATH": os.pathsep.join(
            [str(Path(sys.executable).parent), str(tools), os.environ["PATH"]]
        ),
    }
    done = 0
    for step in steps(ROOT / "docs" / page):
        match step:
            case File(name, text):
                (tmp_path / name).write_text(text)
            case Command(line, output):
                if variable := exported(run.of_page(line)):
                    environment[variable[0]] = variable[1]
                    continue
                ended = subprocess.run(
                    ["bash", "-c", run.of_page(line)],
                    env=environment,
                    cwd=tmp_path,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=100,
                    check=False,
                )
                run.same(line, output, ended.stdout)
                done += 1
            case Request():
                raise AssertionError("these pages send no requests")

    assert done > least
