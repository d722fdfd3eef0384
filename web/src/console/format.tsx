// How numbers, times and verdicts are shown, on every page alike.
import { useEffect, useState, type ReactNode } from "react";
import type { Followed } from "./api";

export const count = (value: number) => value.toLocaleString("en-US", { maximumFractionDigits: value < 10 ? 1 : 0 });
export const percent = (share: number) => `${(share * 100).toLocaleString("en-US", { maximumSignificantDigits: 4 })} %`;
export const clock = (at: string) => new Date(at).toLocaleTimeString("en-GB");
export const day = (at: string) => new Date(at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" });

/** When, as near as it is wanted: the time alone today, else with its day. */
export const moment = (at: string) => {
  const then = new Date(at);
  const time = then.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
  return then.toDateString() === new Date().toDateString() ? `today at ${time}` : `${then.toLocaleDateString("en-GB", { weekday: "short", day: "numeric", month: "short" })} at ${time}`;
};

/** Milliseconds as people say them: 0.4 ms, 12 ms, 3.4 s, 2 min. */
export function lasted(milliseconds: number): string {
  if (milliseconds < 10) return `${milliseconds.toFixed(1)} ms`;
  if (milliseconds < 1000) return `${Math.round(milliseconds)} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h${minutes % 60 === 0 ? "" : ` ${String(minutes % 60).padStart(2, "0")} min`}`;
  return `${Math.floor(minutes / 1440)} d`;
}

/** How long ago, kept current. */
export function Since({ at }: { at: string | null }) {
  const [now, setNow] = useState(Date.now);
  useEffect(() => { const timer = setInterval(() => setNow(Date.now()), 1000); return () => clearInterval(timer); }, []);
  if (at === null) return <span className="dim">–</span>;
  return <time dateTime={at} title={`${day(at)} ${clock(at)}`}>{lasted(Math.max(0, Math.round((now - Date.parse(at)) / 1000)) * 1000)}</time>;
}

const MARKS = { pass: "✓", fail: "✕", inconclusive: "…" } as const;
const WORDS = { pass: "pass", fail: "fail", inconclusive: "not enough yet" } as const;

export function Verdict({ is, more }: { is: "pass" | "fail" | "inconclusive" | null; more?: ReactNode }) {
  if (is === null) return <span className="dim">no gate</span>;
  return <span className={`verdict ${is}`}><span aria-hidden="true">{MARKS[is]}</span> {WORDS[is]}{more}</span>;
}

/** What the page knows, or why it knows nothing; keeps showing what it knew while it is cut off. */
export function Shown<T>({ of, children }: { of: Followed<T>; children: (state: T) => ReactNode }) {
  return (
    <>
      <div role="status" className="troubles">
        {of.trouble !== null && <p className="trouble"><strong>{of.state === null ? "Nothing to show" : "Not live"}:</strong> {of.trouble.message}. {of.trouble.remedy}</p>}
      </div>
      {of.state === null ? of.trouble === null && <p className="dim waiting">Reading…</p> : children(of.state)}
    </>
  );
}

export function Warnings({ of }: { of: string[] }) {
  return of.length === 0 ? null : <ul className="warnings">{of.map((each) => <li key={each}><span aria-hidden="true">!</span> {each}</li>)}</ul>;
}
