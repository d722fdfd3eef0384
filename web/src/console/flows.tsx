// Choreographed flows: how often each way was gone, where some stopped, and who did not react.
import { useState } from "react";
import { Refused, ask, useLive } from "./api";
import { Shown, Since, Warnings, clock, count, lasted } from "./format";
import { Graph } from "./graph";
import type { FlowCourse, FlowCourses, FlowKind, FlowsPage } from "./types";

const STATES = ["stopped", "surprising", "running", "done"] as const;
type State = (typeof STATES)[number];
const MEANS: Record<State, string> = { stopped: "somebody did not react", surprising: "not as drawn", running: "on its way", done: "ended as drawn" };

export function Flows() {
  const found = useLive<FlowsPage>("/api/flows");
  return (
    <Shown of={found}>
      {(page) => (
        <>
          <Warnings of={page.trouble} />
          {page.flows.length === 0 && <p className="empty">No service records a flow: <code>Flow(…).recorded_by(service)</code> has one do it.</p>}
          {page.flows.map((each) => <Flow key={`${each.service} ${each.name}`} of={each} />)}
        </>
      )}
    </Shown>
  );
}

function Flow({ of }: { of: FlowKind }) {
  const [state, setState] = useState<State | "">("");
  const [older, setOlder] = useState<FlowCourse[] | null>(null);
  const [trouble, setTrouble] = useState("");
  const stopped = new Map<string, number>();
  for (const course of of.courses) for (const gap of course.missed) stopped.set(`${gap.event}/${gap.service}`, (stopped.get(`${gap.event}/${gap.service}`) ?? 0) + 1);
  const boxes = of.spots.map((spot) => {
    const missed = spot.after === null ? 0 : stopped.get(`${spot.after}/${spot.words}`) ?? 0;
    return {
      id: spot.id, words: spot.words, layer: spot.layer, across: spot.across, kind: spot.after === null ? "end" as const : "service" as const,
      ...(missed > 0 ? { now: `${count(missed)} stopped here`, alarm: true } : {}),
    };
  });
  const shown = (older ?? of.courses).filter((each) => state === "" || each.state === state);
  const look = async (wanted: State | "") => {
    setState(wanted);
    setOlder(null);
    setTrouble("");
    if (wanted === "") return;
    try {
      setOlder((await ask<FlowCourses>("GET", `/api/flows/courses?${new URLSearchParams({ service: of.service, flow: of.name, state: wanted })}`)).courses);
    } catch (error) {
      setTrouble(error instanceof Refused ? `${error.message}. ${error.remedy}` : String(error));
    }
  };
  return (
    <section className="kind" aria-labelledby={`flow-${of.name}`} data-flow={of.name}>
      <div className="head named"><h2 id={`flow-${of.name}`}>{of.name}</h2><p className="dim">recorded by {of.service}; a reaction is missed after {lasted(of.within * 1000)}</p></div>
      <dl className="facts">
        {STATES.map((each) => <div key={each} className={each === "stopped" && (of.states[each] ?? 0) > 0 ? "alarm" : ""}><dt>{each[0]!.toUpperCase() + each.slice(1)}, {MEANS[each]}</dt><dd>{count(of.states[each] ?? 0)}</dd></div>)}
      </dl>
      <Graph name={`The flow ${of.name}, with how often each way was gone`} boxes={boxes} ways={of.arrows} />
      <p className="dim caption">The figures above are of the newest {count(of.looked_at)} flows, the arrows of all that are kept.</p>
      <div className="filters" role="search" aria-label={`Filter flows of ${of.name}`}>
        <label>State<select value={state} onChange={(event) => void look(event.target.value as State | "")}><option value="">Newest, what went wrong first</option>{STATES.map((each) => <option key={each} value={each}>{each}, however old</option>)}</select></label>
      </div>
      {trouble !== "" && <p className="trouble" role="alert">{trouble}</p>}
      {shown.length === 0 ? <p className="empty">No flow is like that.</p> : <ul className="courses">{shown.map((each) => <Course key={each.id} of={each} />)}</ul>}
    </section>
  );
}

function Course({ of }: { of: FlowCourse }) {
  const last = of.path.at(-1);
  return (
    <li data-course={of.id}>
      <details>
        <summary><code>{of.id}</code> <span className={`state ${of.state === "stopped" || of.state === "surprising" ? "alarm" : of.state === "done" ? "good" : ""}`}>{of.state}</span>
          <span className="dim">{of.missed.map((gap) => `${gap.service} did not react to ${gap.event}`).join("; ") || last?.type}{last && <>, <Since at={last.at} /> ago</>}</span></summary>
        <ol className="history">
          {of.path.map((each) => <li key={each.id}><time dateTime={each.at}>{clock(each.at)}</time><span className="dim num">{each.hops < 0 ? "?" : `hop ${each.hops}`}</span><span><strong>{each.type}</strong> <span className="dim">from {each.source}</span></span></li>)}
          {of.missed.map((gap) => <li key={`${gap.service} ${gap.id}`} className="missed"><span /><span /><span>{gap.service} should have said {gap.emits.join(" or ") || "something"} to {gap.event}</span></li>)}
          {of.waiting.map((gap) => <li key={`${gap.service} ${gap.id}`}><span /><span /><span className="dim">waits for {gap.service} to react to {gap.event}</span></li>)}
          {of.surprises.map((each) => <li key={each} className="missed"><span /><span /><span>{each}</span></li>)}
        </ol>
      </details>
    </li>
  );
}
