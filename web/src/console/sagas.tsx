// Sagas: how many succeed, which need somebody, and flows that nobody conducts.
import "./log.css";
import "./sagas.css";
import { useState } from "react";
import { useLive } from "./api";
import { Flows } from "./flows";
import { Since, Shown, Warnings, count, lasted, percent } from "./format";
import { Graph, type Box, type Way } from "./graph";
import type { PageProps } from "./pages";
import { Saga, StatusOf } from "./saga";
import type { SagaKind, SagaRow, SagaRows, SagaShare, SagaStep, SagasPage as Sagas } from "./types";

export function SagasPage({ parts }: PageProps) {
  const [view = "", service = "", id = ""] = parts;
  if (view === "of") return <Saga service={service} id={id} />;
  return (
    <>
      <div className="head"><h1>Sagas</h1></div>
      <nav className="tabs" aria-label="Sagas">
        <a href="#/sagas" aria-current={view === "flows" ? undefined : "page"}>Conducted</a>
        <a href="#/sagas/flows" aria-current={view === "flows" ? "page" : undefined}>Choreographed</a>
      </nav>
      {view === "flows" ? <Flows /> : <Kinds />}
    </>
  );
}

function Kinds() {
  const found = useLive<Sagas>("/api/sagas");
  const [asked, setAsked] = useState({ name: "", status: "", key: "" });
  return (
    <Shown of={found}>
      {(page) => (
        <>
          <Warnings of={page.trouble} />
          {page.kinds.length === 0 && <p className="empty">No service has declared a saga. A service of the kit leaves word of its sagas when it starts.</p>}
          {page.kinds.map((each) => <Kind key={`${each.service} ${each.name}`} of={each} ask={(status) => setAsked({ name: each.name, status, key: "" })} />)}
          {page.kinds.length > 0 && <Listed kinds={page.kinds} asked={asked} set={setAsked} />}
        </>
      )}
    </Shown>
  );
}

function Kind({ of, ask }: { of: SagaKind; ask: (status: string) => void }) {
  const { boxes, ways } = drawn(of.steps, of);
  return (
    <section className="kind" aria-labelledby={`kind-${of.name}`} data-kind={of.name}>
      <div className="head named"><h2 id={`kind-${of.name}`}>{of.name}</h2><p className="dim">version {of.version}, kept by {of.service}</p></div>
      <dl className="facts">
        <div className="success"><dt>Ended within {lasted(of.success.within * 1000)}, last hour</dt><dd><Share of={of.success} /></dd></div>
        <div><dt>On their way</dt><dd>{count(of.running)}</dd></div>
        <div className={of.stuck > 0 ? "alarm" : ""}><dt>Of these stuck</dt><dd>{count(of.stuck)}</dd></div>
        <div className={of.needs_operator > 0 ? "alarm" : ""}><dt>Need an operator</dt><dd>{of.needs_operator === 0 ? 0 : <button type="button" className="link" onClick={() => ask("needs operator")}>{count(of.needs_operator)}</button>}</dd></div>
      </dl>
      <Graph name={`The saga ${of.name}, with how many went each way`} boxes={boxes} ways={ways} />
      <p className="dim caption">Arrows count the sagas that have not ended and the newest that have: {Object.entries(of.statuses).map(([status, n]) => `${count(n)} ${status}`).join(", ") || "none yet"}.</p>
    </section>
  );
}

/** A share with its interval, drawn on the part of the scale where it lies. */
function Share({ of }: { of: SagaShare }) {
  if (of.share === null || of.lower === null || of.upper === null) return <span className="dim">no samples yet</span>;
  const from = Math.max(0, 1 - (1 - of.lower) * 1.25 - 1e-6);
  const at = (value: number) => `${((value - from) / (1 - from)) * 100}%`;
  return (
    <>
      {percent(of.share)}
      <span className="range" role="img" aria-label={`between ${percent(of.lower)} and ${percent(of.upper)} at 95 % confidence`}>
        <i style={{ left: at(of.lower), width: `${((of.upper - of.lower) / (1 - from)) * 100}%` }} /><b style={{ left: at(of.share) }} />
      </span>
      <span className="dim interval-words">{percent(of.lower)} to {percent(of.upper)} at 95 %, {count(of.samples)} sagas, {count(of.failures)} not</span>
    </>
  );
}

const LIVE = ["asked", "undoing", "unknown", "failed"];
const short = (words: string) => words.slice(words.lastIndexOf(".") + 1);

