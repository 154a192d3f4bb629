"""`recount`, and `python -m pipeline`."""

import os
import sys

_INTERRUPTED = 130  # errors.py has it too, and is not imported yet


def main() -> None:
    """Run the command line, or a worker process of a supervisor. Ctrl-C is one line."""
    try:
        _run()
    except KeyboardInterrupt:  # while modules were imported
        sys.stderr.write("recount: interrupted\n")
        sys.stderr.flush()
        os._exit(_INTERRUPTED)


def _run() -> None:
    # The supervisor never imports faust; the worker process never imports the command line.
    if sys.argv[1:2] == ["worker-process"]:
        from .app.supervisor import leave_with_parent
        from .app.worker import run
        from .settings import load_settings

        leave_with_parent()
        run(load_settings(), int(sys.argv[2]))
        return
    if sys.argv[1:2] == ["worker-staying"]:
        from .app.staying import stay
        from .app.supervisor import leave_with_parent
        from .settings import load_settings

        leave_with_parent()
        stay(load_settings(), int(sys.argv[2]), sys.argv[3])
        return
    if sys.argv[1:2] == ["rebuild-process"]:
        from .cli.rebuilding import run_child

        run_child(int(sys.argv[2]))
        return
    from .cli import run_command_line

    run_command_line()


if __name__ == "__main__":
    main()
