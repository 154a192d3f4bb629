"""`statsig-python-core` of PyPI: a configuration, a gate, events, the end."""

import json
import sys

from statsig_python_core import Statsig, StatsigOptions, StatsigUser

told = json.loads(sys.argv[1])
options = StatsigOptions()
options.specs_url = f"{told['url']}/v2/download_config_specs"
options.log_event_url = f"{told['url']}/v1/log_event"
options.id_lists_url = f"{told['url']}/v1/get_id_lists"
options.enable_id_lists = True
client = Statsig(told["key"], options)
client.initialize().wait()
started = client.get_initialize_details()
user = StatsigUser(user_id=told["user"], custom_ids={"companyID": "acme"})
gate = client.check_gate(user, "a_gate")
config = client.get_experiment(user, "an_experiment").value
for value in told["values"]:
    client.log_event(user, told["event"], value=value, metadata={"kind": "song"})
client.flush_events().wait()
client.shutdown().wait()
ready = started.init_success and started.is_config_spec_ready and started.is_id_list_ready
sys.stdout.write(json.dumps({"started": ready, "gate": gate, "config": config}))
