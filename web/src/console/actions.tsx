// What may be done: always a dry run first, with what it would do in words; then, if it is wanted, the command itself.
import { useEffect, useRef, useState } from "react";
import { Refused, ask, useLive } from "./api";
import { clock, count, moment } from "./format";
import type { CommandState, ExtractionPage, Wanted } from "./types";

type Verb = Exclude<Wanted["verb"], "approve" | "decline">;
interface Policy { approvals: { needed: number; by: string[] }; open: boolean; opens: string | null }
const CONSEQUENCE: Record<Verb, (of: ExtractionPage) => string> = {
  advance: (of) => `Goes from ${of.row.place} to ${of.next}. It can be taken back.`,
  rollback: (of) => `Goes back from ${of.row.place} to ${of.back}. Nothing that was written is lost.`,
  verify: () => "Compares every row of both sides under traffic, and names each difference. Nothing is changed.",
  abort: () => "Ends the extraction: everything back at the monolith; flows, slots, guards and routes are removed. To go on later means to begin anew.",
};

export function Actions({ of }: { of: ExtractionPage }) {
  const [verb, setVerb] = useState<Verb | null>(null);
  const ended = of.row.stage === "done" || of.row.stage === "aborted";
  return (
    <div className="actions" role="group" aria-label="Actions">
      <button type="button" className="main" disabled={of.next === null || of.next === "done"} onClick={() => setVerb("advance")}>Advance{of.next !== null && of.next !== "done" && ` to ${of.next}`}</button>
      <button type="button" disabled={of.back === null || !of.row.begun} onClick={() => setVerb("rollback")}>Roll back{of.back !== null && of.row.begun && ` to ${of.back}`}</button>
      <button type="button" disabled={!of.row.begun || ended} onClick={() => setVerb("verify")}>Verify</button>
      <button type="button" className="danger" disabled={!of.row.begun || ended} onClick={() => setVerb("abort")}>Abort</button>
      {verb !== null && <Act key={verb} verb={verb} of={of} close={() => setVerb(null)} />}
    </div>
  );
}

