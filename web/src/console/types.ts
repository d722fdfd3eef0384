// Written by `make types-web` from the Python models of stranglerfig.console; change them there.

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

/** All of it. */
export interface EstatePage {
  name: string;
  facade: string;
  contexts: ContextRow[];
  processes: Process[];
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

/** One thing that the controller says of a command. */
export interface Said {
  at: string;
  kind: "progress" | "note" | "done" | "failed";
  text: string;
  data: Record<string, unknown>;
}

/** What is sent as ``Authorization: Bearer`` from then on, and whose it is. */
export interface Session {
  session: string;
  by: string;
  estate: string;
}

/** What the façade saw of a context over the last seconds. Rates are requests a second; ``reads_share`` and ``writes_share`` are the shares that the service answered, 0 to 1. */
export interface Traffic {
  reads: number;
  writes: number;
  errors: number;
  reads_share: number | null;
  writes_share: number | null;
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
