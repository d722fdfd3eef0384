// What speaks for or against going on: verification with its differences, shadow mismatches, and the last cut-over.
import { clock, count, day, lasted } from "./format";
import type { Cutover as CutoverType, ExtractionPage, Sample, Shadow as ShadowType, Verification } from "./types";

export function Flows({ of }: { of: ExtractionPage["flows"] }) {
  if (of.length === 0) return null;
  return (
    <ul className="flows">
      {of.map((each) => (
        <li key={each.direction}>
          <strong>{each.direction}</strong> <span>capture {each.capture}, sync {each.sync}</span>
          {each.p99_ms !== null && <span className="dim">half within {lasted(each.p50_ms ?? 0)}, 99 % within {lasted(each.p99_ms)}</span>}
          {each.parked > 0 && <span className="bad">{each.parked} parked</span>}
          {each.error && <span className="bad">{each.error}</span>}
        </li>
      ))}
    </ul>
  );
}

export function Verifications({ of }: { of: Verification[] }) {
  const last = of[0];
  return (
    <section aria-labelledby="verification">
      <h2 id="verification">Verification</h2>
      {last === undefined ? <p className="dim">No whole comparison yet.</p> : (
        <div className="card">
          <p className="big"><b className={last.differences > 0 ? "bad" : "good"}>{last.differences === 0 ? "✓ equal" : `${count(last.differences)} ${last.differences === 1 ? "row differs" : "rows differ"}`}</b> <span className="dim">of {count(last.rows_compared)} rows, {lasted(last.seconds * 1000)}, at {clock(last.at)}{last.unsettled > 0 && `, ${last.unsettled} unsettled`}</span></p>
          {last.named.length > 0 && (
            <div className="scroll" tabIndex={0} role="region" aria-label="Named differences"><table className="plain">
              <thead><tr><th>Row</th><th>Column</th><th>Monolith</th><th>Service</th></tr></thead>
              <tbody>
                {last.named.flatMap((row) => {
                  const name = `${row.table} ${Object.entries(row.key).map(([key, is]) => `${key} ${is}`).join(", ")}`;
                  const columns = Object.entries(row.columns);
                  return columns.length === 0 ? [<tr key={name}><td><code>{name}</code></td><td colSpan={3}>{row.kind}</td></tr>]
                    : columns.map(([column, [monolith, service]]) => <tr key={`${name} ${column}`}><td><code>{name}</code></td><td><code>{column}</code></td><td className="monolith">{monolith ?? "NULL"}</td><td className="service">{service ?? "NULL"}</td></tr>);
                })}
              </tbody>
            </table></div>
          )}
          {of.length > 1 && <details><summary>{of.length - 1} before it</summary><ul>{of.slice(1).map((each) => <li key={each.at} className="dim">{day(each.at)} {clock(each.at)}: {count(each.rows_compared)} rows, {count(each.differences)} differences, {each.place}</li>)}</ul></details>}
        </div>
      )}
    </section>
  );
}

export function Shadow({ of }: { of: ShadowType | null }) {
  return (
    <section aria-labelledby="shadow">
      <h2 id="shadow">Shadow reads</h2>
      {of === null ? <p className="dim">Nothing was compared here yet.</p> : (
        <div className="card">
          <p className="big"><b className={of.mismatched > 0 ? "bad" : of.compared > 0 ? "good" : ""}>{of.mismatched > 0 ? `${count(of.mismatched)} mismatched` : of.compared > 0 ? "✓ no mismatch" : "none here yet"}</b> <span className="dim">of {count(of.compared)} compared since this place was entered{of.lagged > 0 && `, ${count(of.lagged)} equal a moment later`}{of.noise > 0 && `, ${count(of.noise)} noise`}{of.dropped + of.errors > 0 && `, ${count(of.dropped + of.errors)} not compared`}</span></p>
          {of.samples.map((each) => <Mismatch key={`${each.at} ${each.path}`} of={each} />)}
        </div>
      )}
    </section>
  );
}

