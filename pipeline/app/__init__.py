"""The worker process. Only `lane.py` and `transport.py` in here import faust."""
