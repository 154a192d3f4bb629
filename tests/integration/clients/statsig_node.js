// `statsig-node`: a configuration, a gate, events, the end.
const Statsig = require("statsig-node");

const told = JSON.parse(process.argv[2]);

(async () => {
  const started = await Statsig.initialize(told.key, { api: `${told.url}/v1` });
  const user = { userID: told.user, customIDs: { companyID: "acme" } };
  const gate = Statsig.checkGate(user, "a_gate");
  const config = Statsig.getExperimentSync(user, "an_experiment").value;
  for (const value of told.values) {
    Statsig.logEvent(user, told.event, value, { kind: "song" });
  }
  await Statsig.flush();
  await Statsig.shutdownAsync();
  console.log(JSON.stringify({ started: started.success, gate, config }));
})();
