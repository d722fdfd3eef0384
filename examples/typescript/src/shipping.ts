/** What shipping decides. Its rules read and change the service's tables; they send nothing, they return the answer. */

import type { ClientBase } from "pg";

export interface Answer {
  type: string;
  data: { order_id: number; reason?: string };
}

type Rule = (db: ClientBase, data: Record<string, unknown>) => Promise<Answer>;

/** Which command is answered by which rule; other messages of the topic are not for us. */
export const rules: ReadonlyMap<string, Rule> = new Map([
  ["shipping.ArrangeShipping", arrange],
  ["shipping.CancelShipping", cancel],
]);

async function arrange(db: ClientBase, data: Record<string, unknown>): Promise<Answer> {
  const order_id = orderOf(data);
  const country = String(data["country"]);
  const carrier = await db.query("SELECT room FROM carrier WHERE country = $1 FOR UPDATE", [country]);
  if (carrier.rowCount === 0) return refused(order_id, `nothing is delivered to ${country}`);
  if (carrier.rows[0].room === 0) return refused(order_id, `no room for ${country}`);
  const made = await db.query(
    "INSERT INTO shipment (order_id, country, state) VALUES ($1, $2, 'arranged') ON CONFLICT DO NOTHING",
    [order_id, country],
  );
  if (made.rowCount === 0) return refused(order_id, "it was arranged before");
  await db.query("UPDATE carrier SET room = room - 1 WHERE country = $1", [country]);
  return { type: "shipping.ShippingArranged", data: { order_id } };
}

/** Takes it back; that means nothing where it was never arranged, for nobody may know. */
async function cancel(db: ClientBase, data: Record<string, unknown>): Promise<Answer> {
  const order_id = orderOf(data);
  await db.query(
    `WITH gone AS (
       UPDATE shipment SET state = 'cancelled' WHERE order_id = $1 AND state = 'arranged' RETURNING country
     )
     UPDATE carrier SET room = room + 1 FROM gone WHERE carrier.country = gone.country`,
    [order_id],
  );
  return { type: "shipping.ShippingCancelled", data: { order_id } };
}

function refused(order_id: number, reason: string): Answer {
  return { type: "shipping.ShippingRefused", data: { order_id, reason } };
}

function orderOf(data: Record<string, unknown>): number {
  const found = data["order_id"];
  if (!Number.isSafeInteger(found)) throw new Error(`order_id is no whole number: ${JSON.stringify(data)}`);
  return found as number;
}
