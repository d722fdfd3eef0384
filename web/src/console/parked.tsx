// What could not be handled and waits for a person: inspected, tried again, or left out.
import { useEffect, useRef, useState } from "react";
import { Refused, ask } from "./api";
import { Decide } from "./decide";
import { Since, Warnings, count } from "./format";
import type { ParkedOne, ParkedPage, ParkedRow } from "./types";

const id = (row: ParkedRow) => `${row.kind} ${row.of} ${row.number}`;
const STATES = { waiting: "waits for you", retry: "to be tried again", tripwire: "kept as a record" } as const;

export function Parked({ of }: { of: ParkedPage }) {
  const [inspected, setInspected] = useState<ParkedRow | null>(null);
  const [decision, setDecision] = useState<{ row: ParkedRow; word: "retry" | "discard" } | null>(null);
  return (
    <>
      <p className="lead">Events that a service, and changes that sync could not handle. What comes after them waits.</p>
      <Warnings of={of.trouble} />
      {of.parked.length === 0 ? <p className="empty"><span aria-hidden="true">✓</span> Nothing is parked.</p> : (
        <table className="rows parked">
          <thead><tr><th>What</th><th>Why</th><th className="num">Waits behind</th><th>Since</th><th>State</th><th><span className="unseen">Actions</span></th></tr></thead>
          <tbody>{of.parked.map((row) => (
            <tr key={id(row)} data-parked={id(row)}>
              <th scope="row"><strong>{row.what}</strong><span className="aside">{row.key}, in {row.of}, {row.kind} {row.number}</span></th>
              <td data-label="Why" className="why">{row.error}</td>
              <td data-label="Behind" className="num">{row.behind === null ? "all after it" : count(row.behind)}</td>
              <td data-label="Since"><Since at={row.at} /></td>
              <td data-label="State"><span className={`state ${row.state === "waiting" ? "alarm" : row.state}`}>{STATES[row.state]}</span></td>
              <td className="acts">
                <button type="button" onClick={() => setInspected(row)} aria-label={`Inspect ${id(row)}`}>Inspect</button>
                {row.state !== "tripwire" && <>
                  <button type="button" onClick={() => setDecision({ row, word: "retry" })} aria-label={`Retry ${id(row)}`}>Retry</button>
                  <button type="button" className="danger" onClick={() => setDecision({ row, word: "discard" })} aria-label={`Discard ${id(row)}`}>Discard</button>
                </>}
              </td>
            </tr>
          ))}</tbody>
        </table>
      )}
      {inspected !== null && <Inspected of={inspected} close={() => setInspected(null)} />}
      {decision !== null && (
        <Decide
          title={`${decision.word === "retry" ? "Retry" : "Discard"} ${decision.row.what} of ${decision.row.key}`}
          word={decision.word === "retry" ? "Retry now" : "Discard it"} danger={decision.word === "discard"} path="/api/parked/decide"
          body={{ kind: decision.row.kind, of: decision.row.of, number: decision.row.number, word: decision.word }} close={() => setDecision(null)}
        />
      )}
    </>
  );
}

function Inspected({ of, close }: { of: ParkedRow; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const [one, setOne] = useState<ParkedOne | null>(null);
  const [refused, setRefused] = useState<string | null>(null);
  useEffect(() => {
    box.current!.showModal();
    const which = new URLSearchParams({ kind: of.kind, of: of.of, number: String(of.number) });
    ask<ParkedOne>("GET", `/api/parked/one?${which}`).then(setOne, (error) => setRefused(error instanceof Refused ? `${error.message}. ${error.remedy}` : String(error)));
  }, []);
  return (
    <dialog ref={box} className="wide" aria-labelledby="inspected-title" onClose={close}>
      <h2 id="inspected-title">{of.what} of {of.key}</h2>
      <p className="why">{of.error}</p>
      {refused !== null && <p className="trouble" role="alert">{refused}</p>}
      {one !== null && <pre tabIndex={0} aria-label="All of it">{JSON.stringify(one.whole, null, 2)}</pre>}
      <form method="dialog" className="choices"><button>Close</button></form>
    </dialog>
  );
}
