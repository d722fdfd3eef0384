/** The stickies and contexts themselves. */
import { Handle, type Node, type NodeHandle, type NodeProps, NodeResizer, Position } from "@xyflow/react";
import { createContext, memo, useContext, useEffect, useRef, useState } from "react";
import { joined, type Kind, KINDS, spaced } from "./kinds";
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

/** Places without a transform of each one's own: with thousands of those, the browser takes long to tell its layers apart. */
export const placed = (x: number, y: number) => ({ transform: "none", left: x, top: y });

/** Where arrows are drawn from, for React Flow: the points are there only while the pointer is. */
export const HANDLES = Object.fromEntries(
  Object.entries(KINDS).map(([kind, { width, height }]) => [kind, [
    { type: "target", position: Position.Left, x: -6, y: height / 2 - 6, width: 12, height: 12 },
    { type: "source", position: Position.Right, x: width - 6, y: height / 2 - 6, width: 12, height: 12 },
  ] satisfies NodeHandle[]]),
) as Record<Kind, NodeHandle[]>;

const Sticky = memo(function Sticky({ data, selected }: NodeProps<StickyNode>) {
  const doing = useDoing();
  const { note, editing, dim, comments } = data;
  const [near, setNear] = useState(false);
  const text = spaced(note.kind, note.text);
  const joins = doing.writes && (near || selected);
  return (
    <div
      onPointerEnter={() => setNear(true)} onPointerLeave={(event) => { if (event.buttons === 0) setNear(false); }}
      className={`sticky ${note.kind}${selected ? " selected" : ""}${dim ? " dim" : ""}${note.pivotal ? " pivotal" : ""}`}
      onDoubleClick={() => doing.edit(note.id)}
    >
      {joins && <Handle type="target" position={Position.Left} aria-hidden="true" />}
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
      {joins && <Handle type="source" position={Position.Right} aria-hidden="true" />}
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

export const nodeTypes = { sticky: Sticky, area: Area };
