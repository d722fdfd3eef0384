// The graph: a coloured box for each context with its tables, a dot as large as a table is used, lines as thick as
// what ties two of them. Tables are dragged by pointer; by keyboard they are chosen, and moved from a menu.
import { type PointerEvent, useCallback, useEffect, useLayoutEffect, useMemo, useRef, useState } from "react";
import type { Candidate, Graph, State, Tie } from "./api";

const TINTS = 12;
const FAR = 5; // pixels from which on a press is a drag
const EDGE = 70; // pixels from the window's edge where dragging scrolls
const NEW = "\u0000new";

interface Props {
  graph: Graph; state: State; chosen: string; tables: string[]; busy: boolean;
  choose: (candidate: string) => void; select: (tables: string[]) => void; move: (tables: string[], to: string | null) => void;
}
interface Line { tie: Tie; d: string; width: number; near: boolean; inside: boolean }
interface Drag { tables: string[]; x: number; y: number; startX: number; startY: number; going: boolean; over: string | null }

/** Contexts where they were proposed, new ones after them: a box does not jump when the ranking changes. */
export function inPlace(order: string[], candidates: Candidate[]): Candidate[] {
  const at = (each: Candidate) => (each.origin === null ? order.length : order.indexOf(each.origin));
  return [...candidates].sort((a, b) => at(a) - at(b) || a.name.localeCompare(b.name));
}

