// One service's instances: what each of them answers, whether it is asked at all, and what a change of them did.
import { Chart, type Line, type Moment } from "./chart";
import { clock, count, day, lasted, percent } from "./format";
import type { Change, Compared, ExtractionPage, Instance } from "./types";

const COLOURS = ["--service", "--monolith", "--accent"];
const STATES = { serving: "✓ serving", out: "✕ gets no requests", gone: "no longer named" } as const;
const CLASSES = { serving: "good", out: "bad", gone: "dim" } as const;
const VERDICTS = { faster: "good", slower: "bad", same: "", unknown: "dim" } as const;
const value = (is: number) => (is < 1000 ? count(is) : `${count(is / 1000)}k`);

/** What happened in the time of the charts, as their upright lines show it. */
export function Marks({ of }: { of: Moment[] }) {
  if (of.length === 0) return null;
  return <ul className="marks" aria-label="Marked in the charts">{of.map((each) => <li key={each.at}><time dateTime={each.at}>{clock(each.at)}</time> {each.text}</li>)}</ul>;
}

export function Instances({ of }: { of: ExtractionPage }) {
  const { instances, changes, series, marks } = of;
  if (instances.length === 0 && changes.length === 0) return null;
  const lines = (what: "rates" | "p99s"): Line[] => instances.map((each, index) => (
    { label: each.name, colour: COLOURS[index % COLOURS.length]!, values: each[what], dash: index >= COLOURS.length }));
  const names = instances.map((each) => each.name).join(" ");
  return (
    <section aria-labelledby="instances" className="instances">
      <h2 id="instances">{instances.length === 1 ? "The service's instance" : "The service's instances"}, the last ten seconds</h2>
      {instances.length > 0 && (
        <table className="rows">
          <thead><tr><th>Instance</th><th>Health</th><th className="num">Requests</th><th>Share</th><th className="num">Median</th><th className="num">99 %</th><th className="num">Failed</th></tr></thead>
          <tbody>{instances.map((each) => <Row key={each.name} of={each} />)}</tbody>
        </table>
      )}
      {instances.length > 1 && (
        <div className="charts">
          <Chart key={`rates ${names}`} title="Requests, by instance" unit="/s" at={series.at} marks={marks} shown={value} none="no requests yet" lines={lines("rates")} />
          <Chart key={`p99s ${names}`} title="Latency, 99 %, by instance" unit=" ms" at={series.at} marks={marks} shown={value} none="no requests yet" lines={lines("p99s")} />
        </div>
      )}
      {changes.map((each) => <Changed key={each.at} of={each} />)}
    </section>
  );
}

function Row({ of }: { of: Instance }) {
  return (
    <tr data-instance={of.name}>
      <th scope="row"><code>{of.name}</code></th>
      <td data-label="Health"><span className={CLASSES[of.state]}>{STATES[of.state]}</span></td>
      <td data-label="Requests" className="num">{count(of.rate)}/s</td>
      <td data-label="Share"><span className="share"><span className="meter" aria-hidden="true"><span style={{ width: `${of.share * 100}%` }} /></span><span className="figure">{percent(of.share)}</span></span></td>
      <td data-label="Median" className="num">{of.p50_ms === null ? <span className="dim">–</span> : lasted(of.p50_ms)}</td>
      <td data-label="99 %" className="num">{of.p99_ms === null ? <span className="dim">–</span> : lasted(of.p99_ms)}</td>
      <td data-label="Failed" className="num"><span className={of.errors > 0 ? "bad" : ""}>{of.errors}</span></td>
    </tr>
  );
}

function Changed({ of }: { of: Change }) {
  const said = [of.added.length > 0 && `${of.added.join(", ")} added`, of.removed.length > 0 && `${of.removed.join(", ")} taken away`].filter(Boolean).join("; ");
  const shown: [string, (is: Compared) => string][] = [
    ["Requests", (is) => `${count(is.rate)}/s`], ["Median", (is) => (is.p50_ms === null ? "–" : lasted(is.p50_ms))],
    ["99 %", (is) => (is.p99_ms === null ? "–" : lasted(is.p99_ms))], ["Failed", (is) => count(is.errors)],
    ["Under way", (is) => is.under_way.toFixed(2)],
  ];
  return (
    <div className="card changed" data-verdict={of.verdict}>
      <p className="big"><b>{said}</b> <span className="dim">{day(of.at)} {clock(of.at)}</span></p>
      <p>What it did: <span className={VERDICTS[of.verdict]}>{of.words}</span></p>
      <div className="scroll" tabIndex={0} role="region" aria-label={`Before and after ${said}`}>
        <table className="plain">
          <thead><tr><th>The service</th>{shown.map(([name]) => <th key={name} className="num">{name}</th>)}<th className="num">Seconds</th></tr></thead>
          <tbody>{(["before", "after"] as const).map((side) => <tr key={side}><td>{side}</td>{shown.map(([name, say]) => <td key={name} className="num">{say(of[side])}</td>)}<td className="num dim">{of[side].seconds}</td></tr>)}</tbody>
        </table>
      </div>
    </div>
  );
}