function Act({ verb, of, close }: { verb: Verb; of: ExtractionPage; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const [first] = useState(of); // what it was decided on; the page behind goes on
  const looked = useCommand(first.row.context);
  const done = useCommand(first.row.context);
  const [override, setOverride] = useState("");
  const [reason, setReason] = useState("");
  const [name, setName] = useState("");
  const [repair, setRepair] = useState(false);
  const context = first.row.context;
  const refused = done.refused ?? looked.refused;
  useEffect(() => {
    box.current!.showModal();
    // A verification only looks: there is nothing of it that a dry run could say.
    if (verb !== "verify") void looked.submit({ verb, dry_run: true });
  }, []);

  const failed = looked.state?.state === "failed" || looked.trouble !== null;
  const gate = looked.state?.said.at(-1)?.data.gate as { verdict?: string } | null | undefined;
  const unmet = verb === "advance" && (looked.state?.said.at(-1)?.data.code === "gate_failed" || (gate?.verdict !== undefined && gate.verdict !== "pass"));
  const ready = verb === "verify" || (looked.state?.state === "done" && (!unmet || override.trim() !== "")) || (unmet && override.trim() !== "");
  const policy = looked.state?.said.at(-1)?.data.policy as Policy | undefined;
  const missing = policy === undefined ? 0 : Math.max(0, policy.approvals.needed - policy.approvals.by.length);
  const go = () => done.submit({
    verb, dry_run: false,
    ...(verb === "advance" && unmet ? { override: override.trim() } : {}),
    ...((verb === "rollback" || missing > 0) && reason.trim() !== "" ? { reason: reason.trim() } : {}),
    ...(verb === "verify" ? { repair } : {}), ...(verb === "abort" ? { confirm: name } : {}),
  });
  return (
    <dialog ref={box} aria-labelledby="act-title" className="act" onClose={close}>
      <h2 id="act-title">{verb === "rollback" ? "Roll back" : `${verb[0]!.toUpperCase()}${verb.slice(1)}`} {context}</h2>
      <p className="consequence">{CONSEQUENCE[verb](first)}</p>
      {!done.asked && (
        <>
          {verb !== "verify" && <div className="dry" aria-live="polite">
            <h3>Dry run</h3>
            {looked.state === null && looked.trouble === null && refused === null && <p className="dim">Asking the controller what it would do…</p>}
            {looked.trouble !== null && <p className="trouble">{looked.trouble.message}. {looked.trouble.remedy}</p>}
            {looked.state !== null && <Said of={looked.state} />}
            {missing > 0 && <p className="wants">It wants {policy!.approvals.needed} {policy!.approvals.needed === 1 ? "approval" : "approvals"} by other people, and has {policy!.approvals.by.length}. Asking for it changes nothing yet: it is listed until an approver has said yes or no; then ask again.</p>}
            {policy?.open === false && <p className="wants">Its change window is closed{policy.opens !== null && <>; it opens {moment(policy.opens)}</>}. Until then it is refused.</p>}
          </div>}
          {unmet && <label className="field">The gate does not pass. To override it, say why; it stands in the report.
            <textarea rows={2} value={override} onChange={(event) => setOverride(event.target.value)} /></label>}
          {missing > 0 && <label className="field">Why (who must approve it reads it)<input value={reason} onChange={(event) => setReason(event.target.value)} /></label>}
          {verb === "rollback" && looked.state?.state === "done" && <label className="field">Why (stands in the report)<input value={reason} onChange={(event) => setReason(event.target.value)} /></label>}
          {verb === "verify" && <label className="check"><input type="checkbox" checked={repair} onChange={(event) => setRepair(event.target.checked)} /> Write differing rows again, through sync</label>}
          {verb === "abort" && <label className="field">To confirm, write the context's name: {context}<input value={name} autoComplete="off" onChange={(event) => setName(event.target.value)} /></label>}
        </>
      )}
      {refused !== null && <p className="trouble" role="alert">{refused.message}. {refused.remedy}</p>}
      {done.asked && <div aria-live="polite"><h3>Progress</h3>
        {done.state === null ? <p className="dim">Asked; the controller takes it up…</p> : <Said of={done.state} />}
        {done.trouble !== null && <p className="trouble">{done.trouble.message}. {done.trouble.remedy}</p>}
      </div>}
      <div className="choices">
        <button type="button" onClick={() => box.current!.close()}>{done.asked ? "Close" : "Leave it"}</button>
        {!done.asked && <button type="button" className={verb === "abort" ? "danger" : "main"} disabled={!ready || (failed && !unmet) || (verb === "abort" && name !== context)} onClick={() => void go()}>{missing > 0 ? "Ask for approval" : unmet ? "Override and advance" : verb === "rollback" ? "Roll back now" : `${verb[0]!.toUpperCase()}${verb.slice(1)} now`}</button>}
      </div>
    </dialog>
  );
}

/** A command that is asked of the controller, and what it says of it. */
export function useCommand(context: string) {
  const [id, setId] = useState<number | null>(null);
  const [refused, setRefused] = useState<Refused | null>(null);
  const live = useLive<CommandState>(id === null ? null : `/api/commands/${id}`);
  const submit = async (wanted: Wanted) => {
    setRefused(null);
    try {
      setId((await ask<CommandState>("POST", `/api/extractions/${context}/commands`, wanted)).id);
    } catch (error) {
      setRefused(error instanceof Refused ? error : new Refused("unexpected", String(error), ""));
    }
  };
  return { ...live, asked: id !== null, refused, submit };
}

export function Said({ of }: { of: CommandState }) {
  const last = of.said.at(-1);
  const effects = last?.kind === "done" && Array.isArray(last.data.effects) ? (last.data.effects as string[]) : [];
  const remedy = last?.kind === "failed" && typeof last.data.remedy === "string" ? last.data.remedy : "";
  return (
    <div className="said" data-state={of.state}>
      <ol>
        {of.said.slice(-6).map((each, index) => (
          <li key={index} className={each.kind}>
            <time dateTime={each.at} className="dim">{clock(each.at)}</time> <span>{each.text}{typeof each.data.done === "number" && `: ${count(each.data.done)}${typeof each.data.total === "number" ? ` of ${count(each.data.total)}` : ""}`}</span>
          </li>
        ))}
      </ol>
      {effects.length > 0 && <ul className="effects">{effects.map((each) => <li key={each}>{each}</li>)}</ul>}
      {remedy && <p className="dim">{remedy}</p>}
      {of.state === "pending" && <p className="dim">Waiting for the controller…</p>}
    </div>
  );
}
