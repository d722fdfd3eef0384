/** The relay: takes the outbox to the log in order, each event at least once, by one process at a time. */

import { setTimeout as pause } from "node:timers/promises";
import type { Producer } from "@platformatic/kafka";
import { Client } from "pg";
import { write, type Row } from "./cloudevents.js";

const BATCH = 500;
const LOOK_MS = 50;
const STANDBY_MS = 500;

type Strings = Producer<string, string, string, string>;

export async function relay(dsn: string, producer: Strings, source: string, stop: AbortSignal): Promise<void> {
  // The lock is the session's. The server ends that of a process which says nothing, and another one takes its place.
  const db = new Client({ connectionString: dsn, options: "-c idle_session_timeout=10s" });
  await db.connect();
  let isMine = false;
  while (!stop.aborted) {
    isMine ||= (await db.query("SELECT pg_try_advisory_lock(hashtext('outbox'))")).rows[0].pg_try_advisory_lock;
    const moved = isMine ? await move(db, producer, source) : 0;
    if (moved === 0) await pause(isMine ? LOOK_MS : STANDBY_MS, undefined, { signal: stop }).catch(() => undefined);
  }
  await db.end();
}

async function move(db: Client, producer: Strings, source: string): Promise<number> {
  const { rows } = await db.query<Row>(
    `SELECT seq, id, topic, type, key, data::text, occurred_at, subject, dataschema, traceparent, correlationid, causationid,
            tenantid
     FROM outbox ORDER BY seq LIMIT $1`,
    [BATCH],
  );
  if (rows.length > 0) {
    await producer.send({ messages: rows.map((row) => write(row, source)) });
    await db.query("DELETE FROM outbox WHERE seq = ANY ($1::bigint[])", [rows.map((row) => row.seq)]);
  }
  return rows.length;
}
