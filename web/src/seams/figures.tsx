// A figure as people read it, with what it was before.
import type { Figure, Figures, Measure, State, When } from "./api";

export function shown(figure: Figure, value: Measure): string {
  if (value === null || value === undefined) return "–";
  if (figure.kind === "share") return `${Math.round(value * 100)} %`;
  if (figure.kind === "count" || figure.name === "value") return String(value);
  return value.toFixed(3);
}

function difference(figure: Figure, now: number, before: number): string {
  const sign = now > before ? "+" : "−";
  const by = Math.abs(now - before);
  if (figure.kind === "share") {
    const points = Math.round(by * 100);
    return points === 0 ? `${sign}<1` : `${sign}${points}`;
  }
  return figure.kind === "count" ? `${sign}${by}` : by < 0.0005 ? `${sign}<0.001` : `${sign}${by.toFixed(3)}`;
}

/** The value, and how it differs from what it was; better and worse are said in words as well. */
export function Value({ figure, figures, against }: { figure: Figure; figures: Figures; against: When }) {
  const pair = figures[figure.name];
  const now = pair?.now ?? null;
  const before = pair?.[against] ?? null;
  const value = <span className="value">{shown(figure, now)}</span>;
  if (now === before) return value;
  if (now === null || before === null) {
    return <>{value} <span className="change">{before === null ? "new" : `was ${shown(figure, before)}`}</span></>;
  }
  const way = figure.better === "" ? "" : (now < before) === (figure.better === "lower") ? "better" : "worse";
  return (
    <>
      {value}{" "}
      <span className={`change ${way}`} title={`${shown(figure, before)} before${way && `; ${way}`}`}>
        {difference(figure, now, before)}<span className="unseen"> {way || "than before"}</span>
      </span>
    </>
  );
}

interface RankingProps { of: Figure[]; state: State; against: When; chosen: string; choose: (name: string) => void }

/** Every figure of every candidate, the first to move first. */
export function Ranking({ of, state, against, chosen, choose }: RankingProps) {
  return (
    <div className="scroll" tabIndex={0} role="region" aria-label="Ranking, every figure of each candidate">
      <table className="ranking">
        <thead>
          <tr>
            <th scope="col">context</th>
            {of.map((figure) => <th scope="col" key={figure.name} title={figure.means}>{figure.label}</th>)}
          </tr>
        </thead>
        <tbody>
          {state.candidates.map((each) => (
            <tr key={each.name} className={each.name === chosen ? "chosen" : ""} data-candidate={each.name}>
              <th scope="row">
                <button onClick={() => choose(each.name)} aria-pressed={each.name === chosen}>{each.name}</button>
                {each.name === state.first.now && <span className="begin">begin here</span>}
              </th>
              {of.map((figure) => (
                <td key={figure.name} data-figure={figure.name}><Value figure={figure} figures={each.figures} against={against} /></td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {state.gone.length > 0 && <p className="note">No table left: {state.gone.join(", ")}.</p>}
    </div>
  );
}

export function Whole({ of, figures, against }: { of: Figure[]; figures: Figures; against: When }) {
  return (
    <dl className="whole">
      {of.map((figure) => (
        <div key={figure.name} data-figure={figure.name}>
          <dt>{figure.label}</dt>
          <dd><Value figure={figure} figures={figures} against={against} /></dd>
          <dd className="means">{figure.means}</dd>
        </div>
      ))}
    </dl>
  );
}
