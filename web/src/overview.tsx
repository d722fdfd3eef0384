/** The whole wall in a corner. One canvas: React Flow's own has an element and a subscription for each sticky, which
 * two thousand of them make too slow to drag beside. */
import { useReactFlow, useStore } from "@xyflow/react";
import { memo, type PointerEvent, useEffect, useRef } from "react";
import { KINDS } from "./kinds";
import type { Picture } from "./wall";

const WIDTH = 200;
const HEIGHT = 140;

interface Box { left: number; top: number; scale: number }

export const Overview = memo(function Overview({ notes, contexts }: Pick<Picture, "notes" | "contexts">) {
  const flow = useReactFlow();
  const canvas = useRef<HTMLCanvasElement>(null);
  const box = useRef<Box>({ left: 0, top: 0, scale: 1 });
  const view = useStore(
    (s) => ({ x: -s.transform[0] / s.transform[2], y: -s.transform[1] / s.transform[2], width: s.width / s.transform[2], height: s.height / s.transform[2] }),
    (a, b) => a.x === b.x && a.y === b.y && a.width === b.width && a.height === b.height,
  );
  const latest = useRef({ notes, contexts, view });
  latest.current = { notes, contexts, view };
  const waiting = useRef(false);

  useEffect(() => {
    // A few times a second is enough, and leaves the time to what is dragged.
    if (waiting.current) return;
    waiting.current = true;
    setTimeout(() => {
      waiting.current = false;
      if (canvas.current) box.current = draw(canvas.current, latest.current);
    }, 120);
  }, [notes, contexts, view]);

  const go = (event: PointerEvent<HTMLCanvasElement>) => {
    if (event.type === "pointermove" && event.buttons === 0) return;
    const at = event.currentTarget.getBoundingClientRect();
    const { left, top, scale } = box.current;
    void flow.setCenter(left + (event.clientX - at.x) / scale, top + (event.clientY - at.y) / scale, { zoom: flow.getZoom() });
  };
  return (
    <canvas
      ref={canvas} className="overview" width={WIDTH * 2} height={HEIGHT * 2} role="img" aria-label="Overview of the wall"
      onPointerDown={(event) => { event.currentTarget.setPointerCapture(event.pointerId); go(event); }} onPointerMove={go}
    />
  );
});

function draw(
  canvas: HTMLCanvasElement,
  { notes, contexts, view }: Pick<Picture, "notes" | "contexts"> & { view: { x: number; y: number; width: number; height: number } },
): Box {
  let [left, top, right, bottom] = [view.x, view.y, view.x + view.width, view.y + view.height];
  const reach = (x: number, y: number, width: number, height: number) => {
    left = Math.min(left, x);
    top = Math.min(top, y);
    right = Math.max(right, x + width);
    bottom = Math.max(bottom, y + height);
  };
  for (const n of notes.values()) reach(n.x, n.y, KINDS[n.kind].width, KINDS[n.kind].height);
  for (const c of contexts.values()) reach(c.x, c.y, c.width, c.height);
  const scale = Math.min(WIDTH / (right - left), HEIGHT / (bottom - top)) * 0.92;
  const box = { left: (left + right - WIDTH / scale) / 2, top: (top + bottom - HEIGHT / scale) / 2, scale };
  const pen = canvas.getContext("2d");
  if (!pen) return box;
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.clearRect(0, 0, canvas.width, canvas.height);
  pen.setTransform(2 * scale, 0, 0, 2 * scale, -box.left * 2 * scale, -box.top * 2 * scale);
  pen.fillStyle = "#e4e9ea";
  for (const c of contexts.values()) pen.fillRect(c.x, c.y, c.width, c.height);
  for (const n of notes.values()) {
    pen.fillStyle = KINDS[n.kind].colour;
    pen.fillRect(n.x, n.y, KINDS[n.kind].width, KINDS[n.kind].height);
  }
  pen.strokeStyle = "#2f5d50";
  pen.lineWidth = 1.5 / scale;
  pen.strokeRect(view.x, view.y, view.width, view.height);
  return box;
}
