// What the server of `fig seams --serve` says, and asking it. All figures are the server's; none is computed here.

export type When = "now" | "proposal" | "last";
export type Measure = number | null;
export type Figures = Record<string, Record<When, Measure>>;
export interface Figure { name: string; label: string; means: string; kind: "count" | "share" | "number"; better: "" | "lower" | "higher" }
export interface Claim { text: string; evidence: string[] }
export interface Unit { kind: string; name: string; where: string; reads: string[]; writes: string[] }
export interface Candidate {
  name: string; origin: string | null; place: number; front: number; tables: string[]; modules: string[];
  routes: Unit[]; exclusive_routes: string[]; reasons: Claim[]; doubts: Claim[]; figures: Figures;
}
export interface Tie { tables: [string, string]; weight: number; kinds: string[] }
export interface Graph {
  run: string; name: string; edits: string; divisions: number; size_of: string; order: string[];
  tables: { name: string; columns: number; size: number }[];
  ties: Tie[];
  coverage: { source: string; state: string; said: string }[];
  of_a_candidate: Figure[]; of_all: Figure[];
}
export interface State {
  run: string; first: Record<When, string>; passed_over: string[]; figures: Figures; candidates: Candidate[];
  gone: string[]; done: string[]; undone: string[]; left: string[]; edited: boolean; command: string;
}
export interface Use { kind: string; name: string; where: string; excerpt: string; writes: boolean; others: string[]; times: number }
export interface TableEvidence {
  name: string; key: string[];
  columns: { name: string; type: string; optional: boolean }[];
  references: { table: string; target: string; where: string }[];
  uses: Use[];
  together: { table: string; share: number }[];
}
export type Step = { move: string[]; to: string | null } | { rename: string; to: string } | { proposal: true };

/** What the server refused, by its code. */
export class Refused extends Error {
  constructor(readonly code: string, message: string, readonly remedy: string, readonly context: Record<string, unknown>) {
    super(message);
  }
}

export class Api {
  private tag = "";

  constructor(private readonly token: string) {}

  graph(): Promise<Graph> {
    return this.ask<Graph>("GET", "graph");
  }

  /** All figures, or null when they are those that it gave last. */
  async state(): Promise<State | null> {
    const answer = await this.send("GET", "seams", undefined, this.tag === "" ? {} : { "If-None-Match": this.tag });
    return answer.status === 304 ? null : this.heard<State>(answer);
  }

  table(name: string): Promise<TableEvidence> {
    return this.ask<TableEvidence>("GET", `table?name=${encodeURIComponent(name)}`);
  }

  step(step: Step): Promise<State> {
    return this.ask<State>("POST", "steps", step);
  }

  undo(): Promise<State> {
    return this.ask<State>("POST", "undo");
  }

  redo(): Promise<State> {
    return this.ask<State>("POST", "redo");
  }

  draft(candidate: string, replace: boolean): Promise<{ file: string; command: string }> {
    return this.ask("POST", "draft", { candidate, replace });
  }

  private async ask<T>(method: string, what: string, body?: unknown): Promise<T> {
    return this.heard<T>(await this.send(method, what, body, {}));
  }

  private send(method: string, what: string, body: unknown, headers: Record<string, string>): Promise<Response> {
    return fetch(`/api/${what}`, {
      method,
      headers: { Authorization: `Bearer ${this.token}`, ...headers },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
  }

  private async heard<T>(answer: Response): Promise<T> {
    if (!answer.ok) {
      const said = ((await answer.json().catch(() => ({}))) as { error?: Partial<Refused> }).error ?? {};
      throw new Refused(said.code ?? "", said.message ?? `the server answered ${answer.status}`, said.remedy ?? "", said.context ?? {});
    }
    this.tag = answer.headers.get("ETag") ?? this.tag;
    return (await answer.json()) as T;
  }
}
