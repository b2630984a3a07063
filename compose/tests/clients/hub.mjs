// The official SignalR client as a dashboard uses it: reconnects automatically, resumes at its last
// position, and prints everything that it receives as lines of JSON.
//
//   node hub.mjs URL TOKEN WebSockets|ServerSentEvents [SUBSCRIPTION]
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(process.env.CLIENTS + "/"));
const { HubConnectionBuilder, HttpTransportType, LogLevel } = require("@microsoft/signalr");

const [url, token, transport, subscription] = process.argv.slice(2);
const print = (event, args) => console.log(JSON.stringify({ event, args }));

const connection = new HubConnectionBuilder()
  .withUrl(url, { accessTokenFactory: () => token, transport: HttpTransportType[transport] })
  .withAutomaticReconnect({ nextRetryDelayInMilliseconds: () => 200 })
  .configureLogging(LogLevel.Error)
  .build();

const events = [
  "DeviceStatusChanged", "TelemetryReceived", "HeartbeatReceived", "AlertCreated", "AlertResolved",
  "CommandCompleted", "DeviceRegistered", "RolloutProgress", "EventsDropped",
];
for (const name of events) connection.on(name, (...args) => print(name, args));

let position;
connection.on("EventsPosition", (id) => { position = id; });
const subscribe = async () => {
  const asked = subscription ? JSON.parse(subscription) : {};
  const answer = await connection.invoke("Subscribe", { ...asked, since: position, positions: true });
  position ??= answer.position;
};
connection.onreconnecting((error) => print("reconnecting", [String(error)]));
connection.onreconnected(async () => {
  await subscribe();
  print("reconnected", []);
});
connection.onclose((error) => { print("closed", [String(error)]); process.exit(0); });

await connection.start();
await subscribe();
print("connected", []);
