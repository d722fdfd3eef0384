/** The page: what is selected and edited, keys, and the panels around the canvas. */
import {
  Background, BackgroundVariant, type Connection, ConnectionMode, type FinalConnectionState, type NodeChange, PanOnScrollMode, ReactFlow, SelectionMode,
  useReactFlow, useStore, useViewport, ViewportPortal,
} from "@xyflow/react";
import { useCallback, useEffect, useMemo, useRef, useState, useSyncExternalStore } from "react";
import { arrowAt, Arrows, type Drawn, overlap, pathBetween } from "./arrows";
import { DoingContext, type Doing, HANDLES, nodeTypes, placed, type WallNode } from "./canvas";
import { type Kind, KINDS, ORDER, PHASES, spaced } from "./kinds";
import { Lanes, useNewLane } from "./lanes";
import { Moving } from "./moving";
import { Overview } from "./overview";
import { Help, Inspector, Palette, Top } from "./panels";
import { inOrder, type Lane, laneOf, type Note, type Picture, type Wall } from "./wall";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const coarse = matchMedia("(pointer: coarse)").matches;
/** The palette covers what is lowest. */
const ROOM = { top: "28px", bottom: "116px", left: "28px", right: "28px" } as const;
// Made once: React Flow takes an object that is new for a change, and asks each sticky what it means to it.
const PANS = coarse ? true : [1, 2];
const MORE = ["Shift", "Control", "Meta"];
const PLAIN = { hideAttribution: true };
const SPOKEN = {
  "node.a11yDescription.default": "Enter edits, arrow keys move, Delete removes.",
  "node.a11yDescription.keyboardDisabled": "Enter edits, Delete removes.",
};
const NOTHING: ReadonlySet<string> = new Set();

export function phaseOf(picture: Picture): number {
  const said = picture.session.phase;
  if (typeof said === "number" && PHASES[said]) return said;
  return picture.contexts.size > 0 ? PHASES.length - 1 : 0;
}

function labelled(note: Note, lane?: Lane): string {
  const more = `${note.pivotal ? ", pivotal" : ""}${lane ? `, in the lane ${lane.name}` : ""}`;
  return `${KINDS[note.kind].label}: ${spaced(note.kind, note.text) || "empty"}${more}`;
}

function focusOn(id: string): void {
  requestAnimationFrame(() => document.querySelector<HTMLElement>(`.react-flow__node[data-id="${CSS.escape(id)}"]`)?.focus({ preventScroll: true }));
}

