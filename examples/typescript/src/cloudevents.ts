/** Messages as the log has them: CloudEvents 1.0 in binary mode, whose attributes are headers of the Kafka record. */

/** What a service is asked or told. */
export interface Message {
  id: string;
  source: string;
  type: string;
  key: string;
  data: string;
  correlationid: string | undefined;
  traceparent: string | undefined;
  tenantid: string | undefined;
}

/** An event on its way to the log: a row of the outbox. */
export interface Row {
  seq: string;
  id: string;
  topic: string;
  type: string;
  key: string;
  data: string;
  occurred_at: Date;
  subject: string | null;
  dataschema: string | null;
  traceparent: string | null;
  correlationid: string | null;
  causationid: string | null;
  tenantid: string | null;
}

export interface KafkaRecord {
  topic: string;
  key: string;
  value: string;
  headers: Map<string, string>;
}

/** The message of a record; undefined where another program wrote something that is no CloudEvent. */
export function read(record: Omit<KafkaRecord, "topic">): Message | undefined {
  const [id, source, type] = ["ce_id", "ce_source", "ce_type"].map((name) => record.headers.get(name));
  if (id === undefined || source === undefined || type === undefined) return undefined;
  return {
    id,
    source,
    type,
    key: record.headers.get("ce_partitionkey") ?? record.key,
    data: record.value,
    correlationid: record.headers.get("ce_correlationid"),
    traceparent: record.headers.get("ce_traceparent"),
    tenantid: record.headers.get("ce_tenantid"),
  };
}

/** The record that publishes an event. */
export function write(row: Row, source: string): KafkaRecord {
  const headers = new Map([
    ["ce_specversion", "1.0"],
    ["ce_id", row.id],
    ["ce_source", source],
    ["ce_type", row.type],
    ["ce_time", row.occurred_at.toISOString()],
    ["ce_partitionkey", row.key],
    ["content-type", "application/json"],
  ]);
  for (const name of ["subject", "dataschema", "traceparent", "correlationid", "causationid", "tenantid"] as const) {
    const value = row[name];
    if (value !== null) headers.set(`ce_${name}`, value);
  }
  return { topic: row.topic, key: row.key, value: row.data, headers };
}

const ATTEMPT = /#\d+$/;

/** Whether a command's sender has asked before, and had no answer. */
export function isAskedAgain(id: string): boolean {
  return ATTEMPT.test(id);
}

/** What all attempts of one command have in common. */
export function withoutAttempt(id: string): string {
  return id.replace(ATTEMPT, "");
}