function Mismatch({ of }: { of: Sample }) {
  const fields = of.differences.map((each) => String(each.field ?? "")).filter(Boolean);
  const leaves = new Set(fields.map((field) => field.split(/[.[\]]/).filter(Boolean).at(-1)));
  return (
    <details className="mismatch">
      <summary><code>{of.path}</code> <span className="dim">{clock(of.at)}</span> {fields.length > 0 && <span className="bad">{fields.join(", ")}</span>}</summary>
      <div className="pair">
        {(["monolith", "service"] as const).map((side) => (
          <div key={side}>
            <span className={`side ${side}`}>{side}</span>
            <pre tabIndex={0} aria-label={`Answer of the ${side}`}>{JSON.stringify(of[side], null, 2)?.split("\n").map((line, index) => {
              const key = /^\s*"([^"]+)":/.exec(line)?.[1];
              return key !== undefined && leaves.has(key) ? <mark key={index}>{line}{"\n"}</mark> : <span key={index}>{line}{"\n"}</span>;
            })}</pre>
          </div>
        ))}
      </div>
    </details>
  );
}

const MEANS: Record<string, string> = {
  intend: "the loser says that it will give up", hold: "writes wait at the façade", fence: "the loser refuses writes",
  mark: "a marker closes its stream", prove: "both sides are proved equal", cede: "the loser gives up ownership",
  activate: "the winner owns the writes", release: "what waited goes on", abort: "given up: all as before",
};

export function Cutover({ of }: { of: CutoverType | null }) {
  if (of === null) return (
    <section aria-labelledby="cutover"><h2 id="cutover">Last cut-over</h2><p className="dim">There was none.</p></section>
  );
  const whole = Math.max(1, ...of.steps.map((step) => step.offset_ms + (step.took_ms ?? 0)));
  const held = of.steps.find((step) => step.step === "hold");
  const released = of.steps.find((step) => step.step === "release");
  return (
    <section aria-labelledby="cutover">
      <h2 id="cutover">Last cut-over</h2>
      <div className="card">
        <p className="big"><b className={of.outcome === "done" ? "good" : of.outcome === "given up" ? "bad" : ""}>{of.outcome === "done" ? "✓ " : ""}{of.direction === "forward" ? "to the service" : "back to the monolith"}, {of.outcome}</b> <span className="dim">{day(of.at)} {clock(of.at)}, epoch {of.epoch}</span></p>
        {of.held_requests !== null && <dl className="facts">
          <div><dt>Requests held</dt><dd>{count(of.held_requests)}</dd></div>
          <div><dt>Held, median</dt><dd>{of.hold_p50_ms === null ? "–" : lasted(of.hold_p50_ms)}</dd></div>
          <div><dt>Held, longest</dt><dd>{of.hold_max_ms === null ? "–" : lasted(of.hold_max_ms)}</dd></div>
          <div><dt>Whole cut-over</dt><dd>{of.duration_ms === null ? "–" : lasted(of.duration_ms)}</dd></div>
        </dl>}
        <ol className="journal">
          {of.steps.map((step) => (
            <li key={step.step}>
              <span className="name">{step.step}</span>
              <span className="means dim">{step.cause || MEANS[step.step]}</span>
              <span className="lane" aria-hidden="true">
                {held !== undefined && released !== undefined && <i className="held" style={{ left: `${(held.offset_ms / whole) * 100}%`, width: `${((released.offset_ms + (released.took_ms ?? 0) - held.offset_ms) / whole) * 100}%` }} />}
                <i className={step.took_ms === null ? "open" : ""} style={{ left: `${(step.offset_ms / whole) * 100}%`, width: `max(3px, ${((step.took_ms ?? whole - step.offset_ms) / whole) * 100}%)` }} />
              </span>
              <span className="num">{step.took_ms === null ? "not ended" : lasted(step.took_ms)}</span>
            </li>
          ))}
        </ol>
      </div>
    </section>
  );
}
