// What leaves: a context's old tables, up to the drop; and the monolith itself, up to its end.
import { Since, clock, count, day, lasted, moment } from "./format";
import type { Decommissioning as Departing, Kind, Monolith as MonolithType, Size, User } from "./types";

export function Monolith({ of }: { of: MonolithType }) {
  const { retired, restored } = of;
  return (
    <section aria-labelledby="monolith">
      <h2 id="monolith">The monolith</h2>
      <div className="card monolith-end" data-retired={retired !== null}>
        <p className="big">{retired !== null
          ? <><b className="good">✓ retired</b> by {retired.by} <span className="dim">{day(retired.at)} {clock(retired.at)}: what no service answers is 410 Gone</span></>
          : of.reasons.length === 0 ? <><b className="good">✓ nothing passes to it any more</b> <span className="dim">An approver can end it: <code>fig retire</code></span></>
          : of.kinds > 0 ? <><b>{of.kinds} {of.kinds === 1 ? "kind" : "kinds"} of request passed to it</b> <span className="dim">within {lasted(of.quiet * 1000)}</span></>
          : <b>still there</b>}</p>
        {restored !== null && <p className="dim">Given back its routes by {restored.by}, {day(restored.at)} {clock(restored.at)}.</p>}
        {retired === null && of.quiet_since !== null && <p>Quiet for <b><Since at={of.quiet_since} /></b> <span className="dim">of {lasted(of.quiet * 1000)} that are wanted{!of.watched && "; nobody watches the façade now"}</span></p>}
        {of.reasons.length > 0 && <ul className="reasons">{of.reasons.map((each) => <li key={each}>not yet: {each}</li>)}</ul>}
        <Kinds of={of.passing} title="Passed to the monolith" />
        <Kinds of={of.refused} title="Asked for since, and answered 410 Gone" />
      </div>
    </section>
  );
}

function Kinds({ of, title }: { of: Kind[]; title: string }) {
  if (of.length === 0) return null;
  return (
    <details>
      <summary>{title}: {of.length} {of.length === 1 ? "kind" : "kinds"}</summary>
      <div className="scroll" tabIndex={0} role="region" aria-label={title}>
        <table className="plain">
          <thead><tr><th>Request</th><th>Route</th><th className="num">Times</th><th className="num">Last</th></tr></thead>
          <tbody>{of.map((each) => <tr key={`${each.route} ${each.method} ${each.path}`}><td><code>{each.method} {each.path}</code></td><td>{each.route}</td><td className="num">{count(each.requests)}</td><td className="num">{clock(each.last_at)}</td></tr>)}</tbody>
        </table>
      </div>
    </details>
  );
}

const FIGURES: [string, (of: Size) => string][] = [
  ["Lines of code", (of) => count(of.lines)], ["Routes", (of) => count(of.routes)], ["Tables", (of) => count(of.tables)],
  ["Bytes", (of) => count(of.bytes)], ["Transactions", (of) => (of.transactions === null ? "–" : `${count(of.transactions)}/s`)],
];

export function Decommissioning({ of, context }: { of: Departing | null; context: string }) {
  if (of === null) return null;
  return (
    <section aria-labelledby="decommissioning">
      <h2 id="decommissioning">Decommissioning</h2>
      <div className="card departing">
        <p className="big">{of.dropped_at !== null ? <><b className="good">✓ the monolith's tables are dropped</b> <span className="dim">{day(of.dropped_at)} {clock(of.dropped_at)}; what was in them is in the archive and at the service</span></>
          : of.holding !== null ? <><b>The tables wait in <code>{of.holding}</code></b> <span className="dim">and can be restored</span></>
          : <b>The tables are where they were</b>}</p>
        {of.droppable_at !== null && <p>They may be dropped {Date.parse(of.droppable_at) <= Date.now() ? <b>now</b> : <>from <b>{moment(of.droppable_at)}</b></>} <span className="dim">by hand, for there is no way back: <code>fig decommission drop {context} --confirm {context}</code></span></p>}
        {of.dropped_at === null && <Users of={of.users} none="Nobody else was seen at them while they were watched." title="Seen at the old tables" />}
        {of.dropped_at === null && of.dependents.length > 0 && <p><span className="bad">Stands on them:</span> {of.dependents.join("; ")}</p>}
        {of.dropped_at === null && of.missed.length > 0 && <Users of={of.missed} none="" title="Seen during the brown-out" />}
        {of.before !== null && of.after !== null && (
          <div className="scroll" tabIndex={0} role="region" aria-label="The monolith before and after">
            <table className="plain">
              <thead><tr><th>The monolith</th>{FIGURES.map(([name]) => <th key={name} className="num">{name}</th>)}</tr></thead>
              <tbody>{([["before", of.before], ["after", of.after]] as const).map(([side, size]) => <tr key={side}><td>{side}</td>{FIGURES.map(([name, say]) => <td key={name} className="num">{say(size)}</td>)}</tr>)}</tbody>
            </table>
          </div>
        )}
        {of.archive.length > 0 && (
          <details>
            <summary>The archive: {of.archive.length} {of.archive.length === 1 ? "table" : "tables"}</summary>
            <ul className="archive">{of.archive.map((each) => <li key={each.table}><b>{each.table}</b> <span className="dim">{count(each.rows)} rows, {count(each.bytes)} bytes</span> <code>{each.file}</code> <span className="dim">SHA-256 <code>{each.sha256}</code></span></li>)}</ul>
          </details>
        )}
      </div>
    </section>
  );
}

function Users({ of, none, title }: { of: User[] | null; none: string; title: string }) {
  if (of === null) return null;
  return of.length === 0 ? <p className="dim">{none}</p> : (
    <p><span className="pending">{title}:</span> {of.map((each) => `${each.application || "unnamed"} as ${each.role} at ${each.table}, ${count(each.seen)} times`).join("; ")}</p>
  );
}
