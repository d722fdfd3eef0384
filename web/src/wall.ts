/** The shared board: keyed maps in a Yjs document, a picture of them for the page, and every change one can make. */
import { IndexeddbPersistence } from "y-indexeddb";
import { Awareness } from "y-protocols/awareness";
import * as Y from "yjs";
import { KINDS, type Kind } from "./kinds";
import { Provider, type State } from "./provider";

export interface Note {
  id: string;
  kind: Kind;
  text: string;
  x: number;
  y: number;
  context?: string;
  spec?: string;
  answer?: string;
  pivotal?: boolean;
}
export interface Edge { id: string; source: string; target: string }
export interface Context { id: string; name: string; x: number; y: number; width: number; height: number }
export interface Lane { id: string; name: string; y: number; height: number }
export interface Comment { id: string; note: string; by: string; words: string; order: number }
export interface Person { id: number; name: string; colour: string; cursor?: { x: number; y: number } }
export interface About {
  board: string; name: string; file: string; writes: boolean; file_changed: boolean; reads_link: string;
}
export interface Picture {
  notes: ReadonlyMap<string, Note>;
  edges: ReadonlyMap<string, Edge>;
  contexts: ReadonlyMap<string, Context>;
  comments: ReadonlyMap<string, Comment>;
  lanes: ReadonlyMap<string, Lane>;
  session: { phase?: number; ends?: number };
  people: Person[];
  state: State;
  /** Whether what is not on the picture is not on the wall: the server has said all, or what the browser keeps is all there is. */
  known: boolean;
}
type Item = Y.Map<unknown>;
const MAPS = ["notes", "edges", "contexts", "comments", "lanes"] as const;
/** What of each is a number. */
const PLACED: Record<(typeof MAPS)[number], readonly string[]> = {
  notes: ["x", "y"], edges: [], contexts: ["x", "y", "width", "height"], comments: [], lanes: ["y", "height"],
};
type When = "now" | "when there is time" | "later";

const COLOURS = ["#0b6e99", "#a63d6b", "#2f7d4f", "#8a5a00", "#5b4bb5", "#b0413e", "#00706b", "#6b5b2e"];

/** From top to bottom. */
export const inOrder = (lanes: ReadonlyMap<string, Lane>): Lane[] =>
  [...lanes.values()].sort((a, b) => a.y - b.y || (a.id < b.id ? -1 : 1));

/** The lane that a sticky's middle is in; the upper one where two overlap. */
export function laneOf(note: Note, lanes: readonly Lane[]): Lane | undefined {
  const middle = note.y + KINDS[note.kind].height / 2;
  return lanes.find((lane) => middle >= lane.y && middle < lane.y + lane.height);
}

/** Whether it can be drawn. Anybody may write anything; and who writes on what another has just removed writes a part. */
function isWhole(name: (typeof MAPS)[number], value: Record<string, unknown>): boolean {
  if (name === "notes" && !(String(value.kind) in KINDS)) return false;
  return PLACED[name].every((key) => Number.isFinite(value[key]));
}

export class Wall {
  readonly doc = new Y.Doc();
  readonly people = new Awareness(this.doc);
  readonly undo: Y.UndoManager;
  picture: Picture = {
    notes: new Map(), edges: new Map(), contexts: new Map(), comments: new Map(), lanes: new Map(), session: {}, people: [], state: "connecting", known: false,
  };
  private readonly me = { origin: "me" };
  private readonly listeners = new Set<() => void>();
  private readonly provider: Provider;
  private waits = false;
  private due: ReturnType<typeof setTimeout> | undefined;
  /** Until when others' changes wait, that the page has as much time for its user as drawing took. */
  private rests = 0;
  private kept = false;
  private held = false;

