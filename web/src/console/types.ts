// Written by `make types-web` from the Python models of stranglerfig.console; change them there.

/** One thing: a command that was asked, a milestone, or a place that was entered. */
export interface AuditEntry {
  mark: string;
  at: string;
  context: string;
  kind: "command" | "milestone" | "visit";
  what: string;
  by: string;
  text: string;
  outcome: string;
  data: Record<string, unknown>;
}

/** Newest first; ``more`` is the mark to go on behind, None at the end. */
export interface AuditPage {
  entries: AuditEntry[];
  more: string | null;
}

/** ``context``: of one context only; ``before``: the page that begins behind an entry's ``mark``. */
export interface AuditQuery {
  context?: string | null;
  before?: string | null;
  limit?: number;
}

/** A command, and what was said of it so far (the newest hundred). */
export interface CommandState {
  id: number;
  context: string;
  verb: string;
  dry_run: boolean;
  by: string;
  state: "pending" | "running" | "done" | "failed";
  asked_at: string;
  said: Said[];
}

/** One context. ``share`` is the share of reads, in percent, that the stage gives to the service. */
export interface ContextRow {
  context: string;
  begun: boolean;
  stage: string;
  step: string;
  place: string;
  since: string | null;
  owner: "monolith" | "service";
  epoch: number;
  share: number;
  traffic: Traffic | null;
  lag: Lag | null;
  verdict: "pass" | "fail" | "inconclusive" | null;
  passed: number;
  kpis: number;
  warnings: string[];
}

/** The last cut-over, from its journal; what was held is None until it has ended well. */
export interface Cutover {
  epoch: number;
  direction: "forward" | "back";
  outcome: "done" | "given up" | "under way";
  at: string;
  steps: CutoverStep[];
  held_requests: number | null;
  hold_p50_ms: number | null;
  hold_p99_ms: number | null;
  hold_max_ms: number | null;
  duration_ms: number | null;
}

/** A step of the journal; ``offset_ms`` since the first, ``took_ms`` None of one that did not end. */
export interface CutoverStep {
  step: string;
  at: string;
  offset_ms: number;
  took_ms: number | null;
  cause: string;
}

/** A row that is not the same on both sides; ``columns`` are (monolith, service). */
export interface Difference {
  table: string;
  service_table: string;
  key: Record<string, string | null>;
  kind: string;
  columns: Record<string, [string | null, string | null]>;
}

/** All of it. */
export interface EstatePage {
  name: string;
  facade: string;
  contexts: ContextRow[];
  processes: Process[];
}

/** All of it. ``next`` and ``back`` are where advance and rollback lead, None where they lead nowhere. */
export interface ExtractionPage {
  row: ContextRow;
  steps: Step[];
  next: string | null;
  back: string | null;
  verdict: "pass" | "fail" | "inconclusive" | null;
  kpis: KpiRow[];
  series: Series;
  flows: FlowRow[];
  verifications: Verification[];
  shadow: Shadow | null;
  cutover: Cutover | null;
  running: Running[];
}

/** One direction of changes: what capture and sync say of themselves. Times in milliseconds. */
export interface FlowRow {
  direction: "forward" | "reverse";
  capture: string;
  sync: string;
  lag_seconds: number | null;
  p50_ms: number | null;
  p99_ms: number | null;
  parked: number;
  error: string;
}

/** A KPI's evidence up to a moment, on the scale of its threshold: what was observed, and the exact interval. */
export interface Growth {
  at: string;
  samples: number;
  failures: number;
  observed: number | null;
  least: number | null;
  most: number | null;
}

/** One KPI of the gate; ``bound`` is what the verdict compares with ``threshold``. */
export interface KpiRow {
  name: string;
  says: string;
  kind: string;
  threshold: number | boolean;
  observed: number | boolean | null;
  bound: number | null;
  confidence: number | null;
  samples: number;
  needed: number;
  planned: number;
  limit: number | null;
  unit: string;
  verdict: "pass" | "fail" | "inconclusive";
  reason: string;
  loosened: string;
  growth: Growth[];
}

/** How far the side that does not own the data is behind, in milliseconds, and which way the changes go. */
export interface Lag {
  direction: "forward" | "reverse";
  milliseconds: number | null;
  state: string;
}

/** What a link ends in. */
export interface Link {
  token: string;
}

/** A process of ``fig up``. */
export interface Process {
  role: string;
  state: string;
  restarts: number;
  since: string | null;
}

/** What was refused, why, and what to do. */
export interface Refusal {
  code: string;
  message: string;
  remedy: string;
  context: Record<string, unknown>;
}

/** The body of every answer that is not a success. */
export interface Refused {
  error: Refusal;
}

/** A command that waits or is at work. */
export interface Running {
  id: number;
  verb: string;
  by: string;
  dry_run: boolean;
}

/** One thing that the controller says of a command. */
export interface Said {
  at: string;
  kind: "progress" | "note" | "done" | "failed";
  text: string;
  data: Record<string, unknown>;
}

/** Two answers to one read that differ, redacted. */
export interface Sample {
  at: string;
  path: string;
  verdict: string;
  differences: Record<string, unknown>[];
  monolith: unknown;
  service: unknown;
}

/** The last minutes, a value per second, None where there is none; latencies and lags in milliseconds. */
export interface Series {
  at: number[];
  monolith_p50: (number | null)[];
  service_p50: (number | null)[];
  monolith_p99: (number | null)[];
  service_p99: (number | null)[];
  monolith_rps: (number | null)[];
  service_rps: (number | null)[];
  monolith_errors: (number | null)[];
  service_errors: (number | null)[];
  lag_forward: (number | null)[];
  lag_reverse: (number | null)[];
  held: (number | null)[];
}

/** What is sent as ``Authorization: Bearer`` from then on, and whose it is. */
export interface Session {
  session: string;
  by: string;
  estate: string;
}

/** Shadow reads since the current place was entered, and the newest answers that differed. */
export interface Shadow {
  compared: number;
  equal: number;
  mismatched: number;
  lagged: number;
  noise: number;
  dropped: number;
  errors: number;
  samples: Sample[];
}

/** One place on the way. ``state`` is ``ahead`` of a place that was left by going back as well. */
export interface Step {
  stage: string;
  step: string;
  place: string;
  state: "done" | "now" | "ahead";
  entered_at: string | null;
  left_at: string | null;
  verdict: "pass" | "fail" | "inconclusive" | null;
}

/** What the façade saw of a context over the last seconds. Rates are requests a second; ``reads_share`` and ``writes_share`` are the shares that the service answered, 0 to 1. */
export interface Traffic {
  reads: number;
  writes: number;
  errors: number;
  reads_share: number | null;
  writes_share: number | null;
}

/** A whole comparison. */
export interface Verification {
  at: string;
  place: string;
  rows_compared: number;
  differences: number;
  unsettled: number;
  seconds: number;
  named: Difference[];
}

/** A command. ``override`` is the reason to pass a gate that does not pass; ``confirm`` repeats the context's name. With ``dry_run`` nothing is done but said: what would be, and what that means. */
export interface Wanted {
  verb: "advance" | "rollback" | "verify" | "abort";
  dry_run?: boolean;
  override?: string | null;
  reason?: string | null;
  repair?: boolean;
  wait?: number | null;
  confirm?: string | null;
}