/** A saga's boxes and arrows, as sagas/drawing.py lays them out: forward in one line, undos beside it, leading back. */
export function drawn(steps: SagaStep[], of: Pick<SagaKind, "starts" | "completed" | "compensated"> & Partial<Pick<SagaKind, "phases" | "statuses">>, at?: Record<string, string>): { boxes: Box[]; ways: Way[] } {
  const groups = [...new Set(steps.map((each) => each.group))].sort((a, b) => a - b).map((group) => steps.filter((each) => each.group === group));
  const phases = (step: string) => of.phases?.[step] ?? {};
  const sum = (step: string, ...which: string[]) => which.reduce((all, each) => all + (phases(step)[each] ?? 0), 0);
  const counted = of.phases !== undefined;
  const status = (...which: string[]) => (counted ? which.reduce((all, each) => all + (of.statuses?.[each] ?? 0), 0) : null);
  const reached = (step: string) => (counted ? sum(step, "asked", "done", "failed", "unknown", "undoing", "undone", "skipped") : null);
  const most = Math.max(...groups.map((group) => group.length));
  const now = (step: SagaStep) => at?.[step.name] ?? (LIVE.map((phase) => [phase, phase === "failed" ? 0 : phases(step.name)[phase] ?? 0] as const).filter(([, n]) => n > 0).map(([phase, n]) => `${count(n)} ${phase}`).join(", "));
  const alarm = (step: SagaStep) => (at === undefined ? sum(step.name, "unknown") > 0 : at[step.name] === "unknown" || at[step.name] === "failed");
  const boxes: Box[] = [{ id: "(start)", words: of.starts, kind: "end", layer: 0, across: 0 }];
  const ways: Way[] = [];
  let before = ["(start)"];
  groups.forEach((group, index) => {
    group.forEach((step, place) => {
      boxes.push({ id: step.name, words: step.name, note: [short(step.ask ?? "call"), ...(step.when === null ? [] : [`if ${step.when}`])].join(", "), kind: step.pivot ? "pivot" : "step", layer: index + 1, across: place, now: now(step), alarm: alarm(step) });
      ways.push(...before.map((each) => ({ source: each, target: step.name, gone: reached(step.name) })));
    });
    before = group.map((each) => each.name);
  });
  boxes.push({ id: "(completed)", words: of.completed ?? "completed", kind: "end", layer: groups.length + 1, across: 0 });
  ways.push(...before.map((each) => ({ source: each, target: "(completed)", gone: status("completed") })));
  const undos = steps.filter((each) => each.undo !== null);
  const layer = (step: SagaStep) => boxes.find((each) => each.id === step.name)!.layer;
  const pivot = Math.min(Infinity, ...steps.filter((each) => each.pivot).map((each) => each.group));
  const failing = steps.filter((each) => each.fail.length > 0 && each.group <= pivot);
  if (undos.length > 0 || failing.length > 0) boxes.push({ id: "(back)", words: of.compensated ?? "compensated", kind: "end", layer: 0, across: most });
  undos.forEach((step, index) => {
    boxes.push({ id: `undo ${step.name}`, words: `undo ${step.name}`, note: short(step.undo!), kind: "undo", layer: layer(step), across: most });
    const gone = counted ? sum(step.name, "undone") : null;
    ways.push({ source: `undo ${step.name}`, target: index === 0 ? "(back)" : `undo ${undos[index - 1]!.name}`, gone, back: true });
  });
  for (const step of failing) {
    const last = undos.filter((each) => each.group < step.group).at(-1);
    ways.push({ source: step.name, target: last === undefined ? "(back)" : `undo ${last.name}`, gone: counted ? sum(step.name, "failed") : null, back: true, aside: true });
  }
  return { boxes, ways };
}

type Asked = { name: string; status: string; key: string };
const STATUSES = ["needs operator", "running", "waiting", "compensating", "completed", "compensated", "refused"];

function Listed({ kinds, asked, set }: { kinds: SagaKind[]; asked: Asked; set: (asked: Asked) => void }) {
  const query = new URLSearchParams(Object.entries(asked).filter(([, value]) => value.trim() !== ""));
  const found = useLive<SagaRows>(`/api/sagas/list?${query}`);
  return (
    <section aria-labelledby="newest">
      <h2 id="newest">Newest sagas</h2>
      <div className="filters" role="search" aria-label="Filter sagas">
        <label>Kind<select value={asked.name} onChange={(event) => set({ ...asked, name: event.target.value })}><option value="">All</option>{[...new Set(kinds.map((each) => each.name))].map((each) => <option key={each}>{each}</option>)}</select></label>
        <label>Status<select value={asked.status} onChange={(event) => set({ ...asked, status: event.target.value })}><option value="">Any</option>{STATUSES.map((each) => <option key={each}>{each}</option>)}</select></label>
        <label>Key<input value={asked.key} placeholder="an order's number" maxLength={300} spellCheck={false} autoComplete="off" onChange={(event) => set({ ...asked, key: event.target.value })} /></label>
      </div>
      <Shown of={found}>{(rows) => (rows.sagas.length === 0 ? <p className="empty">No saga is like that.</p> : <Rows of={rows.sagas} />)}</Shown>
    </section>
  );
}

function Rows({ of }: { of: SagaRow[] }) {
  return (
    <table className="rows sagas">
      <thead><tr><th>Saga</th><th>Kind</th><th>Status</th><th>Began</th><th className="num">Took</th></tr></thead>
      <tbody>{of.map((each) => (
        <tr key={each.id} data-saga={each.id}>
          <th scope="row"><a href={`#/sagas/of/${encodeURIComponent(each.service)}/${encodeURIComponent(each.id)}`}>{each.key}</a>{each.tenant && <span className="aside">{each.tenant}</span>}</th>
          <td data-label="Kind">{each.name} <span className="dim">v{each.version}</span></td>
          <td data-label="Status"><StatusOf row={each} /></td>
          <td data-label="Began"><span><Since at={each.begun_at} /> ago</span></td>
          <td data-label="Took" className="num">{each.ended_at === null ? <span className="dim">–</span> : lasted(Date.parse(each.ended_at) - Date.parse(each.begun_at))}</td>
        </tr>
      ))}</tbody>
    </table>
  );
}
