/** Handling a command: its mark in the inbox, what it changes and what is answered, in one transaction, or nothing. */

import type { ClientBase } from "pg";
import { isAskedAgain, withoutAttempt, type Message } from "./cloudevents.js";
import { rules, type Answer } from "./shipping.js";

const CONSUMER = "shipping";

export async function handle(db: ClientBase, command: Message): Promise<void> {
  const rule = rules.get(command.type);
  if (rule === undefined) return;
  const mark = [CONSUMER, command.source, withoutAttempt(command.id)];
  await db.query("BEGIN");
  try {
    // Another process that handles the same one is waited for here.
    const made = await db.query("INSERT INTO inbox (consumer, source, id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", mark);
    if (made.rowCount === 1) {
      const answer = await rule(db, JSON.parse(command.data));
      await db.query("UPDATE inbox SET answer = $4 WHERE (consumer, source, id) = ($1, $2, $3)", [...mark, answer]);
      await put(db, answer, command);
    } else if (isAskedAgain(command.id)) {
      const known = await db.query("SELECT answer FROM inbox WHERE (consumer, source, id) = ($1, $2, $3)", mark);
      await put(db, known.rows[0].answer, command);
    }
    await db.query("COMMIT");
  } catch (error) {
    await db.query("ROLLBACK");
    throw error;
  }
}

/** Writes an answer into the outbox, last of all: its number is drawn while the state's rows are locked. */
async function put(db: ClientBase, answer: Answer, command: Message): Promise<void> {
  await db.query(
    `INSERT INTO outbox (topic, type, key, data, subject, dataschema, traceparent, correlationid, causationid, tenantid)
     VALUES ('events.shipping', $1, $2, $3, $2, $4, $5, $6, $7, $8)`,
    [
      answer.type,
      command.key,
      answer.data,
      `fig:schemas/${answer.type}/1`,
      command.traceparent,
      command.correlationid ?? command.id,
      command.id,
      command.tenantid,
    ],
  );
}
