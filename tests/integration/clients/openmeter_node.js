// `@openmeter/sdk`: events by its only call, or usage by its only call.
const { OpenMeter } = require("@openmeter/sdk");

const told = JSON.parse(process.argv[2]);
const client = new OpenMeter({ baseUrl: told.url, apiKey: told.key });

async function send() {
  const events = told.events.map((each) => ({ ...each, time: new Date(each.time) }));
  await client.events.ingest(events[0]);
  await client.events.ingest(events);
  return [];
}

async function ask() {
  const [from, to] = [new Date(told.from), new Date(told.to)];
  const asked = { from, to, windowSize: "HOUR", subject: ["ann", "bob"], groupBy: ["model"] };
  const byWindow = await client.meters.query(told.meter, asked);
  const filtered = await client.meters.query(told.meter, { from, to, filterGroupBy: { model: "large" } });
  let refused;
  try {
    await client.meters.query(told.meter, { from, windowSize: "MINUTE" });
  } catch (error) {
    refused = [error.status, error.getField("detail")];
  }
  const rows = (found) => found.data.map((row) => [row.value, row.subject, row.groupBy]);
  return [rows(byWindow), rows(filtered), refused];
}

(async () => {
  console.log(JSON.stringify(await (told.events ? send() : ask())));
})();
