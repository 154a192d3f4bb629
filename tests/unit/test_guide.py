"""The reader of the guides sees every step, and every difference that matters."""

from pathlib import Path

import pytest

from ..guide import Command, File, Request, Run, Sent, as_text, sent, steps

PAGE = """\
`a.json`:

```json
{"a": 1}
```

<!-- not run: an example -->
```console
$ rm -r /
```

```console
$ one \\
  more
1
$ two
```

```sh
curl http://h/p -H "Key: $KEY" \\
  -d '{"$value": "$KEY"}'
```

Answer `429`, `Retry-After: 1`:

```json
{"n": 1.50}
```

<!-- state: odd -->
```sh
curl http://h/q
```

Answer `202`, without a body.
"""
ONE, TWO = "0" * 32, "1" * 32


def test_steps(tmp_path: Path) -> None:
    """Files, commands with their outputs, requests with their answers; not what is not run."""
    (tmp_path / "page.md").write_text(PAGE)

    assert steps(tmp_path / "page.md") == [
        File("a.json", '{"a": 1}\n'),
        Command("one \\\n  more", "1\n"),
        Command("two", ""),
        Request(
            'curl http://h/p -H "Key: $KEY" \\\n  -d \'{"$value": "$KEY"}\'\n',
            status=429,
            headers={"Retry-After": "1"},
            body='{"n": 1.50}\n',
        ),
        Request("curl http://h/q\n", state="odd", status=202),
    ]


def test_what_curl_sends() -> None:
    """Headers and data, with the variables that the page exported and no others."""
    line = 'curl \'http://h/p?a=b\' -H "Key: $KEY" \\\n -d \'{"$value": "$KEY"}\''
    due = Sent("http://h/p?a=b", {"Key": "k"}, '{"$value": "$KEY"}')

    assert sent(line, {"KEY": "k"}) == due
    assert sent("curl http://h/p", {}).method == "GET"


def test_what_may_differ() -> None:
    """Times of the run, and ids as long as each stands for the same one everywhere."""
    run = Run({"page": "run1"})
    run.same("", f"page.x {ONE} 2026-01-01T00:00:00Z\n", f"run1.x {TWO} 2027-05-05T00:00:00.5Z")
    run.same("", f"{ONE}", f"{TWO}")

    assert run.of_page(f"show {ONE} of page, not of pages") == f"show {TWO} of run1, not of pages"


@pytest.mark.parametrize(
    ("page", "run"),
    [
        ("value 1", "value 2"),
        ("2025-03-03T00:00:00Z", "2025-03-04T00:00:00Z"),
        (f"{ONE} {ONE}", f"{ONE} {TWO}"),
        ("a", "a\nb"),
        (as_text('{"v": 1.5}'), as_text('{"v": "1.5"}')),
        (as_text('{"v": 1.5}'), as_text('{"v": 1.50}')),
        (as_text('{"next_page": null}'), as_text('{"next_page": "x"}')),
    ],
)
def test_what_must_not_differ(page: str, run: str) -> None:
    """Numbers, times of events, lines, one id for two, text for a number, digits."""
    with pytest.raises(AssertionError):
        Run({}).same("", page, run)
