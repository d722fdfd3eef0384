// The current gate: each KPI with its threshold, value and exact interval, and how the evidence grew toward the verdict.
import { Verdict, count, percent } from "./format";
import type { ExtractionPage, Growth, KpiRow } from "./types";

const rated = (kpi: KpiRow) => kpi.kind === "rate below" || kpi.kind === "rate above" || kpi.kind === "share below limit" || kpi.kind === "no worse";
const value = (kpi: KpiRow, is: number | boolean | null) =>
  is === null ? "–" : typeof is === "boolean" ? (is ? "holds" : "does not hold") : rated(kpi) ? percent(is) : `${count(is)} ${kpi.unit}`.trim();

export function Gate({ of }: { of: ExtractionPage }) {
  return (
    <section aria-labelledby="gate">
      <h2 id="gate">Gate of {of.row.place} <Verdict is={of.verdict} /></h2>
      {of.kpis.length === 0 ? <p className="dim">Nothing is judged here{of.row.begun ? " yet" : ": the extraction has not begun"}.</p> : (
        <table className="rows kpis">
          <thead><tr><th>KPI</th><th>Threshold</th><th className="num">Value</th><th>Exact interval</th><th className="num">Samples</th><th>Verdict</th></tr></thead>
          <tbody>{of.kpis.map((each) => <Kpi key={each.name} of={each} />)}</tbody>
        </table>
      )}
    </section>
  );
}

function Kpi({ of }: { of: KpiRow }) {
  const last = of.growth.at(-1);
  const whole = of.samples + of.needed;
  return (
    <tr data-kpi={of.name} data-samples={of.samples}>
      <th scope="row"><strong>{of.name.replaceAll("_", " ")}</strong>{of.loosened && <span className="note">loosened: {of.loosened}</span>}</th>
      <td data-label="Threshold">{of.says}</td>
      <td data-label="Value" className="num"><b>{value(of, of.observed)}</b></td>
      <td data-label="Interval">
        {last !== undefined && last.least !== null && last.most !== null ? (
          <span className="interval"><Grown kpi={of} /><span className="dim">{percent(last.least)} to {percent(last.most)}</span></span>
        ) : <span className="dim">{rated(of) ? "no samples yet" : "a fact, not a sample"}</span>}
      </td>
      <td data-label="Samples" className="num">
        {rated(of) ? <span className="evidence">
          <span>{count(of.samples)}{of.needed > 0 && <span className="dim"> of {count(whole)}</span>}</span>
          <progress aria-label={`Evidence for ${of.name}`} max={whole || 1} value={of.samples} />
        </span> : <span className="dim">–</span>}
      </td>
      <td data-label="Verdict"><Verdict is={of.verdict} />{of.reason && <span className="note">{of.reason}</span>}</td>
    </tr>
  );
}

/** The interval narrowing over time, against the threshold. The scale is the last interval's, so that it can be seen. */
function Grown({ kpi }: { kpi: KpiRow }) {
  const points = kpi.growth.filter((point): point is Growth & { least: number; most: number; observed: number } => point.least !== null && point.most !== null && point.observed !== null);
  const threshold = Number(kpi.threshold);
  const last = points.at(-1)!;
  const [low, high] = [Math.min(last.least, threshold), Math.max(last.most, threshold)];
  const room = (high - low || 1) * 0.35;
  const [bottom, top] = [Math.max(0, low - room), Math.min(1, high + room)];
  const x = (index: number) => (points.length === 1 ? 150 : (index / (points.length - 1)) * 150);
  const y = (at: number) => 34 - Math.max(0, Math.min(1, (at - bottom) / (top - bottom || 1))) * 32;
  const line = (of: (point: (typeof points)[number]) => number) => points.map((point, index) => `${x(index).toFixed(1)},${y(of(point)).toFixed(1)}`);
  const band = [...line((point) => point.most), ...line((point) => point.least).reverse()].join(" ");
  return (
    <svg viewBox="0 0 150 36" width="150" height="36" aria-hidden="true" className={`grown ${kpi.verdict}`}>
      <polygon points={band} className="band" />
      <polyline points={line((point) => point.observed).join(" ")} className="observed" />
      <line x1="0" x2="150" y1={y(threshold)} y2={y(threshold)} className="threshold" />
    </svg>
  );
}
