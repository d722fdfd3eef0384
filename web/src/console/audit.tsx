// The audit trail: who did what, and when; newest first.
import { useState } from "react";
import { ask, useLive } from "./api";
import { Shown, clock, day } from "./format";
import type { PageProps } from "./pages";
import type { AuditEntry, AuditPage as Audit } from "./types";

const KINDS = { command: "asked", milestone: "happened", visit: "entered" } as const;

export function AuditPage({ parts }: PageProps) {
  const context = parts[0] ?? "";
  const query = context === "" ? "" : `?context=${encodeURIComponent(context)}`;
  const found = useLive<Audit>(`/api/audit${query}`);
  const [older, setOlder] = useState<{ entries: AuditEntry[]; more: string | null } | null>(null);
  const go = async (more: string) => {
    const page = await ask<Audit>("GET", `/api/audit${query}${query === "" ? "?" : "&"}before=${more}`);
    setOlder((before) => ({ entries: [...(before?.entries ?? []), ...page.entries], more: page.more }));
  };
  return (
    <>
      <h1>Audit trail{context && `: ${context}`}</h1>
      <p className="lead">Every command that was asked, every milestone, every place that was entered.{context && <> <a href="#/audit">All contexts</a></>}</p>
      <Shown of={found}>{(page) => {
        const marks = new Set(page.entries.map((each) => each.mark));
        const all = [...page.entries, ...(older?.entries ?? []).filter((each) => !marks.has(each.mark))];
        const more = older === null ? page.more : older.more;
        return all.length === 0 ? <p className="dim">Nothing has been done yet.</p> : (
          <>
            <table className="rows audit">
              <thead><tr><th>When</th><th>Context</th><th>What</th><th>Who</th><th>Said</th></tr></thead>
              <tbody>{all.map((each) => <Entry key={each.mark} of={each} />)}</tbody>
            </table>
            {more !== null && <p className="more"><button type="button" onClick={() => void go(more)}>Older</button></p>}
          </>
        );
      }}</Shown>
    </>
  );
}

function Entry({ of }: { of: AuditEntry }) {
  const facts = Object.entries(of.data).filter(([, is]) => is !== null && is !== "" && is !== false && typeof is !== "object" && is !== of.text && is !== of.by);
  const outcome = of.kind === "visit" ? (of.outcome && `left with ${of.outcome}`) : of.outcome;
  return (
    <tr>
      <td data-label="When"><time dateTime={of.at}>{clock(of.at)}<span className="note">{day(of.at)}</span></time></td>
      <td data-label="Context"><a href={`#/extractions/${of.context}`}>{of.context}</a></td>
      <td data-label="What"><span><b>{of.what.replaceAll("_", " ")}</b> <span className="dim">{KINDS[of.kind]}</span>{outcome && <span className={`note ${of.outcome === "failed" || of.outcome === "fail" ? "bad" : ""}`}>{outcome}</span>}</span></td>
      <td data-label="Who">{of.by || <span className="dim">–</span>}</td>
      <td data-label="Said"><span>{of.text}{facts.length > 0 && <span className="note">{facts.map(([key, is]) => `${key.replaceAll("_", " ")} ${String(is)}`).join(", ")}</span>}</span></td>
    </tr>
  );
}
