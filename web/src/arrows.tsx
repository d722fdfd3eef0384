/** All arrows in one picture: as an element and a layer each, thousands of them take longer than a frame to compose. */
import { Position, getBezierPath, ViewportPortal } from "@xyflow/react";
import { memo } from "react";
import { KINDS } from "./kinds";
import type { Note } from "./wall";

export interface Drawn { id: string; path: string; label: string; selected: boolean }
interface Ends { sx: number; sy: number; sp: Position; tx: number; ty: number; tp: Position }

/** Where an arrow leaves one sticky and reaches the other: at the sides that face each other. */
function ends(a: Note, b: Note): Ends {
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

export function pathBetween(a: Note, b: Note): string {
  const e = ends(a, b);
  return getBezierPath({
    sourceX: e.sx, sourceY: e.sy, sourcePosition: e.sp, targetX: e.tx, targetY: e.ty, targetPosition: e.tp,
  })[0];
}

/** The topmost arrow that a place on the wall is on, or within `reach` of. */
export function arrowAt(arrows: readonly Drawn[], place: { x: number; y: number }, reach: number): string | undefined {
  const pen = document.createElement("canvas").getContext("2d");
  if (!pen) return undefined;
  pen.lineWidth = 2 * reach;
  return arrows.findLast((arrow) => pen.isPointInStroke(new Path2D(arrow.path), place.x, place.y))?.id;
}

const Arrow = memo(function Arrow({ id, path, label, selected, pick }: Drawn & { pick: (id: string, more: boolean) => void }) {
  return (
    <path
      className={`arrow${selected ? " selected" : ""}`} data-id={id} d={path} markerEnd={`url(#${selected ? "tip-selected" : "tip"})`}
      tabIndex={0} role="button" aria-label={label} aria-pressed={selected}
      onKeyDown={(event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        pick(id, event.shiftKey);
      }}
    />
  );
});

export const Arrows = memo(function Arrows({ drawn, pick }: { drawn: readonly Drawn[]; pick: (id: string, more: boolean) => void }) {
  return (
    <ViewportPortal>
      <svg className="arrows">
        <defs>
          {["tip", "tip-selected"].map((id) => (
            <marker key={id} id={id} viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto-start-reverse">
              <path d="M0 1 L9 5 L0 9 z" />
            </marker>
          ))}
        </defs>
        {drawn.map((arrow) => <Arrow key={arrow.id} {...arrow} pick={pick} />)}
      </svg>
      {/* What is on its way while something is dragged. */}
      <svg className="arrows moving" aria-hidden="true" />
    </ViewportPortal>
  );
});
