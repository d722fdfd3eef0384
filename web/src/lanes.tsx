/** Swimlanes: bands across the whole timeline, with their names at the left edge of what is in sight. */
import { useReactFlow, useViewport, ViewportPortal } from "@xyflow/react";
import { memo, type PointerEvent, useEffect, useRef, useState } from "react";
import { type Lane, laneOf, type Note, type Wall } from "./wall";

/** No lane is lower than its name. */
export const LOWEST = 120;

interface Props {
  wall: Wall; lanes: readonly Lane[]; notes: ReadonlyMap<string, Note>;
  editing: string | null; edit: (id: string | null) => void; say: (words: string) => void;
}

export const Lanes = memo(function Lanes({ wall, lanes, notes, editing, edit, say }: Props) {
  const { y, zoom } = useViewport();
  const [preview, show] = useState<{ id: string; height: number } | null>(null);
  const heightOf = (lane: Lane) => (preview?.id === lane.id ? preview.height : lane.height);
  const spoken = (lane: Lane, i: number) => {
    const inside = [...notes.values()].filter((note) => laneOf(note, lanes)?.id === lane.id).length;
    return `Swimlane ${lane.name || "no name"}, ${i + 1} of ${lanes.length}, ${inside} ${inside === 1 ? "sticky" : "stickies"}`;
  };
  return (
    <>
      <ViewportPortal>
        {lanes.map((lane, i) => (
          <div key={lane.id} className={`lane${i % 2 ? " odd" : ""}`} style={{ top: lane.y, height: heightOf(lane) }} />
        ))}
      </ViewportPortal>
      {/* A lane without its name would be nameless on a page that has been moved: the names stay at the edge. */}
      <ol className="lanes" aria-label="Swimlanes">
        {lanes.map((lane, i) => (
          <li key={lane.id} style={place(lane.y * zoom + y, Math.max(28, heightOf(lane) * zoom))}>
            <Name
              wall={wall} lane={lane} label={spoken(lane, i)} zoom={zoom} first={i === 0} last={i === lanes.length - 1}
              editing={editing === lane.id} edit={edit} say={say} show={show} lanes={lanes}
            />
          </li>
        ))}
      </ol>
    </>
  );
});

/** On the screen; the name stays in sight as long as any of its lane is. */
const place = (top: number, height: number) => ({ top, height, paddingTop: Math.min(Math.max(0, -top), Math.max(0, height - 36)) });

interface NameProps {
  wall: Wall; lane: Lane; lanes: readonly Lane[]; label: string; zoom: number; first: boolean; last: boolean; editing: boolean;
  edit: (id: string | null) => void; say: (words: string) => void; show: (preview: { id: string; height: number } | null) => void;
}

