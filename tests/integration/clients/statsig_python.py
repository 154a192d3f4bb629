"""`statsig` of PyPI: a configuration, a gate, events, the end."""

import json
import sys
from typing import Any

from statsig import StatsigEvent, StatsigOptions, StatsigUser
from statsig import statsig as untyped

statsig: Any = untyped
told = json.loads(sys.argv[1])
options = StatsigOptions(api=f"{told['url']}/v1", tier=told.get("tier"))
started = statsig.initialize(told["key"], options)
user = StatsigUser(told["user"], email="ann@example.com", custom_ids={"companyID": "acme"})
gate = statsig.check_gate(user, "a_gate")
config = statsig.get_experiment(user, "an_experiment").get_value()
for value in told["values"]:
    statsig.log_event(StatsigEvent(user, told["event"], value=value, metadata={"kind": "song"}))
statsig.shutdown()
sys.stdout.write(json.dumps({"started": started.init_success, "gate": gate, "config": config}))