export function Picture({ graph, state, chosen, tables, busy, choose, select, move }: Props) {
  const boxes = inPlace(graph.order, state.candidates);
  const host = useRef<HTMLDivElement>(null);
  const [lines, setLines] = useState<Line[]>([]);
  const [drag, setDrag] = useState<Drag | null>(null);
  const pressed = useRef<Drag | null>(null);
  const dragged = useRef(false);
  const most = Math.max(1, ...graph.tables.map((table) => table.size));
  const sizes = useMemo(() => new Map(graph.tables.map((table) => [table.name, table.size])), [graph]);
  const dense = graph.tables.length > 40;
  const focus = useMemo(() => new Set(tables), [tables]);

  const draw = useCallback(() => {
    if (host.current === null) return;
    const origin = host.current.getBoundingClientRect();
    const at = new Map<string, { x: number; y: number; box: string }>();
    for (const dot of host.current.querySelectorAll<HTMLElement>("[data-table] i")) {
      const place = dot.getBoundingClientRect();
      const of = dot.parentElement!;
      at.set(of.dataset.table!, { x: place.x + place.width / 2 - origin.x, y: place.y + place.height / 2 - origin.y, box: of.dataset.in! });
    }
    const heaviest = Math.max(1e-9, ...graph.ties.map((tie) => tie.weight));
    setLines(graph.ties.flatMap((tie) => {
      const [a, b] = [at.get(tie.tables[0]), at.get(tie.tables[1])];
      if (a === undefined || b === undefined) return [];
      const bend = Math.min(36, Math.hypot(b.x - a.x, b.y - a.y) / 6);
      const d = `M${a.x.toFixed(1)} ${a.y.toFixed(1)}Q${((a.x + b.x) / 2).toFixed(1)} ${((a.y + b.y) / 2 + bend).toFixed(1)} ${b.x.toFixed(1)} ${b.y.toFixed(1)}`;
      return [{ tie, d, width: 1 + 7 * Math.sqrt(tie.weight / heaviest), near: tie.tables.some((each) => focus.has(each)), inside: a.box === b.box }];
    }));
  }, [graph, focus]);

  useLayoutEffect(draw, [draw, state]);
  useEffect(() => {
    const watch = new ResizeObserver(draw);
    watch.observe(host.current!);
    return () => watch.disconnect();
  }, [draw]);

  const press = (event: PointerEvent<HTMLButtonElement>, table: string) => {
    if (event.button !== 0 || event.pointerType === "touch") return; // a finger scrolls; it moves tables by the menu
    const going = tables.includes(table) ? tables : [table];
    pressed.current = { tables: going, x: event.clientX, y: event.clientY, startX: event.clientX, startY: event.clientY, going: false, over: null };
  };

  useEffect(() => {
    const over = (x: number, y: number) => document.elementFromPoint(x, y)?.closest<HTMLElement>("[data-drop]")?.dataset.drop ?? null;
    const moved = (event: globalThis.PointerEvent) => {
      const now = pressed.current;
      if (now === null) return;
      const going = now.going || Math.hypot(event.clientX - now.startX, event.clientY - now.startY) > FAR;
      pressed.current = { ...now, x: event.clientX, y: event.clientY, going, over: going ? over(event.clientX, event.clientY) : null };
      if (going) {
        event.preventDefault();
        setDrag(pressed.current);
        if (event.clientY < EDGE) window.scrollBy(0, -24);
        else if (event.clientY > window.innerHeight - EDGE) window.scrollBy(0, 24);
      }
    };
    const released = () => {
      const now = pressed.current;
      pressed.current = null;
      setDrag(null);
      if (now === null || !now.going) return;
      dragged.current = true; // the click that follows chooses nothing
      setTimeout(() => { dragged.current = false; }, 0);
      if (now.over !== null) move(now.tables, now.over === NEW ? null : now.over);
    };
    const stopped = (event: KeyboardEvent) => {
      if (event.key !== "Escape" || pressed.current === null) return;
      pressed.current = null;
      setDrag(null);
    };
    window.addEventListener("pointermove", moved);
    window.addEventListener("pointerup", released);
    window.addEventListener("pointercancel", released);
    window.addEventListener("keydown", stopped);
    return () => {
      window.removeEventListener("pointermove", moved);
      window.removeEventListener("pointerup", released);
      window.removeEventListener("pointercancel", released);
      window.removeEventListener("keydown", stopped);
    };
  }, [move]);

  const step = (from: HTMLElement, by: number) => {
    const all = [...host.current!.querySelectorAll<HTMLElement>("[data-table]")];
    all[(all.indexOf(from) + by + all.length) % all.length]?.focus();
  };

  return (
    <div className={`picture${dense ? " dense" : ""}${drag ? " dragging" : ""}`} ref={host} aria-busy={busy}>
      <svg className="ties" aria-hidden="true">
        {lines.map(({ tie, d, width, near, inside }) => (
          <g key={tie.tables.join("\u0000")} className={`tie${near ? " near" : ""}${inside ? " inside" : ""}${focus.size > 0 && !near ? " dim" : ""}`}>
            <path d={d} strokeWidth={width} />
            <path className="hit" d={d} onClick={() => select([...tie.tables])}>
              <title>{`${tie.tables.join(" and ")}: ${tie.kinds.join(", ").replaceAll("_", " ")} (${tie.weight.toFixed(2)})`}</title>
            </path>
          </g>
        ))}
      </svg>
      {boxes.map((each, index) => (
        <section
          key={each.origin === null ? `new ${each.name}` : `of ${each.origin}`}
          className={`box tint${index % TINTS}${each.name === chosen ? " chosen" : ""}${drag?.over === each.name ? " over" : ""}`}
          style={{ flexBasis: `${wide(each.tables, dense)}px`, minWidth: `min(100%, ${widest(each.tables) + 30}px)`, flexGrow: each.tables.length }}
          data-drop={each.name}
          aria-label={`${each.name}: ${each.tables.length} ${each.tables.length === 1 ? "table" : "tables"}`}
        >
          <h3>
            <button onClick={() => choose(each.name)} aria-pressed={each.name === chosen}>
              <span className="rank">{each.place}</span> {each.name}
            </button>
            {each.name === state.first.now && <span className="begin">begin here</span>}
            {each.origin === null && <span className="begin new">new</span>}
          </h3>
          <ul>
            {each.tables.map((table) => {
              const size = 10 + 18 * Math.sqrt((sizes.get(table) ?? 0) / most);
              return (
                <li key={table}>
                  <button
                    className="table" data-table={table} data-in={each.name} aria-pressed={focus.has(table)}
                    aria-label={`${table}, in ${each.name}`}
                    onPointerDown={(event) => press(event, table)}
                    onClick={(event) => dragged.current || select(event.ctrlKey || event.metaKey || event.shiftKey ? toggled(tables, table) : [table])}
                    onKeyDown={(event) => {
                      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
                      if (by === undefined) return;
                      event.preventDefault();
                      step(event.currentTarget, by);
                    }}
                  >
                    <i style={{ width: size, height: size }} /><span>{table}</span>
                  </button>
                </li>
              );
            })}
          </ul>
        </section>
      ))}
      <div className={`box fresh${drag?.over === NEW ? " over" : ""}`} data-drop={NEW} aria-hidden="true">Drop here for a new context</div>
      {drag && <div className="ghost" style={{ left: drag.x + 12, top: drag.y + 8 }}>{drag.tables.join(", ")}</div>}
    </div>
  );
}

/** How many pixels a box begins with, before those of a row share what is left. */
function wide(tables: string[], dense: boolean): number {
  return Math.min(3, Math.ceil(Math.sqrt(tables.length) / (dense ? 1.6 : 1))) * (dense ? 165 : 190) + 40;
}

/** About how many pixels the longest name of some tables takes, with its dot. */
function widest(tables: string[]): number {
  return 48 + 7.4 * Math.max(...tables.map((each) => each.length));
}

function toggled(tables: string[], table: string): string[] {
  return tables.includes(table) ? tables.filter((each) => each !== table) : [...tables, table];
}
