// Events as they come. The server tells of the newest of what is asked for, four times a second, and how many it passed
// over; here the newest lines are kept and only those in view are drawn, so that a flood costs what a trickle does.
import { useEffect, useId, useRef, useState, type KeyboardEvent } from "react";
import { Refused, ask, useLive } from "./api";
import { clock, count } from "./format";
import type { LogLine, LogRecord, LogSeen } from "./types";

const KEPT = 2000;
const ROW = 30; // pixels
const AROUND = 6; // rows drawn above and below those in view
const SECONDS = 5; // over which the rates are taken

interface Numbered extends LogLine { number: number }
interface Passed { at: number; passed: number; matched: number; drawn: number }

export function Tail({ topic, topics }: { topic: string; topics: string[] }) {
  const [asked, setAsked] = useState({ type: "", key: "", text: "" });
  const [path, setPath] = useState(() => address(topic, asked));
  useEffect(() => {
    const timer = setTimeout(() => setPath(address(topic, asked)), 300); // not for each letter
    return () => clearTimeout(timer);
  }, [topic, asked]);
  const field = (name: keyof typeof asked, label: string, hint: string) => (
    <label>{label}<input value={asked[name]} placeholder={hint} maxLength={300} spellCheck={false} autoComplete="off" onChange={(event) => setAsked({ ...asked, [name]: event.target.value })} /></label>
  );
  return (
    <>
      <div className="filters" role="search" aria-label="Filter events">
        <label>Topic
          <select value={topic} onChange={(event) => { location.hash = `#/log/live${event.target.value && `/${encodeURIComponent(event.target.value)}`}`; }}>
            <option value="">All topics</option>
            {topics.map((each) => <option key={each}>{each}</option>)}
          </select>
        </label>
        {field("type", "Type", "inventory.*")}
        {field("key", "Key", "7, 8")}
        {field("text", "Words in the data", "fragile")}
      </div>
      <View key={path} path={path} />
    </>
  );
}

function address(topic: string, asked: Record<string, string>): string {
  return `/api/log/tail?${new URLSearchParams(Object.entries({ topic, ...asked }).filter(([, value]) => value.trim() !== ""))}`;
}

function View({ path }: { path: string }) {
  const [paused, setPaused] = useState(false);
  const [lines, setLines] = useState<Numbered[]>([]);
  const [opened, setOpened] = useState<Numbered | null>(null);
  const [chosen, setChosen] = useState<number | null>(null);
  const [scrolled, setScrolled] = useState({ top: 0, height: 600 });
  const [, tick] = useState(0);
  const kept = useRef<Numbered[]>([]);
  const seen = useRef<Passed[]>([]);
  const total = useRef(0);
  const frame = useRef(0);
  const list = useRef<HTMLDivElement>(null);
  const id = useId();
  // Who reads down the list, or has chosen a line, is not to have it pulled away.
  const held = paused || scrolled.top > ROW || chosen !== null;
  const hold = useRef(held);
  hold.current = held;

  const show = () => {
    frame.current ||= requestAnimationFrame(() => {
      frame.current = 0;
      tick((before) => before + 1);
      if (!hold.current) setLines(kept.current);
    });
  };
  const found = useLive<LogSeen>(path, (state) => {
    const now = performance.now();
    seen.current = [...seen.current.filter((each) => now - each.at < SECONDS * 1000), { at: now, passed: state.passed, matched: state.matched, drawn: state.lines.length }];
    if (state.lines.length > 0) {
      const fresh = state.lines.map((line) => ({ ...line, number: total.current++ })).reverse();
      kept.current = [...fresh, ...kept.current].slice(0, KEPT);
    }
    show();
  });
  useEffect(() => { if (!held) setLines(kept.current); }, [held]);
  useEffect(() => () => cancelAnimationFrame(frame.current), []);
  useEffect(() => {
    const watch = new ResizeObserver(() => setScrolled((before) => ({ ...before, height: list.current?.clientHeight ?? before.height })));
    watch.observe(list.current!);
    return () => watch.disconnect();
  }, []);

  const newer = (kept.current[0]?.number ?? -1) - (lines[0]?.number ?? -1);
  const from = Math.max(0, Math.floor(scrolled.top / ROW) - AROUND);
  const until = Math.min(lines.length, Math.ceil((scrolled.top + scrolled.height) / ROW) + AROUND);
  const goOn = () => { setPaused(false); setChosen(null); list.current!.scrollTop = 0; setScrolled((before) => ({ ...before, top: 0 })); };
  const choose = (index: number) => {
    const at = Math.max(0, Math.min(lines.length - 1, index));
    setChosen(lines[at]?.number ?? null);
    const box = list.current!;
    if (at * ROW < box.scrollTop) box.scrollTop = at * ROW;
    else if ((at + 1) * ROW > box.scrollTop + box.clientHeight) box.scrollTop = (at + 1) * ROW - box.clientHeight;
  };
  const pressed = (event: KeyboardEvent) => {
    const at = lines.findIndex((each) => each.number === chosen);
    const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + 15, PageUp: at - 15, Home: 0, End: lines.length - 1 };
    if (event.key in steps) { event.preventDefault(); choose(steps[event.key]!); }
    else if (event.key === "Enter" && at >= 0) { event.preventDefault(); setOpened(lines[at]!); } // else it presses what has the focus then
    else if (event.key === "Escape") goOn();
  };
  return (
    <section aria-label="Events" className="tail">
      <div className="tally">
        <Tally of={seen.current} />
        <span className="choices">
          {held && newer > 0 && <button type="button" className="main" onClick={goOn}>{count(newer)} newer</button>}
          <button type="button" aria-pressed={paused} onClick={() => (paused ? goOn() : setPaused(true))}>{paused ? "Go on" : "Pause"}</button>
        </span>
      </div>
      <div role="status" className="troubles">{found.trouble !== null && <p className="trouble">{found.trouble.message}. {found.trouble.remedy}</p>}</div>
      <div
        className="lines" ref={list} role="listbox" tabIndex={0} aria-label="Events, the newest first"
        aria-activedescendant={chosen === null ? undefined : `${id}-${chosen}`} onKeyDown={pressed}
        onScroll={(event) => { const { scrollTop: top, clientHeight: height } = event.currentTarget; setScrolled({ top, height }); }}
      >
        {lines.length === 0 && <p className="empty" role="option" aria-selected="false">{found.state === null ? "Reading…" : "Nothing like that yet. Events stand here as they come."}</p>}
        <div role="presentation" style={{ height: lines.length * ROW, position: "relative" }}>
          {lines.slice(from, until).map((each, index) => (
            <div
              key={each.number} id={`${id}-${each.number}`} role="option" aria-selected={each.number === chosen} aria-posinset={from + index + 1} aria-setsize={lines.length}
              className="line" style={{ transform: `translateY(${(from + index) * ROW}px)` }} onClick={() => { setChosen(each.number); setOpened(each); }}
            >
              <time>{each.time === null ? "" : clock(each.time)}</time><span className="type">{each.type}</span><span className="key">{each.key}</span><span className="preview">{each.preview}</span>
            </div>
          ))}
        </div>
      </div>
      {opened !== null && <Opened of={opened} close={() => { setOpened(null); list.current?.focus(); }} />}
    </section>
  );
}