export function App({ wall }: { wall: Wall }) {
  const picture = useSyncExternalStore(wall.subscribe, wall.read);
  const flow = useReactFlow<WallNode>();
  const far = useStore((s) => s.transform[2] < 0.3);
  const [selected, select] = useState<ReadonlySet<string>>(NOTHING);
  const [editing, edit] = useState<string | null>(null);
  const [fresh, setFresh] = useState<string | null>(null);
  const [linking, setLinking] = useState<string | null>(null);
  const [search, setSearch] = useState("");
  const [help, setHelp] = useState(false);
  const [said, say] = useState("");
  const pointer = useRef<{ x: number; y: number } | null>(null);
  const [moving] = useState(() => new Moving(wall, flow.getInternalNode));
  const writes = wall.about.writes;
  const phase = phaseOf(picture);

  const matches = useMemo(() => {
    const wanted = search.trim().toLowerCase();
    if (!wanted) return null;
    return [...picture.notes.values()]
      .filter((n) => `${n.text} ${spaced(n.kind, n.text)}`.toLowerCase().includes(wanted))
      .sort((a, b) => a.x - b.x || a.y - b.y);
  }, [search, picture.notes]);

  const lanes = useMemo(() => inOrder(picture.lanes), [picture.lanes]);
  const cache = useRef(new Map<string, { of: unknown; node: WallNode }>());
  const nodes = useMemo(() => {
    const hits = matches && new Set(matches.map((n) => n.id));
    const comments = new Map<string, number>();
    for (const c of picture.comments.values()) comments.set(c.note, (comments.get(c.note) ?? 0) + 1);
    const next = new Map<string, { of: unknown; node: WallNode }>();
    // A node that is as it was stays the same object: then nothing of it is drawn again.
    const keep = (id: string, source: object, key: string, make: () => WallNode): WallNode => {
      const was = cache.current.get(id);
      const of = was?.of as [object, string] | undefined;
      const entry = was && of && (of[0] === source || moving.elements.has(id)) && of[1] === key ? was : { of: [source, key], node: make() };
      next.set(id, entry);
      return entry.node;
    };
    const found: WallNode[] = [];
    for (const context of picture.contexts.values()) {
      const [isSelected, isEditing] = [selected.has(context.id), editing === context.id];
      found.push(keep(context.id, context, `${isSelected} ${isEditing}`, () => ({
        id: context.id, type: "area", style: placed(context.x, context.y), position: { x: context.x, y: context.y }, width: context.width, height: context.height,
        measured: { width: context.width, height: context.height }, data: { context, editing: isEditing },
        selected: isSelected, draggable: writes && !isEditing, zIndex: -10, dragHandle: ".area-title", connectable: false,
        ariaLabel: `Bounded context: ${context.name || "no name"}`,
      })));
    }
    const notes = [...picture.notes.values()].sort((a, b) => a.x - b.x || a.y - b.y);
    for (const note of notes) {
      const [isSelected, isEditing] = [selected.has(note.id), editing === note.id];
      const dim = hits !== null && !hits.has(note.id);
      const count = comments.get(note.id) ?? 0;
      const lane = laneOf(note, lanes);
      found.push(keep(note.id, note, `${isSelected} ${isEditing} ${dim} ${count} ${lane?.name}`, () => {
        const { width, height } = KINDS[note.kind];
        return {
          id: note.id, type: "sticky", style: { ...placed(note.x, note.y), zIndex: isEditing ? 20 : note.kind === "hotspot" ? 5 : "auto" }, position: { x: note.x, y: note.y }, width, height, measured: { width, height }, handles: HANDLES[note.kind],
          data: { note, editing: isEditing, dim, comments: count }, selected: isSelected, draggable: writes && !isEditing,
          ariaLabel: labelled(note, lane),
        };
      }));
    }
    cache.current = next;
    return found;
  }, [picture.notes, picture.contexts, picture.comments, lanes, selected, editing, matches, writes]);

  const arrows = useRef(new Map<string, { of: [Note, Note, boolean]; arrow: Drawn }>());
  const drawn = useMemo(() => {
    const next = new Map<string, { of: [Note, Note, boolean]; arrow: Drawn }>();
    for (const e of picture.edges.values()) {
      const [a, b] = [picture.notes.get(e.source), picture.notes.get(e.target)];
      if (!a || !b || overlap(a, b)) continue;
      const of: [Note, Note, boolean] = [a, b, selected.has(e.id)];
      const was = arrows.current.get(e.id);
      next.set(e.id, was && was.of.every((part, i) => part === of[i]) ? was : {
        of, arrow: { id: e.id, path: pathBetween(a, b), label: `Arrow from ${labelled(a)} to ${labelled(b)}`, selected: of[2] },
      });
    }
    arrows.current = next;
    return [...next.values()].map((entry) => entry.arrow);
  }, [picture.edges, picture.notes, selected]);
  const pick = useCallback((id: string, more: boolean) => select((before) => new Set(more ? [...before, id] : [id])), []);

  const chosen = useMemo(
    () => [...selected].map((id) => picture.notes.get(id)).filter((n) => n !== undefined).sort((a, b) => a.x - b.x),
    [selected, picture.notes],
  );

  const changed = useCallback((changes: NodeChange<WallNode>[]) => {
    const [notes, contexts] = [new Map<string, { x: number; y: number }>(), new Map<string, { x: number; y: number }>()];
    let done = false;
    const toggled = changes.filter((c) => c.type === "select");
    if (toggled.length > 0) {
      select((before) => {
        const next = new Set(before);
        for (const c of toggled) if (c.selected) next.add(c.id); else next.delete(c.id);
        return next;
      });
    }
    for (const c of changes) {
      if (c.type !== "position" || !c.position) continue;
      (wall.picture.contexts.has(c.id) ? contexts : notes).set(c.id, c.position);
      done ||= !c.dragging;
    }
    if (notes.size + contexts.size === 0) return;
    if (!done) return moving.to(notes, contexts);
    wall.move(notes, contexts, true);
    moving.end();
  }, [moving, wall]);

  const connect = useCallback((c: Connection) => wall.link(c.source, c.target), [wall]);
  // Let go anywhere on a sticky, not only on one of its points.
  const connected = useCallback((event: MouseEvent | TouchEvent, state: FinalConnectionState) => {
    if (state.isValid || !state.fromNode) return;
    const at = "changedTouches" in event ? event.changedTouches[0]! : event;
    const found = document.elementFromPoint(at.clientX, at.clientY)?.closest<HTMLElement>(".react-flow__node-sticky");
    const [from, to] = [state.fromNode.id, found?.dataset.id];
    if (to) wall.link(...(state.fromHandle?.type === "target" ? [to, from] as const : [from, to] as const));
  }, [wall]);

  // One function for all stickies, as long as nothing is joined: with a new one each of them is drawn anew.
  const clicked = useCallback((_: unknown, node: WallNode) => {
    if (!linking || node.type !== "sticky") return;
    wall.link(linking, node.id);
    setLinking(null);
    say("Joined.");
  }, [linking, wall]);

  const put = useCallback((kind: Kind) => {
    if (!writes) return say("This link only reads.");
    const look = KINDS[kind];
    if (look.phase > phase) return say(`${look.label}s come in the phase ${PHASES[look.phase]!.name}.`);
    const last = chosen.at(-1);
    let place: { x: number; y: number };
    if (last) place = { x: last.x + KINDS[last.kind].width + 40, y: last.y };
    else if (pointer.current) {
      const at = flow.screenToFlowPosition(pointer.current);
      place = { x: at.x - look.width / 2, y: at.y - look.height / 2 };
    } else {
      const at = flow.screenToFlowPosition({ x: innerWidth / 2, y: innerHeight / 2 });
      place = { x: at.x - look.width / 2, y: at.y - look.height / 2 };
    }
    place = { x: Math.round(place.x), y: Math.round(place.y) };
    const hits = (p: { x: number; y: number }) => [...wall.picture.notes.values()].some((n) => {
      const other = KINDS[n.kind];
      return p.x < n.x + other.width + 8 && p.x + look.width + 8 > n.x && p.y < n.y + other.height + 8 && p.y + look.height + 8 > n.y;
    });
    while (hits(place)) place = { x: place.x, y: place.y + 24 };
    const [id] = wall.add([{ kind, text: "", ...place }]);
    select(new Set([id!]));
    setFresh(id!);
    edit(id!);
    const seen = flow.flowToScreenPosition({ x: place.x + look.width, y: place.y + look.height });
    const first = flow.flowToScreenPosition(place);
    if (seen.x > innerWidth - 20 || seen.y > innerHeight - 110 || first.x < 0 || first.y < 60) {
      void flow.setCenter(place.x + look.width / 2, place.y + look.height / 2, { zoom: flow.getZoom(), duration: still.matches ? 0 : 150 });
    }
  }, [chosen, flow, phase, wall, writes]);

  const doing = useMemo<Doing>(() => ({
    writes,
    commit: (note, text) => {
      edit(null);
      setFresh(null);
      if (!text && !note.text) wall.remove(new Set([note.id]));
      else if (text !== note.text && !note.text) wall.word(note.id, text);
      else if (text !== note.text) wall.set(note.id, { text });
      focusOn(note.id);
    },
    cancel: (note) => {
      edit(null);
      setFresh((id) => {
        if (id === note.id && !note.text) wall.remove(new Set([note.id]));
        return null;
      });
      focusOn(note.id);
    },
    edit: (id) => { if (writes) edit(id); },
    name: (id, name) => {
      edit(null);
      wall.setContext(id, { name: name.replaceAll('"', "'").trim() || "Context" });
      focusOn(id);
    },
    resize: (id, box) => wall.setContext(id, { x: Math.round(box.x), y: Math.round(box.y), width: Math.round(box.width), height: Math.round(box.height) }),
  }), [wall, writes]);

  const linkChosen = useCallback(() => {
    if (chosen.length > 1) for (let i = 1; i < chosen.length; i++) wall.link(chosen[i - 1]!.id, chosen[i]!.id);
    else if (chosen[0]) {
      setLinking(chosen[0].id);
      say("Choose the sticky that the arrow goes to: Tab and Enter, or a click; Escape ends it.");
    }
  }, [chosen, wall]);

  const drawAround = useCallback(() => {
    if (!writes) return;
    if (phase < 4) return say(`Contexts come in the phase ${PHASES[4].name}.`);
    if (chosen.length === 0) return say("Select the stickies first that belong together.");
    const id = wall.draw(chosen, "Context");
    select(new Set([id]));
    edit(id);
  }, [chosen, phase, wall, writes]);

  const newLane = useNewLane(wall, edit);
  const divide = useRef(() => {});
  divide.current = () => {
    if (!writes) return;
    if (phase < 1) return say(`Swimlanes come in the phase ${PHASES[1].name}.`);
    newLane();
  };

  const remove = useCallback(() => {
    if (!writes || selected.size === 0) return;
    wall.remove(selected);
    say(`${selected.size} removed.`);
    select(NOTHING);
  }, [selected, wall, writes]);

  const paste = useCallback((text: string, packed: string) => {
    if (!writes) return;
    const at = flow.screenToFlowPosition(pointer.current ?? { x: innerWidth / 2, y: innerHeight / 2 });
    const kit: { notes: Omit<Note, "id">[]; links: [number, number][] } = packed
      ? (JSON.parse(packed) as { notes: Note[]; links: [number, number][] })
      : {
          notes: text.split("\n").map((line) => line.trim()).filter(Boolean).slice(0, 200)
            .map((line, i) => ({ kind: "event" as Kind, text: line.replaceAll('"', "'").slice(0, 300), x: (i % 5) * 190, y: Math.floor(i / 5) * 120 })),
          links: [],
        };
    if (kit.notes.length === 0) return;
    const [left, top] = [Math.min(...kit.notes.map((n) => n.x)), Math.min(...kit.notes.map((n) => n.y))];
    const ids = wall.add(
      kit.notes.map(({ kind, text: words, spec, answer, pivotal, x, y }) => ({
        kind, text: words, spec, answer, pivotal, x: Math.round(at.x + x - left), y: Math.round(at.y + y - top),
      })),
      kit.links,
    );
    select(new Set(ids));
    say(`${ids.length} put on the wall.`);
  }, [flow, wall, writes]);

  const packed = useCallback(() => {
    const index = new Map(chosen.map((n, i) => [n.id, i]));
    const links = [...wall.picture.edges.values()]
      .filter((e) => index.has(e.source) && index.has(e.target))
      .map((e) => [index.get(e.source)!, index.get(e.target)!]);
    return JSON.stringify({ notes: chosen, links });
  }, [chosen, wall]);

  useEffect(() => {
    const typing = (event: Event) => {
      const at = event.target as HTMLElement;
      return /^(INPUT|TEXTAREA|SELECT)$/.test(at.tagName) || at.isContentEditable;
    };
    const onKey = (event: KeyboardEvent) => {
      if (typing(event)) return;
      const command = event.ctrlKey || event.metaKey;
      const key = event.key.toLowerCase();
      const once = (work: () => void) => { event.preventDefault(); work(); };
      if (command) {
        if (key === "z") once(() => { if (writes) (event.shiftKey ? wall.undo.redo() : wall.undo.undo()); });
        else if (key === "y") once(() => { if (writes) wall.undo.redo(); });
        else if (key === "a") once(() => select(new Set(wall.picture.notes.keys())));
        else if (key === "d") once(() => { if (chosen.length) paste("", packed()); });
        else if (key === "f") once(() => document.getElementById("search")?.focus());
        return;
      }
      if (event.key === "Escape") { setLinking(null); setHelp(false); select(NOTHING); return; }
      if (event.key === "Delete" || event.key === "Backspace") return once(remove);
      const focused = (event.target as HTMLElement).closest<HTMLElement>(".react-flow__node");
      if (event.key === "Enter" && focused?.dataset.id) {
        const id = focused.dataset.id;
        if (linking) return once(() => { wall.link(linking, id); setLinking(null); say("Joined."); });
        return once(() => doing.edit(id));
      }
      if (event.altKey || localStorage.getItem("fig-keys") === "off" || (event.target as HTMLElement).tagName === "BUTTON" && event.key === " ") return;
      const kind = ORDER.find((k) => KINDS[k].key === key);
      if (kind) once(() => put(kind));
      else if (key === "b") once(drawAround);
      else if (key === "l") once(linkChosen);
      else if (key === "s") once(() => divide.current());
      else if (key === "v") once(() => { for (const n of chosen) if (n.kind === "event") wall.set(n.id, { pivotal: n.pivotal ? undefined : true }); });
      else if (key === "/") once(() => document.getElementById("search")?.focus());
      else if (key === "?") once(() => setHelp((open) => !open));
      else if (key === "0") once(() => void flow.fitView({ duration: still.matches ? 0 : 200, maxZoom: 1, padding: ROOM }));
      else if (key === "+" || key === "=") once(() => void flow.zoomIn({ duration: still.matches ? 0 : 120 }));
      else if (key === "-") once(() => void flow.zoomOut({ duration: still.matches ? 0 : 120 }));
    };
    const onCopy = (event: ClipboardEvent) => {
      if (typing(event) || chosen.length === 0) return;
      event.preventDefault();
      event.clipboardData?.setData("text/plain", chosen.map((n) => n.text).join("\n"));
      event.clipboardData?.setData("application/x-fig-wall", packed());
      if (event.type === "cut") remove();
    };
    const onPaste = (event: ClipboardEvent) => {
      if (typing(event)) return;
      event.preventDefault();
      paste(event.clipboardData?.getData("text/plain") ?? "", event.clipboardData?.getData("application/x-fig-wall") ?? "");
    };
    // Before React Flow, which moves what is selected by the same keys.
    const onResize = (event: KeyboardEvent) => {
      const [wider, higher] = ({ ArrowLeft: [-24, 0], ArrowRight: [24, 0], ArrowUp: [0, -24], ArrowDown: [0, 24] } as Record<string, [number, number]>)[event.key] ?? [0, 0];
      const [id] = selected;
      if (!event.altKey || !writes || (!wider && !higher) || selected.size !== 1 || !wall.picture.contexts.has(id!)) return;
      event.preventDefault();
      event.stopPropagation();
      wall.resizeContext(id!, wider, higher);
      const { name, width, height } = wall.picture.contexts.get(id!)!;
      say(`${name} is ${width} wide and ${height} high.`);
    };
    window.addEventListener("keydown", onResize, true);
    window.addEventListener("keydown", onKey);
    document.addEventListener("copy", onCopy);
    document.addEventListener("cut", onCopy);
    document.addEventListener("paste", onPaste);
    return () => {
      window.removeEventListener("keydown", onResize, true);
      window.removeEventListener("keydown", onKey);
      document.removeEventListener("copy", onCopy);
      document.removeEventListener("cut", onCopy);
      document.removeEventListener("paste", onPaste);
    };
  }, [chosen, doing, drawAround, flow, linkChosen, linking, packed, paste, put, remove, selected, wall, writes]);

  // What is gone cannot be selected.
  useEffect(() => {
    if ([...selected].some((id) => !picture.notes.has(id) && !picture.contexts.has(id) && !picture.edges.has(id))) {
      select(new Set([...selected].filter((id) => picture.notes.has(id) || picture.contexts.has(id) || picture.edges.has(id))));
    }
  }, [picture, selected]);

  // Nobody writes what they cannot read: from far away, the page comes near.
  useEffect(() => {
    const note = wall.picture.notes.get(editing ?? "");
    const context = wall.picture.contexts.get(editing ?? "");
    if (flow.getZoom() > 0.6 || !(note ?? context)) return;
    const place = note ? { x: note.x + KINDS[note.kind].width / 2, y: note.y } : { x: context!.x + 160, y: context!.y };
    void flow.setCenter(place.x, place.y + 60, { zoom: 0.8, duration: still.matches ? 0 : 200 });
  }, [editing, flow, wall]);

  const shown = useRef(false);
  useEffect(() => {
    if (!shown.current && picture.notes.size > 0) {
      shown.current = true;
      requestAnimationFrame(() => void flow.fitView({ maxZoom: 1, padding: ROOM }));
    }
  }, [picture.notes, flow]);

  const told = useRef(0);
  return (
    <DoingContext.Provider value={doing}>
      <div
        className={`page${linking ? " linking" : ""}${far ? " far" : ""}`}
        onPointerMove={(event) => {
          const inside = (event.target as HTMLElement).closest(".react-flow") !== null;
          pointer.current = inside ? { x: event.clientX, y: event.clientY } : null;
          if (event.timeStamp - told.current > 60) {
            told.current = event.timeStamp;
            wall.point(inside ? flow.screenToFlowPosition({ x: event.clientX, y: event.clientY }) : undefined);
          }
        }}
        onPointerLeave={() => { pointer.current = null; wall.point(undefined); }}
      >
        <Top
          wall={wall} picture={picture} phase={phase} search={search} setSearch={setSearch} help={() => setHelp(true)} say={say}
          matches={matches?.length ?? null}
          next={(step) => {
            if (!matches?.length) return;
            const now = matches.findIndex((n) => selected.has(n.id));
            const note = matches[(now + step + matches.length) % matches.length]!;
            select(new Set([note.id]));
            void flow.setCenter(note.x + KINDS[note.kind].width / 2, note.y + KINDS[note.kind].height / 2, { zoom: Math.max(flow.getZoom(), 0.8), duration: still.matches ? 0 : 200 });
          }}
        />
        <main className="canvas" aria-label="The wall">
          <ReactFlow<WallNode>
            nodes={nodes} nodeTypes={nodeTypes}
            onNodesChange={changed}
            onConnect={connect} onConnectEnd={connected}
            onNodeClick={clicked}
            onPaneClick={(event) => {
              setLinking(null);
              const arrow = arrowAt(drawn, flow.screenToFlowPosition({ x: event.clientX, y: event.clientY }), 9 / flow.getZoom());
              if (arrow) pick(arrow, event.shiftKey);
              else if (event.detail === 2) put("event");
            }}
            connectionMode={ConnectionMode.Loose} connectionRadius={30}
            selectionOnDrag={!coarse} panOnDrag={PANS} panOnScroll panOnScrollMode={PanOnScrollMode.Free}
            selectionMode={SelectionMode.Partial} zoomOnDoubleClick={false} multiSelectionKeyCode={MORE}
            selectionKeyCode={null} deleteKeyCode={null} minZoom={0.02} maxZoom={2.5} onlyRenderVisibleElements
            nodesConnectable={writes} elevateNodesOnSelect={false} nodeDragThreshold={2} proOptions={PLAIN} ariaLabelConfig={SPOKEN}
          >
            <Background variant={BackgroundVariant.Dots} gap={24} size={1.4} color="#d9d3c5" />
            <Arrows drawn={drawn} pick={pick} />
            <ViewportPortal>
              {[...picture.notes.values()].filter((n) => n.pivotal).map((n) => (
                <div key={n.id} className="pivot" data-id={n.id} style={placed(n.x + KINDS[n.kind].width / 2, n.y - 4000)} />
              ))}
            </ViewportPortal>
            <Cursors picture={picture} me={wall.doc.clientID} />
            <div className="shield" />
          </ReactFlow>
          <Lanes wall={wall} lanes={lanes} notes={picture.notes} editing={editing} edit={edit} say={say} />
          <Overview notes={picture.notes} contexts={picture.contexts} />
          {picture.notes.size === 0 && (
            <div className="empty" aria-hidden="true">
              {!picture.known && picture.state !== "refused" && <p>Connecting …</p>}
              {picture.known && <p className="big">What happens in your business?</p>}
              {picture.known && writes && <p>Press <kbd>E</kbd> and write a domain event, in the past tense: “Order placed”.</p>}
            </div>
          )}
        </main>
        {writes && <Palette phase={phase} put={put} draw={drawAround} divide={() => divide.current()} />}
        {!editing && <Inspector wall={wall} picture={picture} selected={selected} chosen={chosen} link={linkChosen} draw={drawAround} remove={remove} edit={edit} fresh={fresh} />}
        {help && <Help close={() => setHelp(false)} />}
        <div className={`toast${said ? " on" : ""}`} role="status" aria-live="polite" onAnimationEnd={() => say("")} key={said}>{said}</div>
      </div>
    </DoingContext.Provider>
  );
}

function Cursors({ picture, me }: { picture: Picture; me: number }) {
  const { zoom } = useViewport();
  return (
    <ViewportPortal>
      {picture.people.filter((p) => p.id !== me && p.cursor).map((p) => (
        <div key={p.id} className="cursor" style={{ transform: `translate(${p.cursor!.x}px, ${p.cursor!.y}px) scale(${1 / zoom})` }}>
          <svg width="18" height="18" viewBox="0 0 18 18" aria-hidden="true"><path d="M2 1 L16 8 L9.5 9.8 L6.5 16 z" fill={p.colour} stroke="#fff" strokeWidth="1.2" /></svg>
          <span style={{ background: p.colour }}>{p.name}</span>
        </div>
      ))}
    </ViewportPortal>
  );
}
