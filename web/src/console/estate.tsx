// The estate: every context, where it stands, and why.
import { Agreements } from "./agreements";
import { useLive } from "./api";
import { Monolith } from "./departure";
import { Since, Shown, Verdict, Warnings, count, lasted, percent } from "./format";
import type { ContextRow, EstatePage as Estate, Waiting } from "./types";

export const STAGES = ["prepare", "build", "sync", "reads", "writes", "decommission"] as const;

export function EstatePage() {
  const found = useLive<Estate>("/api/estate");
  return (
    <>
      <h1>Estate</h1>
      <Shown of={found}>{(estate) => <Contexts of={estate} />}</Shown>
    </>
  );
}

function Contexts({ of }: { of: Estate }) {
  return (
    <>
      <p className="lead">{of.contexts.length === 1 ? "One context" : `${of.contexts.length} contexts`} behind the façade at <code>{of.facade}</code></p>
      <table className="contexts rows">
        <thead>
          <tr><th>Context</th><th>Stage</th><th>Owner</th><th>At the service</th><th className="num">Requests</th><th className="num">Lag</th><th>Gate</th></tr>
        </thead>
        <tbody>{of.contexts.map((each) => <Row key={each.context} of={each} />)}</tbody>
      </table>
      <Agreements of={of.agreements} linked />
      <Waits of={of.waiting} />
      <Monolith of={of.monolith} />
      {of.processes.length > 0 && (
        <section aria-labelledby="processes">
          <h2 id="processes">Processes</h2>
          <ul className="processes">
            {of.processes.map((each) => (
              <li key={each.role} className={each.state}>
                <span className="dot" aria-hidden="true" /><strong>{each.role}</strong>
                <span>{each.state}</span>
                <span className="dim">{each.restarts > 0 ? `${each.restarts} restarts, ` : ""}<Since at={each.since} /></span>
              </li>
            ))}
          </ul>
        </section>
      )}
    </>
  );
}

function Waits({ of }: { of: Waiting }) {
  if (of.sides.length === 0) return null;
  return (
    <section aria-labelledby="waiting">
      <h2 id="waiting">The bottleneck</h2>
      <div className="card waits" data-bottleneck={of.bottleneck ?? ""}>
        <p className="big">{of.bottleneck !== null && <span className="bad">! </span>}{of.words}</p>
        <div className="scroll" tabIndex={0} role="region" aria-label="Where requests wait">
          <table className="plain">
            <thead><tr><th>Side</th><th className="num">Requests</th><th className="num">Median</th><th className="num">Under way</th><th className="num">Share of the time</th><th className="num">Longer than at rest</th><th className="num">Waiting for others</th></tr></thead>
            <tbody>{of.sides.map((each) => (
              <tr key={each.name}>
                <td><span className={`side ${each.name === "monolith" ? "monolith" : "service"}`}>{each.name}</span></td>
                <td className="num">{count(each.rate)}/s</td>
                <td className="num">{each.p50_ms === null ? "–" : lasted(each.p50_ms)}</td>
                <td className="num">{each.under_way.toFixed(2)}</td>
                <td className="num">{percent(each.share)}</td>
                <td className="num">{each.stretch === null ? "–" : `${count(each.stretch)}×`}</td>
                <td className="num">{each.queued.toFixed(2)}</td>
              </tr>
            ))}</tbody>
          </table>
        </div>
      </div>
    </section>
  );
}

function Row({ of }: { of: ContextRow }) {
  const errors = of.traffic?.errors ?? 0;
  return (
    <tr data-context={of.context}>
      <th scope="row">
        <a href={`#/extractions/${of.context}`}>{of.context}</a>
        <Warnings of={of.warnings} />
      </th>
      <td data-label="Stage"><Stages of={of} /></td>
      <td data-label="Owner"><span className={`side ${of.owner}`}>{of.owner}</span> <span className="note">epoch {of.epoch}</span></td>
      <td data-label="At the service"><Share what="reads" is={of.traffic?.reads_share ?? null} /><Share what="writes" is={of.traffic?.writes_share ?? null} /></td>
      <td data-label="Requests" className="num">{of.traffic === null ? <span className="dim">–</span> : <span>{count(of.traffic.reads + of.traffic.writes)}/s<span className={errors > 0 ? "note bad" : "note"}>{errors} failed</span></span>}</td>
      <td data-label="Lag" className="num">{of.lag === null ? <span className="dim">–</span> : <span>{of.lag.milliseconds === null ? of.lag.state : lasted(of.lag.milliseconds)}<span className="note">{of.lag.direction}</span></span>}</td>
      <td data-label="Gate"><Verdict is={of.verdict} />{of.kpis > 0 && <span className="note">{of.passed} of {of.kpis} KPIs pass</span>}</td>
    </tr>
  );
}

function Stages({ of }: { of: ContextRow }) {
  const at = of.stage === "done" ? STAGES.length : STAGES.indexOf(of.stage as (typeof STAGES)[number]);
  return (
    <div className="where">
      <div className="track" aria-hidden="true">{STAGES.map((each, index) => <span key={each} className={index < at ? "done" : index === at && of.begun ? "now" : ""} />)}</div>
      <span>{of.begun ? of.place : "not begun"}</span> <span className="dim">{of.begun && <Since at={of.since} />}</span>
    </div>
  );
}

function Share({ what, is }: { what: string; is: number | null }) {
  return (
    <span className="share">
      <span className="what">{what}</span>
      <span className="meter" aria-hidden="true"><span style={{ width: `${(is ?? 0) * 100}%` }} /></span>
      <span className="figure">{is === null ? <span className="dim">none</span> : percent(is)}</span>
    </span>
  );
}