/** What passes by, and how much of it is not drawn. */
function Tally({ of }: { of: Passed[] }) {
  const now = performance.now();
  const recent = of.filter((each) => now - each.at < SECONDS * 1000);
  const over = recent.length === 0 ? 1 : Math.max(1, (now - recent[0]!.at) / 1000);
  const sum = (name: "passed" | "matched" | "drawn") => recent.reduce((all, each) => all + each[name], 0) / over;
  const [passed, drawn] = [sum("passed"), sum("drawn")];
  const matched = Math.max(sum("matched"), drawn);
  const skipped = matched - drawn;
  return (
    <p className="figures">
      <span>passing <b data-figure="passed">{count(Math.round(passed))}</b>/s</span>
      <span>asked for <b data-figure="matched">{count(Math.round(matched))}</b>/s</span>
      <span className={skipped > 0.5 ? "over" : "dim"}>passed over <b data-figure="skipped">{count(Math.round(skipped))}</b>/s</span>
    </p>
  );
}

function Opened({ of, close }: { of: LogLine; close: () => void }) {
  const box = useRef<HTMLDialogElement>(null);
  const [record, setRecord] = useState<LogRecord | null>(null);
  const [refused, setRefused] = useState<string | null>(null);
  useEffect(() => {
    box.current!.showModal();
    const place = new URLSearchParams({ topic: of.topic, partition: String(of.partition), position: String(of.position) });
    ask<LogRecord>("GET", `/api/log/record?${place}`).then(setRecord, (error) => setRefused(error instanceof Refused ? `${error.message}. ${error.remedy}` : String(error)));
  }, []);
  return (
    <dialog ref={box} className="wide" aria-labelledby="opened-title" onClose={close}>
      <h2 id="opened-title">{of.type}</h2>
      <p className="dim">{of.topic}, partition {of.partition}, position {of.position}{record !== null && `, appended ${clock(record.appended_at)}`}</p>
      {refused !== null && <p className="trouble" role="alert">{refused}</p>}
      {record === null ? refused === null && <p className="dim">Reading…</p> : record.events.map((event, index) => <pre key={index} tabIndex={0} aria-label="The event, whole">{JSON.stringify(event, null, 2)}</pre>)}
      <form method="dialog" className="choices"><button>Close</button></form>
    </dialog>
  );
}
