// `@statsig/statsig-node-core`, which packs with zstd: a configuration, a gate, events, the end.
const { Statsig, StatsigUser } = require("@statsig/statsig-node-core");

const told = JSON.parse(process.argv[2]);

(async () => {
  const client = new Statsig(told.key, {
    specsUrl: `${told.url}/v2/download_config_specs`,
    logEventUrl: `${told.url}/v1/log_event`,
    idListsUrl: `${told.url}/v1/get_id_lists`,
    enableIdLists: true,
  });
  const started = await client.initialize();
  const user = new StatsigUser({ userID: told.user, customIDs: { companyID: "acme" } });
  const gate = client.checkGate(user, "a_gate");
  const config = client.getExperiment(user, "an_experiment").value;
  for (const value of told.values) {
    client.logEvent(user, told.event, value, { kind: "song" });
  }
  await client.flushEvents();
  await client.shutdown();
  console.log(JSON.stringify({ started: started.isSuccess, gate, config }));
})();
