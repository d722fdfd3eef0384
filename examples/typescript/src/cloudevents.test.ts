import assert from "node:assert/strict";
import { test } from "node:test";
import { isAskedAgain, read, withoutAttempt, write } from "./cloudevents.js";

const event = {
  seq: "1",
  id: "6f1c",
  topic: "events.shipping",
  type: "shipping.ShippingArranged",
  key: "7",
  data: '{"order_id":7}',
  occurred_at: new Date("2026-01-02T03:04:05.678Z"),
  subject: "7",
  dataschema: null,
  traceparent: null,
  correlationid: "a flow",
  causationid: "a command",
  tenantid: "acme",
};

test("an event is a record with its attributes as headers, and without those that it has not", () => {
  const record = write(event, "/shipping");
  assert.equal(record.key, "7");
  assert.equal(record.headers.get("ce_time"), "2026-01-02T03:04:05.678Z");
  assert.equal(record.headers.get("ce_causationid"), "a command");
  assert.equal(record.headers.has("ce_traceparent"), false);
});

test("what is written is read", () => {
  const { id, type, key, data, correlationid, tenantid } = event;
  const expected = { id, source: "/shipping", type, key, data, correlationid, traceparent: undefined, tenantid };
  assert.deepEqual(read(write(event, "/shipping")), expected);
});

test("a record that is no CloudEvent is no message", () => {
  assert.equal(read({ key: "7", value: "{}", headers: new Map([["ce_id", "1"]]) }), undefined);
});

test("all attempts of a command are one", () => {
  assert.deepEqual(["saga:x:1", "saga:x:1#2"].map(withoutAttempt), ["saga:x:1", "saga:x:1"]);
  assert.deepEqual(["saga:x:1", "saga:x:1#2"].map(isAskedAgain), [false, true]);
});
