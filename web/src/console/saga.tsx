// One saga: where its steps stand, what happened to it, and an operator's word where it needs one.
import { useState } from "react";
import { useLive } from "./api";
import { Decide } from "./decide";
import { Shown, Since, clock, lasted } from "./format";
import { Graph } from "./graph";
import { drawn } from "./sagas";
import type { SagaOne, SagaRow } from "./types";

const MOODS: Record<string, string> = { completed: "good", compensated: "back", refused: "back", "needs operator": "alarm", compensating: "back" };

export function StatusOf({ row }: { row: Pick<SagaRow, "status" | "blocked" | "asked"> }) {
  return <span className={`state ${MOODS[row.status] ?? ""}`}>{row.status}{row.blocked !== null && `: ${row.blocked}`}{row.asked !== null && `, ${row.asked} asked for`}</span>;
}

export function Saga({ service, id }: { service: string; id: string }) {
  const found = useLive<SagaOne>(`/api/sagas/of/${encodeURIComponent(service)}/${encodeURIComponent(id)}`);
  const [word, setWord] = useState<"retry" | "resolve" | null>(null);
  return (
    <>
      <p className="crumbs"><a href="#/sagas">Sagas</a></p>
      <Shown of={found}>
        {(saga) => (
          <>
            <div className="head">
              <div><h1>{saga.row.name} <span className="dim">{saga.row.key}</span></h1>
                <p className="lead"><StatusOf row={saga.row} /> version {saga.row.version}, kept by {service}, began <Since at={saga.row.begun_at} /> ago{saga.row.ended_at !== null && `, took ${lasted(Date.parse(saga.row.ended_at) - Date.parse(saga.row.begun_at))}`}{saga.asked_by !== null && `, last asked by ${saga.asked_by}`}</p></div>
              {saga.row.blocked !== null && (
                <div className="actions" role="group" aria-label="Actions">
                  <button type="button" className="main" onClick={() => setWord("retry")}>Retry {saga.row.blocked}</button>
                  <button type="button" className="danger" onClick={() => setWord("resolve")}>Count as done</button>
                </div>
              )}
            </div>
            {saga.drawn.length > 0 && <Graph name="The saga's steps, and where each stands" {...steps(saga)} />}
            <div className="columns">
              <section aria-labelledby="history">
                <h2 id="history">History</h2>
                <ol className="history">{saga.history.map((each, index) => {
                  const before = saga.history[index - 1];
                  return (
                    <li key={index} className={each.step === null ? "whole" : ""}>
                      <time dateTime={each.at}>{clock(each.at)}</time>
                      <span className="dim num">{before === undefined ? "" : `+${lasted(Math.max(0, Date.parse(each.at) - Date.parse(before.at)))}`}</span>
                      <span>{each.step === null ? <strong>{each.what}</strong> : <>{each.step} <b className={`phase ${each.what}`}>{each.what}</b>{each.attempt !== null && each.attempt > 1 && <span className="dim"> attempt {each.attempt}</span>}</>}</span>
                    </li>
                  );
                })}</ol>
              </section>
              <section aria-labelledby="fields">
                <h2 id="fields">Fields</h2>
                <pre tabIndex={0} aria-label="The saga's fields">{JSON.stringify(saga.data, null, 2)}</pre>
                <dl className="pairs ids">
                  <div><dt>Saga</dt><dd><code>{saga.row.id}</code></dd></div>
                  {saga.flow !== null && <div><dt>Flow</dt><dd><code>{saga.flow}</code></dd></div>}
                  {saga.trace !== null && <div><dt>Trace</dt><dd><code>{saga.trace}</code></dd></div>}
                </dl>
              </section>
            </div>
            {word !== null && (
              <Decide
                title={word === "retry" ? `Retry ${saga.row.blocked ?? "it"}` : `Count ${saga.row.blocked ?? "it"} as done`} word={word === "retry" ? "Retry now" : "Count as done"} danger={word === "resolve"}
                path={`/api/sagas/of/${encodeURIComponent(service)}/${encodeURIComponent(id)}/decide`} body={{ word }} close={() => setWord(null)}
              />
            )}
          </>
        )}
      </Shown>
    </>
  );
}

function steps(saga: SagaOne) {
  const at = Object.fromEntries(saga.steps.map((each) => [each.name, each.phase === "open" ? "" : each.attempt > 1 ? `${each.phase}, attempt ${each.attempt}` : each.phase]));
  const found = drawn(saga.drawn, { starts: "begun", completed: "completed", compensated: "compensated" }, at);
  const blocked = (saga.row.blocked ?? "").split(" ");
  return { ...found, boxes: found.boxes.map((each) => ({ ...each, alarm: blocked.includes(each.id) })) };
}
