"""The worker process. Only `transport.py` and `worker.py` import faust (test_tidy.py, OWNERS)."""