  constructor(readonly about: About, readonly token: string) {
    for (const name of MAPS) {
      this.map(name).observeDeep((events, how) => this.follow(name, events, !how.local ? "when there is time" : this.held && how.origin === this.me ? "later" : "now"));
    }
    this.doc.getMap("session").observe(() => this.show({ session: this.doc.getMap("session").toJSON() }));
    this.undo = new Y.UndoManager(
      MAPS.map((name) => this.map(name)),
      { trackedOrigins: new Set([this.me]), captureTimeout: 400 },
    );
    const name = localStorage.getItem("fig-name") ?? `Guest ${(this.doc.clientID % 90) + 10}`;
    this.people.setLocalState({ name, colour: COLOURS[this.doc.clientID % COLOURS.length] });
    this.people.on("change", (_: unknown, origin: unknown) => { if (origin !== "local") this.show({ people: this.present() }, "when there is time"); });
    new IndexeddbPersistence(`fig-wall-${about.board}`, this.doc).once("synced", () => {
      this.kept = this.doc.store.clients.size > 0;
      this.connected();
    });
    this.provider = new Provider(this.doc, this.people, token, !about.writes, () => this.connected());
    this.show({ people: this.present() });
  }

  subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };
  read = (): Picture => this.picture;

  private connected(): void {
    const { state, synced } = this.provider ?? { state: "connecting", synced: false };
    this.show({ state, known: synced || (this.kept && state === "offline") });
  }

  // What the page sees.

  private map(name: string): Y.Map<Item> {
    return this.doc.getMap<Item>(name);
  }

  private follow(name: (typeof MAPS)[number], events: Y.YEvent<Y.AbstractType<unknown>>[], when: When): void {
    const next = new Map<string, unknown>(this.picture[name]);
    const touched = new Set<string>();
    for (const event of events) {
      if (event.path.length === 0) for (const id of event.changes.keys.keys()) touched.add(id);
      else touched.add(String(event.path[0]));
    }
    for (const id of touched) {
      const item = this.map(name).get(id);
      const value = item instanceof Y.Map ? item.toJSON() : undefined;
      if (value === undefined || !isWhole(name, value)) next.delete(id);
      else next.set(id, { ...value, id });
    }
    this.show({ [name]: next } as Partial<Picture>, when);
  }

  /** While it holds, what one does oneself is on the picture, but nobody is told. */
  hold(on: boolean): void {
    this.held = on;
    if (!on) this.show({});
  }

  /** One picture for all that comes together; with many others at work, one for all that came since the last was drawn. */
  private show(part: Partial<Picture>, when: When = "now"): void {
    this.picture = { ...this.picture, ...part };
    if (this.waits || when === "later") return;
    if (when === "when there is time") {
      this.due ??= setTimeout(() => this.tell(), Math.max(0, this.rests - performance.now()));
      return;
    }
    this.waits = true;
    queueMicrotask(() => {
      this.waits = false;
      this.tell();
    });
  }

  private tell(): void {
    clearTimeout(this.due);
    this.due = undefined;
    const began = performance.now();
    for (const listener of this.listeners) listener();
    setTimeout(() => { this.rests = 2 * performance.now() - began; });
  }

  private present(): Person[] {
    return [...this.people.getStates()].map(([id, state]) => ({
      id,
      name: String(state.name ?? "?").slice(0, 40),
      colour: /^#[0-9a-f]{6}$/.test(String(state.colour)) ? String(state.colour) : "#444444",
      cursor: state.cursor as Person["cursor"],
    }));
  }

  get myName(): string {
    return String(this.people.getLocalState()?.name ?? "");
  }

  rename(name: string): void {
    localStorage.setItem("fig-name", name);
    this.people.setLocalStateField("name", name);
  }

  point(cursor: { x: number; y: number } | undefined): void {
    this.people.setLocalStateField("cursor", cursor);
  }

  // What one can do.

  private change(work: () => void): void {
    if (this.about.writes) this.doc.transact(work, this.me);
  }

  private put(name: string, id: string, values: object): void {
    const item = this.map(name).get(id);
    const target = item instanceof Y.Map ? item : new Y.Map<unknown>();
    for (const [key, value] of Object.entries(values)) {
      if (value === undefined || value === "" && key !== "text") { if (item) target.delete(key); }
      else if (!item || target.get(key) !== value) target.set(key, value);
    }
    if (target !== item) this.map(name).set(id, target);
  }

  /** New stickies, and arrows between them; one step of undo. Returns their ids. */
  add(notes: Omit<Note, "id">[], links: [number, number][] = []): string[] {
    this.undo.stopCapturing();
    const ids = notes.map(() => crypto.randomUUID());
    this.change(() => {
      notes.forEach((note, i) => this.put("notes", ids[i]!, { context: this.contextAt(note), ...note }));
      for (const [from, to] of links) this.join(ids[from]!, ids[to]!);
    });
    return ids;
  }

  /** The first words on a new sticky: one step of undo with hanging it. */
  word(id: string, text: string): void {
    const usual = this.undo.captureTimeout;
    this.undo.captureTimeout = Number.MAX_SAFE_INTEGER;
    this.change(() => this.put("notes", id, { text }));
    this.undo.captureTimeout = usual;
    this.undo.stopCapturing();
  }

  set(id: string, values: Partial<Note>): void {
    this.undo.stopCapturing();
    this.change(() => this.put("notes", id, values));
  }

  setContext(id: string, values: Partial<Context>): void {
    this.change(() => {
      this.put("contexts", id, values);
      if (values.width !== undefined || values.height !== undefined) this.settleAll();
    });
  }

  /** Make a context larger or smaller by this much; never so small that its name has no room. */
  resizeContext(id: string, wider: number, higher: number): void {
    const context = this.picture.contexts.get(id);
    if (!context) return;
    this.undo.stopCapturing();
    this.setContext(id, { width: Math.max(160, context.width + wider), height: Math.max(120, context.height + higher) });
  }

  /** Where stickies come to when these and these contexts are moved: what is in a context goes with it. */
  places(notes: Map<string, { x: number; y: number }>, contexts: Map<string, { x: number; y: number }>): Map<string, { x: number; y: number }> {
    const places = new Map(notes);
    for (const [id, place] of contexts) {
      const was = this.picture.contexts.get(id);
      if (!was) continue;
      for (const note of this.picture.notes.values()) {
        if (note.context === id && !places.has(note.id)) {
          places.set(note.id, { x: note.x + Math.round(place.x) - was.x, y: note.y + Math.round(place.y) - was.y });
        }
      }
    }
    return places;
  }

  move(notes: Map<string, { x: number; y: number }>, contexts: Map<string, { x: number; y: number }>, done: boolean): void {
    this.change(() => {
      const places = this.places(notes, contexts);
      for (const [id, place] of contexts) {
        if (this.picture.contexts.has(id)) this.put("contexts", id, { x: Math.round(place.x), y: Math.round(place.y) });
      }
      for (const [id, place] of places) {
        const note = this.picture.notes.get(id);
        if (!note) continue;
        const settled = done && notes.has(id) ? { context: this.contextAt({ ...note, ...place }) } : {};
        this.put("notes", id, { x: Math.round(place.x), y: Math.round(place.y), ...settled });
      }
    });
    if (done) this.undo.stopCapturing();
  }

  link(source: string, target: string): void {
    if (source === target) return;
    this.undo.stopCapturing();
    this.change(() => this.join(source, target));
  }

  /** The id is made of both ends: two people who draw the same arrow draw one. */
  private join(source: string, target: string): void {
    this.put("edges", `${source}>${target}`, { source, target });
  }

  draw(around: Note[], name: string): string {
    this.undo.stopCapturing();
    const margin = 48;
    const x = Math.min(...around.map((n) => n.x)) - margin;
    const y = Math.min(...around.map((n) => n.y)) - margin - 16;
    const width = Math.max(...around.map((n) => n.x + KINDS[n.kind].width)) + margin - x;
    const height = Math.max(...around.map((n) => n.y + KINDS[n.kind].height)) + margin - y;
    const id = crypto.randomUUID();
    this.change(() => {
      this.put("contexts", id, { name, x, y, width, height });
      for (const note of around) this.put("notes", note.id, { context: id });
    });
    return id;
  }

  remove(ids: ReadonlySet<string>): void {
    this.undo.stopCapturing();
    this.change(() => {
      for (const edge of this.picture.edges.values()) {
        if (ids.has(edge.id) || ids.has(edge.source) || ids.has(edge.target)) this.map("edges").delete(edge.id);
      }
      for (const comment of this.picture.comments.values()) if (ids.has(comment.note)) this.map("comments").delete(comment.id);
      for (const note of this.picture.notes.values()) {
        if (ids.has(note.id)) this.map("notes").delete(note.id);
        else if (note.context && ids.has(note.context)) this.put("notes", note.id, { context: undefined });
      }
      for (const id of this.picture.contexts.keys()) if (ids.has(id)) this.map("contexts").delete(id);
    });
  }

  /** A lane at about this height, or below those that are there. Returns its id. */
  addLane(name: string, y: number): string {
    this.undo.stopCapturing();
    const lanes = inOrder(this.picture.lanes);
    const bottom = lanes.length > 0 ? Math.max(...lanes.map((lane) => lane.y + lane.height)) : y;
    const id = crypto.randomUUID();
    this.change(() => this.put("lanes", id, { name, y: bottom, height: 300 }));
    return id;
  }

  setLane(id: string, values: Partial<Lane>): void {
    if (!this.picture.lanes.has(id)) return;
    this.undo.stopCapturing();
    this.change(() => this.put("lanes", id, values));
  }

  /** Make a lane this high; the lanes below it, with what is in them, make room. */
  sizeLane(id: string, height: number): void {
    const lanes = inOrder(this.picture.lanes);
    const lane = this.picture.lanes.get(id);
    if (!lane || lane.height === height) return;
    this.undo.stopCapturing();
    this.change(() => {
      for (const below of lanes.slice(lanes.indexOf(lane) + 1)) this.putLane(below, below.y + height - lane.height);
      this.put("lanes", id, { height });
    });
  }

  /** Change places with the lane above (-1) or below (1); what is in them goes with them. */
  shiftLane(id: string, step: -1 | 1): void {
    const lanes = inOrder(this.picture.lanes);
    const at = lanes.findIndex((lane) => lane.id === id);
    const [upper, lower] = step < 0 ? [lanes[at - 1], lanes[at]] : [lanes[at], lanes[at + 1]];
    if (at < 0 || !upper || !lower) return;
    this.undo.stopCapturing();
    this.change(() => {
      // Both at once: what has gone into one must not be taken for the other's.
      const inside = [upper, lower].map((lane) => [...this.picture.notes.values()].filter((note) => laneOf(note, lanes)?.id === lane.id));
      this.putLane(lower, upper.y, inside[1]);
      this.putLane(upper, lower.y + lower.height - upper.height, inside[0]);
    });
  }

  private putLane(lane: Lane, y: number, inside?: Note[]): void {
    const lanes = inOrder(this.picture.lanes);
    for (const note of inside ?? [...this.picture.notes.values()].filter((each) => laneOf(each, lanes)?.id === lane.id)) {
      const place = { x: note.x, y: note.y + y - lane.y };
      this.put("notes", note.id, { y: place.y, context: this.contextAt({ ...note, ...place }) });
    }
    this.put("lanes", lane.id, { y });
  }

  removeLane(id: string): void {
    this.undo.stopCapturing();
    this.change(() => this.map("lanes").delete(id));
  }

  say(note: string, words: string): void {
    this.undo.stopCapturing();
    this.change(() => this.put("comments", crypto.randomUUID(), { note, by: this.myName, words, order: Date.now() }));
  }

  session(values: { phase?: number; ends?: number }): void {
    if (!this.about.writes) return;
    this.doc.transact(() => {
      for (const [key, value] of Object.entries(values)) this.doc.getMap("session").set(key, value);
    });
  }

  /** The smallest context whose rectangle holds the sticky's middle. */
  private contextAt(note: { kind: Kind; x: number; y: number }): string | undefined {
    const x = note.x + KINDS[note.kind].width / 2;
    const y = note.y + KINDS[note.kind].height / 2;
    return [...this.picture.contexts.values()]
      .filter((c) => x >= c.x && x <= c.x + c.width && y >= c.y && y <= c.y + c.height)
      .sort((a, b) => a.width * a.height - b.width * b.height)[0]?.id;
  }

  /** After a context has been resized: called when the picture has it. */
  private settleAll(): void {
    queueMicrotask(() => this.change(() => {
      for (const note of this.picture.notes.values()) {
        const context = this.contextAt(note);
        if (context !== note.context) this.put("notes", note.id, { context });
      }
    }));
  }

  async ask(method: string, path: string, body?: string): Promise<Response> {
    const answer = await fetch(`/api/${path}`, { method, body, headers: { Authorization: `Bearer ${this.token}` } });
    if (!answer.ok) {
      const said = (await answer.json()) as { error: { message: string; remedy: string; code: string } };
      throw Object.assign(new Error(`${said.error.message}. ${said.error.remedy}`), { code: said.error.code });
    }
    return answer;
  }
}
