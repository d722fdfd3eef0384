/** Shipping: answers commands of sagas. What fails ends the process; whoever runs it starts it again. */

import { Consumer, Producer, compatibilityPartitioner, stringDeserializers, stringSerializers } from "@platformatic/kafka";
import { Client } from "pg";
import { read } from "./cloudevents.js";
import { handle } from "./handling.js";
import { relay } from "./relay.js";

const SOURCE = "/shipping";
const dsn = wanted("SHIPPING_DSN");
const kafka = { clientId: "shipping", bootstrapBrokers: wanted("KAFKA").split(",") };

function wanted(name: string): string {
  const value = process.env[name];
  if (value === undefined) throw new Error(`${name} is not set`);
  return value;
}

/** Handles commands, each partition's in order; an offset is committed once its message's effects are. */
async function consume(stop: AbortSignal): Promise<void> {
  // A process that stands still within a transaction holds up who takes its place: the server ends its session.
  const db = new Client({ connectionString: dsn, options: "-c idle_in_transaction_session_timeout=10s" });
  await db.connect();
  const consumer = new Consumer({
    ...kafka,
    groupId: "shipping",
    deserializers: stringDeserializers,
    autocommit: false,
    sessionTimeout: 6000,
    heartbeatInterval: 1500,
    rebalanceTimeout: 10_000,
  });
  const stream = await consumer.consume({ topics: ["commands.shipping"], mode: "committed", fallbackMode: "earliest" });
  stop.addEventListener("abort", () => void stream.close());
  console.log("shipping handles commands");
  for await (const record of stream) {
    if (stop.aborted) break;
    const message = read(record);
    if (message !== undefined) await handle(db, message);
    // One that is not committed, because partitions are being shared anew, only comes again.
    await Promise.resolve(record.commit()).catch((error) => console.warn(`offset ${record.offset}: ${error.message}`));
  }
  await consumer.close(true);
  await db.end();
}

const stopping = new AbortController();
for (const name of ["SIGTERM", "SIGINT"] as const) process.once(name, () => stopping.abort());
// Keys go where the Java client and the kit put them: a key's messages are in one partition, whoever sends them.
const producer = new Producer({
  ...kafka,
  serializers: stringSerializers,
  idempotent: true,
  partitioner: (message, key) => compatibilityPartitioner(message, key),
});
try {
  await Promise.all([consume(stopping.signal), relay(dsn, producer, SOURCE, stopping.signal)]);
  await producer.close();
} catch (error) {
  console.error(error);
  process.exit(1);
}
