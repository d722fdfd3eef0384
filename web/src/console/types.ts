// Written by `make types-web` from the Python models of stranglerfig.console; change them there.

/** The step that comes next, where a policy wants more of it than its gate. ``needed`` is how many must approve. ``lasts`` is how many seconds an approval counts. */
export interface Agreement {
  context: string;
  place: string;
  target: string;
  stage: string;
  needed: number;
  lasts: number;
  approved: Approved[];
  request: Request | null;
  window: Window | null;
}

/** Somebody agrees; ``until`` is when that ends. */
export interface Approved {
  person: string;
  at: string;
  until: string;
}

/** A table's archive, which is all that is left of it. */
export interface Archived {
  table: string;
  rows: number;
  bytes: number;
  file: string;
  sha256: string;
}

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

/** Addresses that were added or taken away, and the service before and after it. */
export interface Change {
  at: string;
  added: string[];
  removed: string[];
  before: Compared;
  after: Compared;
  verdict: "faster" | "slower" | "same" | "unknown";
  words: string;
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
  said: stranglerfig__console__acting__Said[];
}

/** A service over up to a minute: ``rate`` in requests a second, percentiles in milliseconds. */
export interface Compared {
  seconds: number;
  rate: number;
  p50_ms: number | null;
  p99_ms: number | null;
  mean_ms: number | null;
  errors: number;
  under_way: number;
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

/** Which courses of a flow: in a state, however old, or one by its id. */
export interface CoursesQuery {
  service: string;
  flow: string;
  state?: "done" | "running" | "stopped" | "surprising" | "";
  id?: string;
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

/** Somebody said no. */
export interface Declined {
  by: string;
  at: string;
  reason: string;
}

/** Where decommissioning stands. ``users`` and ``dependents`` are None before the tables were watched; ``missed`` who was seen during the brown-out. ``holding`` is the schema where the tables wait; ``droppable_at`` when the agreed time is over; ``dropped_at`` when they were dropped, which is the one step without a way back. */
export interface Decommissioning {
  users: User[] | null;
  dependents: string[];
  missed: User[];
  holding: string | null;
  droppable_at: string | null;
  dropped_at: string | null;
  archive: Archived[];
  before: Size | null;
  after: Size | null;
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
  waiting: Waiting;
  agreements: Agreement[];
  monolith: Monolith;
  processes: Process[];
}

/** All of it. ``next`` and ``back`` are where advance and rollback lead, None where they lead nowhere. */
export interface ExtractionPage {
  row: ContextRow;
  steps: Step[];
  next: string | null;
  back: string | null;
  agreement: Agreement | null;
  verdict: "pass" | "fail" | "inconclusive" | null;
  kpis: KpiRow[];
  series: Series;
  marks: Mark[];
  instances: Instance[];
  changes: Change[];
  flows: FlowRow[];
  verifications: Verification[];
  shadow: Shadow | null;
  cutover: Cutover | null;
  decommissioning: Decommissioning | null;
  running: Running[];
}

/** A way in the drawing; ``gone`` is how often, where that is counted; ``back`` leads to an earlier layer. */
export interface FlowArrow {
  source: string;
  target: string;
  gone: number | null;
  back: boolean;
}

/** One flow as it went, by its correlation id: what was ``missed`` makes it ``stopped``. */
export interface FlowCourse {
  id: string;
  state: "done" | "running" | "stopped" | "surprising";
  path: FlowEvent[];
  missed: FlowGap[];
  waiting: FlowGap[];
  surprises: string[];
  ends: string[];
}

/** The newest first. */
export interface FlowCourses {
  courses: FlowCourse[];
}

/** An event of a flow that was seen; ``hops`` from its start, -1 where it follows from nothing that was seen. */
export interface FlowEvent {
  id: string;
  type: string;
  source: string;
  at: string;
  hops: number;
}

/** A reaction that has not come. */
export interface FlowGap {
  service: string;
  event: string;
  id: string;
  emits: string[];
}

/** A choreographed flow as declared, and its newest courses; ``states`` counts those of the newest ``looked_at``. */
export interface FlowKind {
  service: string;
  name: string;
  starts: string[];
  ends: string[];
  within: number;
  max_hops: number | null;
  events: string[];
  reactions: ReactionDrawn[];
  spots: FlowSpot[];
  arrows: FlowArrow[];
  states: Record<string, number>;
  looked_at: number;
  courses: FlowCourse[];
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

/** An event, or (``after`` is the event) a service's reaction, in the drawing; ``across`` in widths of a box. */
export interface FlowSpot {
  id: string;
  words: string;
  after: string | null;
  layer: number;
  across: number;
}

/** All flows. */
export interface FlowsPage {
  flows: FlowKind[];
  trouble: string[];
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

/** One instance, by address and port. ``state``: ``serving``; ``out`` of one that is named and gets no requests, since its checks fail; ``gone`` of one that is no longer named. Figures are of the last ten seconds, ``rates`` and ``p99s`` a value per second of charts. */
export interface Instance {
  name: string;
  state: "serving" | "out" | "gone";
  rate: number;
  share: number;
  p50_ms: number | null;
  p99_ms: number | null;
  errors: number;
  rates: (number | null)[];
  p99s: (number | null)[];
}

/** Requests of one kind, and when the last one ended. */
export interface Kind {
  route: string;
  method: string;
  path: string;
  requests: number;
  last_at: string;
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

/** An event or a change in a view; ``preview`` is the beginning of its data, as JSON where it is some. */
export interface LogLine {
  topic: string;
  partition: number;
  position: number | string;
  type: string;
  key: string;
  time: string | null;
  preview: string;
}

/** The log as it stands. ``trouble`` says what could not be asked. */
export interface LogPage {
  log: string;
  topics: TopicRow[];
  subjects: Subject[];
  trouble: string[];
}

/** ``first`` is the oldest position that is kept, ``next`` where the next event goes. */
export interface LogPartition {
  first: number | string;
  next: number | string;
}

/** A consumer group of a topic; ``lag`` is in events, in all and by partition, null where they cannot be counted. */
export interface LogReader {
  name: string;
  committed: (number | string)[];
  lag: number | null;
  lags: number[] | null;
}

/** A record whole: its event with its data, or each change of its frame. */
export interface LogRecord {
  topic: string;
  partition: number;
  position: number | string;
  appended_at: string;
  events: Record<string, unknown>[];
}

/** What came since the message before. ``passed`` events came, of which ``unread`` were let go unread; ``matched`` of the others were asked for, and ``lines`` has the newest of those. */
export interface LogSeen {
  passed: number;
  unread: number;
  matched: number;
  lines: LogLine[];
}

/** A moment in the charts. */
export interface Mark {
  at: string;
  text: string;
}

/** Whether anything still passes to the monolith, or its end. ``quiet`` is for how many seconds nothing may have passed; ``quiet_since`` when the last request ended that did, or since when the façade is watched. ``passing`` is what passed within ``quiet``, the most frequent kinds first, of ``kinds``; ``refused`` what was asked for since it is retired. ``reasons`` is why it cannot be retired now. */
export interface Monolith {
  retired: stranglerfig__console__departure__Said | null;
  restored: stranglerfig__console__departure__Said | null;
  quiet: number;
  quiet_since: string | null;
  watched: boolean;
  passing: Kind[];
  kinds: number;
  refused: Kind[];
  reasons: string[];
}

/** What a decision does, in words, and whether it is done. */
export interface ParkedConsequence {
  words: string;
  done: boolean;
}

/** One of them, whole. */
export interface ParkedOne {
  row: ParkedRow;
  whole: Record<string, unknown>;
}

/** All that is parked, the newest first. ``trouble`` says what could not be asked. */
export interface ParkedPage {
  parked: ParkedRow[];
  trouble: string[];
}

/** Which one. */
export interface ParkedQuery {
  kind: "event" | "change";
  of: string;
  number: number;
}

/** An event that a service, or a change that sync could not handle. ``of`` is the service, or the context and direction; ``behind`` how many later ones of its key wait for it (null: all that came after it); a ``tripwire`` can only be looked at. */
export interface ParkedRow {
  kind: "event" | "change";
  of: string;
  number: number;
  what: string;
  key: string;
  error: string;
  at: string;
  attempts: number;
  behind: number | null;
  state: "waiting" | "retry" | "tripwire";
}

/** What becomes of it. With ``dry_run`` nothing is done but said. */
export interface ParkedWord {
  kind: "event" | "change";
  of: string;
  number: number;
  word: "retry" | "discard";
  dry_run?: boolean;
}

/** A process of ``fig up``. */
export interface Process {
  role: string;
  state: string;
  restarts: number;
  since: string | null;
}

/** A service reacts to an event, and says one of these then. */
export interface ReactionDrawn {
  service: string;
  event: string;
  emits: string[];
  may_stay_silent: boolean;
}

/** A place in the log. */
export interface RecordQuery {
  topic: string;
  partition?: number;
  position: number;
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

/** Who asked for the step, and was told that others must agree first. */
export interface Request {
  by: string;
  person: string;
  origin: string;
  at: string;
  plan: string;
  reason: string;
  declined: Declined | null;
}

/** A command that waits or is at work. */
export interface Running {
  id: number;
  verb: string;
  by: string;
  dry_run: boolean;
}

/** What the word does, and whether it is given. */
export interface SagaConsequence {
  words: string;
  done: boolean;
}

/** Something that happened to a saga: to a step, or (``step`` null) to the whole. */
export interface SagaEntry {
  at: string;
  step: string | null;
  what: string;
  attempt: number | null;
}

/** A kind of saga: its newest version, and how its sagas stand. ``phases`` counts, by step, in which phase it is; ``statuses`` how those stand: of the ones that have not ended and of the newest that have. ``counts`` has all that are kept, by status. */
export interface SagaKind {
  service: string;
  name: string;
  version: number;
  starts: string;
  completed: string | null;
  compensated: string | null;
  steps: SagaStep[];
  success: SagaShare;
  running: number;
  needs_operator: number;
  stuck: number;
  counts: Record<string, number>;
  phases: Record<string, Record<string, number>>;
  statuses: Record<string, number>;
}

/** One saga, whole. */
export interface SagaOne {
  row: SagaRow;
  flow: string | null;
  trace: string | null;
  data: Record<string, unknown>;
  steps: SagaStepAt[];
  drawn: SagaStep[];
  history: SagaEntry[];
  asked_by: string | null;
}

/** One saga in a list; ``blocked`` names the steps that need an operator, ``asked`` what one has asked for. */
export interface SagaRow {
  service: string;
  id: string;
  name: string;
  version: number;
  tenant: string | null;
  key: string;
  status: "waiting" | "running" | "compensating" | "needs operator" | "completed" | "compensated" | "refused";
  blocked: string | null;
  begun_at: string;
  ended_at: string | null;
  due_at: string | null;
  asked: string | null;
}

/** The newest first. */
export interface SagaRows {
  sagas: SagaRow[];
  trouble: string[];
}

/** The share of sagas that ended in time, over the last ``window`` seconds, with its 95 % interval. ``within`` is the seconds that one may take; ``share``, ``lower`` and ``upper`` are null without samples. */
export interface SagaShare {
  samples: number;
  failures: number;
  within: number;
  window: number;
  share: number | null;
  lower: number | null;
  upper: number | null;
}

/** A step as declared: steps of one ``group`` run side by side; after the ``pivot`` there is no way back. */
export interface SagaStep {
  name: string;
  group: number;
  ask: string | null;
  ok: string[];
  fail: string[];
  undo: string | null;
  timeout: number | null;
  pivot: boolean;
  when: string | null;
}

/** Where a step of a saga stands. */
export interface SagaStepAt {
  name: string;
  phase: string;
  execution: number;
  attempt: number;
  due: string | null;
}

/** An operator's word. With ``dry_run`` nothing is done but said. */
export interface SagaWord {
  word: "retry" | "resolve";
  dry_run?: boolean;
}

/** All kinds. ``trouble`` says what could not be asked. */
export interface SagasPage {
  kinds: SagaKind[];
  trouble: string[];
}

/** Which sagas; what is empty is not asked for. */
export interface SagasQuery {
  name?: string;
  status?: "waiting" | "running" | "compensating" | "needs operator" | "completed" | "compensated" | "refused" | "";
  key?: string;
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

/** A version of a subject, as it was registered. */
export interface SchemaVersion {
  version: number;
  id: number;
  registered_at: string | null;
  registered_by: string;
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

/** What one side has to do: the monolith (of all contexts' routes), or a context's service. ``rate`` is in requests a second; ``share`` is that of all requests under way, 0 to 1; ``stretch`` how many times as long its median is as when it has little to do; ``queued`` how many of those under way wait for others. */
export interface SideLoad {
  name: string;
  rate: number;
  p50_ms: number | null;
  under_way: number;
  share: number;
  stretch: number | null;
  queued: number;
}

/** What the monolith had, or has, of the context: lines of code, routes, tables, bytes, transactions a second. */
export interface Size {
  lines: number;
  routes: number;
  tables: number;
  bytes: number;
  transactions: number | null;
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

/** A schema's subject, the topic that its events travel on, and its versions in force, oldest first. */
export interface Subject {
  subject: string;
  topic: string;
  format: string;
  compatibility: string;
  versions: SchemaVersion[];
}

/** What to show of the events that come; none named is any. ``*`` in a type or key stands for anything. */
export interface TailQuery {
  topic?: string;
  type?: string;
  key?: string;
  text?: string;
}

/** A topic. ``rate`` is events appended a second over the last ten; ``kind`` is what its events are. */
export interface TopicRow {
  name: string;
  kind: "events" | "changes" | "fig" | "other";
  partitions: LogPartition[];
  retention_seconds: number | null;
  retained: number | null;
  rate: number | null;
  readers: LogReader[];
}

/** What the façade saw of a context over the last seconds. Rates are requests a second; ``reads_share`` and ``writes_share`` are the shares that the service answered, 0 to 1. */
export interface Traffic {
  reads: number;
  writes: number;
  errors: number;
  reads_share: number | null;
  writes_share: number | null;
}

/** Somebody who was seen at the old tables: how often, while they were watched. */
export interface User {
  application: string;
  role: string;
  table: string;
  seen: number;
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

/** Where requests wait: the bottleneck, if there is one, and why; the busiest side first. */
export interface Waiting {
  bottleneck: string | null;
  words: string;
  sides: SideLoad[];
}

/** A command. ``override`` is the reason to pass a gate that does not pass; ``confirm`` repeats the context's name. ``approve`` and ``decline`` are about the next step, into ``stage``; ``plan`` is the hash of what was looked at. With ``dry_run`` nothing is done but said: what would be, and what that means. */
export interface Wanted {
  verb: "advance" | "rollback" | "verify" | "abort" | "approve" | "decline";
  dry_run?: boolean;
  override?: string | null;
  reason?: string | null;
  repair?: boolean;
  wait?: number | null;
  confirm?: string | null;
  stage?: "build" | "sync" | "reads" | "writes" | "decommission" | null;
  plan?: string | null;
}

/** How one gets in: by a token or an OpenID provider, where the project says who may act; else by a link alone. */
export interface Ways {
  estate: string;
  token: boolean;
  oidc: boolean;
}

/** When the stage may be entered: each of ``groups`` must have one open; ``turns`` is when that changes. */
export interface Window {
  groups: string[][];
  open: boolean;
  turns: string | null;
}

/** One thing that the controller says of a command. */
export interface stranglerfig__console__acting__Said {
  at: string;
  kind: "progress" | "note" | "done" | "failed";
  text: string;
  data: Record<string, unknown>;
}

/** Who did it, and when. */
export interface stranglerfig__console__departure__Said {
  by: string;
  at: string;
}
