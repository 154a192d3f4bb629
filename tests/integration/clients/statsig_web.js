// `@statsig/js-client`, which logs outside of a browser only where it is told to. `packed`: with
// gzip, as it is beside Statsig's own servers.
const { StatsigClient, LogEventCompressionMode } = require("@statsig/js-client");

const told = JSON.parse(process.argv[2]);

(async () => {
  const client = new StatsigClient(
    told.key,
    { userID: told.user, customIDs: { companyID: "acme" } },
    {
      networkConfig: { api: `${told.url}/v1` },
      loggingEnabled: "always",
      logEventCompressionMode: told.packed
        ? LogEventCompressionMode.Forced
        : LogEventCompressionMode.Disabled,
    },
  );
  const started = await client.initializeAsync();
  const gate = client.checkGate("a_gate");
  const config = client.getExperiment("an_experiment").value;
  for (const value of told.values) {
    client.logEvent(told.event, value, { kind: "song" });
  }
  await client.flush();
  await client.shutdown();
  console.log(JSON.stringify({ started: started.success && started.source == "Network", gate, config }));
})();