function Name({ wall, lane, lanes, label, zoom, first, last, editing, edit, say, show }: NameProps) {
  const [open, setOpen] = useState(false);
  const box = useRef<HTMLDivElement>(null);
  const field = useRef<HTMLInputElement>(null);
  const { writes } = wall.about;
  useEffect(() => {
    if (editing) {
      field.current?.focus({ preventScroll: true });
      field.current?.select();
    }
  }, [editing]);
  const focus = () => requestAnimationFrame(() => box.current?.querySelector<HTMLElement>(".lane-name")?.focus({ preventScroll: true }));
  const shift = (step: -1 | 1) => {
    if (step < 0 ? first : last) return;
    wall.shiftLane(lane.id, step);
    say(`${lane.name} moved ${step < 0 ? "up" : "down"}.`);
    focus();
  };
  const size = (step: number) => {
    const height = Math.max(LOWEST, lane.height + step);
    wall.sizeLane(lane.id, height);
    say(`${lane.name} is ${height} high.`);
  };
  const remove = () => {
    wall.removeLane(lane.id);
    say(`${lane.name} removed; its stickies stay.`);
  };
  const done = (words: string | null) => {
    if (!editing) return;
    edit(null);
    if (words !== null) wall.setLane(lane.id, { name: words.replaceAll('"', "'").trim() || "Lane" });
    focus();
  };
  if (editing) {
    return (
      <div className="lane-box" ref={box}>
        <input
          ref={field} className="lane-edit" aria-label="Name of the swimlane" defaultValue={lane.name} maxLength={80}
          onBlur={(event) => done(event.target.value)}
          onKeyDown={(event) => {
            event.stopPropagation();
            if (event.key === "Enter") done(event.currentTarget.value);
            else if (event.key === "Escape") done(null);
          }}
        />
      </div>
    );
  }
  return (
    <div className="lane-box" ref={box} onBlur={(event) => { if (!event.currentTarget.contains(event.relatedTarget)) setOpen(false); }}>
      <button
        type="button" className="lane-name" aria-label={label} aria-expanded={writes ? open : undefined}
        aria-keyshortcuts={writes ? "Enter Alt+ArrowUp Alt+ArrowDown Shift+ArrowUp Shift+ArrowDown Delete" : undefined}
        onClick={(event) => { if (writes && event.detail < 2 && !dragged.has(event.currentTarget)) setOpen((now) => !now); }}
        onDoubleClick={() => { if (writes) edit(lane.id); }}
        onKeyDown={(event) => {
          const step = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
          if (!writes || !(step || event.key === "Enter" || event.key === "Delete" || event.key === "Escape")) return;
          event.preventDefault();
          event.stopPropagation();
          if (event.key === "Enter") edit(lane.id);
          else if (event.key === "Delete") remove();
          else if (event.key === "Escape") setOpen(false);
          else if (event.altKey) shift(step as -1 | 1);
          else if (event.shiftKey) size(step * 40);
        }}
        onPointerDown={writes ? reorder((to) => {
          const step = Math.sign(to - lanes.indexOf(lane)) as -1 | 0 | 1;
          for (let at = lanes.indexOf(lane); step !== 0 && at !== to; at += step) wall.shiftLane(lane.id, step as -1 | 1);
        }) : undefined}
      >
        {lane.name || "Lane"}
      </button>
      {open && (
        <div className="lane-acts" role="group" aria-label={`Change ${lane.name}`}>
          <button type="button" onClick={() => edit(lane.id)}>Rename</button>
          <button type="button" disabled={first} aria-label="Move up" onClick={() => shift(-1)}>↑</button>
          <button type="button" disabled={last} aria-label="Move down" onClick={() => shift(1)}>↓</button>
          <button type="button" aria-label="Higher" onClick={() => size(40)}>+</button>
          <button type="button" aria-label="Lower" onClick={() => size(-40)}>−</button>
          <button type="button" onClick={remove}>Remove</button>
        </div>
      )}
      {writes && <span className="lane-edge" aria-hidden="true" onPointerDown={resize(lane, zoom, show, (height) => wall.sizeLane(lane.id, height))} />}
    </div>
  );
}

/** Names that have just been dragged: the click that ends it is none. */
const dragged = new WeakSet<Element>();

/** Follow the pointer until it is let go. */
function follow(element: HTMLElement, id: number, moved: (event: globalThis.PointerEvent) => void, done: (event: globalThis.PointerEvent) => void): void {
  element.setPointerCapture(id);
  const end = (event: globalThis.PointerEvent) => {
    element.removeEventListener("pointermove", moved);
    element.removeEventListener("pointerup", end);
    element.removeEventListener("pointercancel", end);
    done(event);
  };
  element.addEventListener("pointermove", moved);
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
}

const resize = (lane: Lane, zoom: number, show: (preview: { id: string; height: number } | null) => void, done: (height: number) => void) =>
  (event: PointerEvent<HTMLElement>) => {
    const start = event.clientY;
    const height = (now: globalThis.PointerEvent) => Math.round(Math.max(LOWEST, lane.height + (now.clientY - start) / zoom));
    follow(event.currentTarget, event.pointerId, (now) => show({ id: lane.id, height: height(now) }), (now) => {
      show(null);
      if (now.type === "pointerup") done(height(now));
    });
  };

/** The name is dragged to where another's is: there the lane comes to. */
const reorder = (put: (to: number) => void) => (event: PointerEvent<HTMLElement>) => {
  const [element, start] = [event.currentTarget, event.clientY];
  follow(element, event.pointerId, (now) => {
    if (Math.abs(now.clientY - start) > 4) dragged.add(element);
  }, (now) => {
    if (!dragged.has(element)) return;
    setTimeout(() => dragged.delete(element));
    if (now.type !== "pointerup") return;
    const all = [...element.closest("ol")!.children].map((li) => li.getBoundingClientRect());
    const to = all.findIndex((r) => now.clientY < r.bottom);
    put(to < 0 ? all.length - 1 : to);
  });
};

/** A key puts one up, wherever the focus is. */
export function useNewLane(wall: Wall, edit: (id: string) => void): () => void {
  const flow = useReactFlow();
  return () => {
    const { y } = flow.screenToFlowPosition({ x: innerWidth / 2, y: innerHeight / 3 });
    edit(wall.addLane("Lane", Math.round(y)));
  };
}
