// What waits for other people, and for its change window: who asked for what, who agrees, and the answer of an approver.
import { useEffect, useRef, useState } from "react";
import { Said, useCommand } from "./actions";
import { me } from "./api";
import { Since, lasted, moment } from "./format";
import type { Agreement, Wanted } from "./types";

type Answer = "approve" | "decline";

export function Agreements({ of, linked }: { of: Agreement[]; linked?: boolean }) {
  if (of.length === 0) return null;
  return (
    <section aria-labelledby="agreements">
      <h2 id="agreements">{linked ? "What waits for other people" : "What the next step wants"}</h2>
      <div className="agreements">{of.map((each) => <One key={each.context} of={each} linked={linked ?? false} />)}</div>
    </section>
  );
}

function One({ of, linked }: { of: Agreement; linked: boolean }) {
  const [answer, setAnswer] = useState<Answer | null>(null);
  const { request } = of;
  const missing = Math.max(0, of.needed - of.approved.length);
  const waits = missing > 0 && request !== null && request.declined === null;
  return (
    <div className="card agreement" data-agreement={of.context} data-waits={waits}>
      <p className="big">{linked && <><a href={`#/extractions/${of.context}`}>{of.context}</a>: </>}{of.place} → <b>{of.target}</b></p>
      {of.needed > 0 && <p><span className={missing === 0 ? "good" : "pending"}>{missing === 0 ? "✓ agreed to" : `${of.approved.length} of ${of.needed} approvals`}</span>
        {of.approved.map((each) => <span key={each.person} className="dim"> · {each.person}, until {moment(each.until)}</span>)}</p>}
      {of.needed > 0 && request === null && <p className="dim">Nobody has asked for it yet.</p>}
      {request !== null && <p>Asked for by <b>{request.by}</b> <span className="dim"><Since at={request.at} /> ago, from {request.origin}; plan {request.plan.slice(0, 12)}</span></p>}
      {request !== null && request.reason !== "" && <p>Why: {request.reason}</p>}
      {request?.declined && <p><span className="bad">✕ declined by {request.declined.by}:</span> {request.declined.reason} <span className="dim">It waits for nobody until it is asked for again.</span></p>}
      {of.window !== null && <p className="window"><span className={of.window.open ? "good" : "pending"}>{of.window.open ? "✓ window open" : "✕ window closed"}</span>
        <span className="dim">{of.window.turns !== null && (of.window.open ? ` until ${moment(of.window.turns)}` : `, opens ${moment(of.window.turns)}`)} · {of.window.groups.map((group) => group.join(" or ")).join(", and ")}</span></p>}
      {waits && <p className="dim">It waits while {of.context} stays at {of.place} with this configuration; an approval counts for {lasted(of.lasts * 1000)}.</p>}
      {waits && <Choices of={of} choose={setAnswer} />}
      {answer !== null && <Decision key={answer} answer={answer} of={of} close={() => setAnswer(null)} />}
    </div>
  );
}

/** Who may say yes or no; others read why they may not. */
function Choices({ of, choose }: { of: Agreement; choose: (answer: Answer) => void }) {
  const mine = me();
  if (mine === null || mine.role !== "approver") return <p className="dim">An approver says yes or no.</p>;
  if (mine.person === of.request!.person) return <p className="dim">You asked for it: somebody else must approve.</p>;
  if (of.approved.some((each) => each.person === mine.person)) return <p className="dim">You have approved it; more people must.</p>;
  return (
    <div className="actions" role="group" aria-label={`Answer to ${of.request!.by}`}>
      <button type="button" className="main" onClick={() => choose("approve")}>Approve {of.context}</button>
      <button type="button" className="danger" onClick={() => choose("decline")}>Decline {of.context}</button>
    </div>
  );
}

function Decision({ answer, of, close }: { answer: Answer; of: Agreement; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const [first] = useState(of); // what it is decided on; the page behind goes on
  const looked = useCommand(first.context);
  const done = useCommand(first.context);
  const [reason, setReason] = useState("");
  const wanted = { verb: answer, stage: first.stage as NonNullable<Wanted["stage"]>, plan: first.request!.plan } as const;
  useEffect(() => {
    box.current!.showModal();
    void looked.submit({ ...wanted, dry_run: true, ...(answer === "decline" ? { reason: "…" } : {}) });
  }, []);
  const title = answer === "approve" ? "Approve" : "Decline";
  const refused = done.refused ?? looked.refused;
  const missing = first.needed - first.approved.length - 1;
  const ready = looked.state?.state === "done" && (answer === "approve" || reason.trim() !== "");
  return (
    <dialog ref={box} aria-labelledby="decision-title" className="act" onClose={close}>
      <h2 id="decision-title">{title} {first.target} of {first.context}</h2>
      <p className="consequence">{answer === "approve"
        ? `You agree that ${first.context} goes from ${first.place} to ${first.target}, by this plan and no other. ${missing > 0 ? `${missing} more must agree.` : `Then ${first.request!.by} can take the step; it is not taken by this.`}`
        : `${first.request!.by} reads why. Nobody's approval of this plan so far counts any more; nothing else changes.`}</p>
      {!done.asked && <div className="dry" aria-live="polite">
        <h3>Dry run</h3>
        {looked.state === null && looked.refused === null && <p className="dim">Asking the controller what it would do…</p>}
        {looked.trouble !== null && <p className="trouble">{looked.trouble.message}. {looked.trouble.remedy}</p>}
        {looked.state !== null && <Said of={looked.state} />}
      </div>}
      {answer === "decline" && !done.asked && <label className="field">Why (whoever asked reads it)<input value={reason} onChange={(event) => setReason(event.target.value)} /></label>}
      {refused !== null && <p className="trouble" role="alert">{refused.message}. {refused.remedy}</p>}
      {done.asked && <div aria-live="polite"><h3>Progress</h3>
        {done.state === null ? <p className="dim">Asked; the controller takes it up…</p> : <Said of={done.state} />}
        {done.trouble !== null && <p className="trouble">{done.trouble.message}. {done.trouble.remedy}</p>}
      </div>}
      <div className="choices">
        <button type="button" onClick={() => box.current!.close()}>{done.asked ? "Close" : "Leave it"}</button>
        {!done.asked && <button type="button" className={answer === "approve" ? "main" : "danger"} disabled={!ready} onClick={() => void done.submit({ ...wanted, dry_run: false, ...(answer === "decline" ? { reason: reason.trim() } : {}) })}>{title} now</button>}
      </div>
    </dialog>
  );
}
