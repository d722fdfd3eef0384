/** The stickies, contexts and arrows themselves. */
import {
  BaseEdge, type Edge as FlowEdge, type EdgeProps, getBezierPath, Handle, type Node, type NodeProps, NodeResizer, Position,
} from "@xyflow/react";
import { createContext, memo, useContext, useEffect, useRef } from "react";
import { joined, KINDS, spaced } from "./kinds";
import type { Context, Note } from "./wall";

export interface Doing {
  writes: boolean;
  commit: (note: Note, text: string) => void;
  cancel: (note: Note) => void;
  edit: (id: string) => void;
  name: (id: string, name: string) => void;
  resize: (id: string, box: { x: number; y: number; width: number; height: number }) => void;
}
export const DoingContext = createContext<Doing | null>(null);
const useDoing = (): Doing => useContext(DoingContext)!;

export type StickyNode = Node<{ note: Note; editing: boolean; dim: boolean; comments: number }, "sticky">;
export type AreaNode = Node<{ context: Context; editing: boolean }, "area">;
export type WallNode = StickyNode | AreaNode;
export type WallEdge = FlowEdge<{ path: Ends }, "arrow">;
export interface Ends { sx: number; sy: number; sp: Position; tx: number; ty: number; tp: Position }

/** Where an arrow leaves one sticky and reaches the other: at the sides that face each other. */
export function ends(a: Note, b: Note): Ends {
  const [la, lb] = [KINDS[a.kind], KINDS[b.kind]];
  const dx = b.x + lb.width / 2 - (a.x + la.width / 2);
  const dy = b.y + lb.height / 2 - (a.y + la.height / 2);
  const apart = dx >= 0 ? b.x - (a.x + la.width) : a.x - (b.x + lb.width);
  if (apart > 12 || Math.abs(dx) > Math.abs(dy)) {
    const right = dx >= 0;
    return {
      sx: a.x + (right ? la.width : 0), sy: a.y + la.height / 2, sp: right ? Position.Right : Position.Left,
      tx: b.x + (right ? 0 : lb.width), ty: b.y + lb.height / 2, tp: right ? Position.Left : Position.Right,
    };
  }
  const down = dy >= 0;
  return {
    sx: a.x + la.width / 2, sy: a.y + (down ? la.height : 0), sp: down ? Position.Bottom : Position.Top,
    tx: b.x + lb.width / 2, ty: b.y + (down ? 0 : lb.height), tp: down ? Position.Top : Position.Bottom,
  };
}

/** Where one sticky hangs on another, that says enough: no arrow is drawn. */
export function overlap(a: Note, b: Note): boolean {
  const [la, lb] = [KINDS[a.kind], KINDS[b.kind]];
  return a.x < b.x + lb.width && b.x < a.x + la.width && a.y < b.y + lb.height && b.y < a.y + la.height;
}

export function pathOf(e: Ends): string {
  return getBezierPath({
    sourceX: e.sx, sourceY: e.sy, sourcePosition: e.sp, targetX: e.tx, targetY: e.ty, targetPosition: e.tp,
  })[0];
}

/** Places without a transform of each one's own: with thousands of those, the browser takes long to tell its layers apart. */
export const placed = (x: number, y: number) => ({ transform: "none", left: x, top: y });

const Sticky = memo(function Sticky({ data, selected }: NodeProps<StickyNode>) {
  const doing = useDoing();
  const { note, editing, dim, comments } = data;
  const text = spaced(note.kind, note.text);
  return (
    <div
      className={`sticky ${note.kind}${selected ? " selected" : ""}${dim ? " dim" : ""}${note.pivotal ? " pivotal" : ""}`}
      onDoubleClick={() => doing.edit(note.id)}
    >
      <Handle type="target" position={Position.Left} isConnectable={doing.writes} aria-label="" />
      {editing ? (
        <Editor
          start={text}
          label={KINDS[note.kind].label}
          done={(said) => doing.commit(note, joined(note.kind, said, note.text))}
          cancel={() => doing.cancel(note)}
        />
      ) : (
        <span className={`words${text.length > 44 ? " long" : ""}`}>{text || "…"}</span>
      )}
      {comments > 0 && <span className="count" title={`${comments} comments`}>{comments}</span>}
      {note.kind === "hotspot" && note.answer && <span className="count" title="answered">✓</span>}
      <Handle type="source" position={Position.Right} isConnectable={doing.writes} aria-label="" />
    </div>
  );
});

function Editor({ start, label, done, cancel }: { start: string; label: string; done: (said: string) => void; cancel: () => void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const over = useRef(false);
  useEffect(() => {
    // Not before the canvas has taken the focus that a click or a new node gives it.
    const frame = requestAnimationFrame(() => {
      field.current?.focus({ preventScroll: true });
      field.current?.select();
    });
    return () => cancelAnimationFrame(frame);
  }, []);
  const finish = (said: string | null) => {
    if (over.current) return;
    over.current = true;
    if (said === null) cancel();
    else done(said);
  };
  return (
    <textarea
      ref={field}
      className="nodrag nopan nowheel"
      aria-label={`Words on the ${label.toLowerCase()}`}
      defaultValue={start}
      maxLength={300}
      onBlur={(event) => finish(event.target.value)}
      onKeyDown={(event) => {
        event.stopPropagation();
        if (event.key === "Enter") {
          event.preventDefault();
          finish(event.currentTarget.value);
        } else if (event.key === "Escape") finish(null);
      }}
    />
  );
}

const Area = memo(function Area({ data, selected }: NodeProps<AreaNode>) {
  const doing = useDoing();
  const { context, editing } = data;
  return (
    <div className={`area${selected ? " selected" : ""}`}>
      <NodeResizer
        isVisible={selected && doing.writes}
        minWidth={160}
        minHeight={120}
        onResizeEnd={(_, box) => doing.resize(context.id, box)}
      />
      <div className="area-title" onDoubleClick={() => doing.edit(context.id)}>
        {editing ? (
          <Editor
            start={context.name}
            label="Bounded context"
            done={(said) => doing.name(context.id, said)}
            cancel={() => doing.name(context.id, context.name)}
          />
        ) : (
          context.name || "Context"
        )}
      </div>
    </div>
  );
});

function Arrow({ id, data, selected }: EdgeProps<WallEdge>) {
  return data ? (
    <BaseEdge id={id} path={pathOf(data.path)} markerEnd={`url(#${selected ? "tip-selected" : "tip"})`} interactionWidth={18} />
  ) : null;
}

export const nodeTypes = { sticky: Sticky, area: Area };
export const edgeTypes = { arrow: Arrow };

export const Tips = () => (
  <svg className="tips" aria-hidden="true">
    <defs>
      {["tip", "tip-selected"].map((id) => (
        <marker key={id} id={id} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
          <path d="M0 1 L9 5 L0 9 z" />
        </marker>
      ))}
    </defs>
  </svg>
);
