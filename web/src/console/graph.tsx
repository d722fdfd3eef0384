// A flow drawn: boxes in layers, arrows with how many went that way. From left to right where there is room, from above
// to below on a phone. What the arrows say is in a list beside it, for who does not see it.
import "@xyflow/react/dist/style.css";
import "./graph.css";
import { useEffect, useState } from "react";
import { Handle, MarkerType, Position, ReactFlow, ReactFlowProvider, type Edge, type Node, type NodeProps } from "@xyflow/react";
import { count } from "./format";

export interface Box {
  id: string;
  words: string;
  /** A second line, in small. */
  note?: string;
  kind: "end" | "step" | "pivot" | "undo" | "service";
  /** What of it goes on now, such as "3 asked"; marked where it wants somebody. */
  now?: string;
  alarm?: boolean;
  /** Which layer, from the start; and where across it, in widths of a box. */
  layer: number;
  across: number;
}
/** `back` leads to an earlier layer; `aside` leaves its box at the side. */
export interface Way { source: string; target: string; gone: number | null; back?: boolean; aside?: boolean }

const WIDE = { width: 176, height: 64, layer: 244, across: 104 };
const TALL = { width: 154, height: 64, layer: 108, across: 172 };
type BoxNode = Node<{ box: Box; tall: boolean }, "box">;

function Drawn({ data: { box, tall } }: NodeProps<BoxNode>) {
  const [before, after] = tall ? [Position.Top, Position.Bottom] : [Position.Left, Position.Right];
  return (
    <div className={`box ${box.kind}${box.alarm ? " alarm" : ""}`} title={box.words}>
      {[["in", "target", before], ["out", "source", after], ["back-in", "target", after], ["back-out", "source", before], ["aside", "source", tall ? Position.Right : Position.Bottom]].map(([id, type, position]) => (
        <Handle key={id} id={id!} type={type as "source" | "target"} position={position as Position} isConnectable={false} />
      ))}
      <strong>{short(box.words)}</strong>
      {box.note && <span className="note">{box.note}</span>}
      {box.now && <span className="now">{box.now}</span>}
    </div>
  );
}

const TYPES = { box: Drawn };
const short = (words: string) => words.slice(words.lastIndexOf(".") + 1);

/** Whether the page is narrow, kept current. */
function useTall(): boolean {
  const [tall, setTall] = useState(() => matchMedia("(max-width: 760px)").matches);
  useEffect(() => {
    const asked = matchMedia("(max-width: 760px)");
    const changed = () => setTall(asked.matches);
    asked.addEventListener("change", changed);
    return () => asked.removeEventListener("change", changed);
  }, []);
  return tall;
}

export function Graph({ name, boxes, ways }: { name: string; boxes: Box[]; ways: Way[] }) {
  const tall = useTall();
  const size = tall ? TALL : WIDE;
  const least = Math.min(...boxes.map((each) => each.across));
  const nodes: BoxNode[] = boxes.map((box) => {
    const [along, across] = [box.layer * size.layer, (box.across - least) * size.across];
    return { id: box.id, type: "box", data: { box, tall }, position: tall ? { x: across, y: along } : { x: along, y: across }, width: size.width, height: size.height };
  });
  const edges: Edge[] = ways.map((way) => ({
    id: `${way.source} ${way.target}`, source: way.source, target: way.target, sourceHandle: way.aside ? "aside" : way.back ? "back-out" : "out", targetHandle: way.back ? "back-in" : "in",
    className: `${way.back ? "back" : "go"}${way.gone === 0 ? " never" : ""}`, markerEnd: { type: MarkerType.ArrowClosed, width: 16, height: 16 },
    ...(way.gone === null ? {} : { label: count(way.gone), labelBgPadding: [5, 2] as [number, number], labelBgBorderRadius: 5 }),
  }));
  const [layers, across] = [Math.max(...boxes.map((each) => each.layer)), Math.max(...boxes.map((each) => each.across)) - least];
  const [along, beside] = [layers * size.layer, across * size.across];
  const height = (tall ? along : beside) + size.height + 40;
  const words = (id: string) => boxes.find((each) => each.id === id)?.words ?? id;
  return (
    <figure className="graph">
      <div className="canvas" aria-hidden="true" style={{ height }}>
        <ReactFlowProvider>
          <ReactFlow
            key={tall ? "tall" : "wide"} nodes={nodes} edges={edges} nodeTypes={TYPES} fitView fitViewOptions={{ padding: 0.04, maxZoom: 1 }} minZoom={0.3}
            nodesDraggable={false} nodesConnectable={false} nodesFocusable={false} edgesFocusable={false} elementsSelectable={false}
            panOnDrag={false} zoomOnScroll={false} zoomOnPinch={false} zoomOnDoubleClick={false} preventScrolling={false} disableKeyboardA11y
            proOptions={{ hideAttribution: true }}
          />
        </ReactFlowProvider>
      </div>
      <figcaption className="unseen">{name}
        <ul>
          {boxes.filter((each) => each.now).map((each) => <li key={each.id}>{each.words}: {each.now}</li>)}
          {ways.map((way) => <li key={`${way.source} ${way.target}`}>{words(way.source)} to {words(way.target)}{way.back && ", back"}{way.gone !== null && `: ${count(way.gone)}`}</li>)}
        </ul>
      </figcaption>
    </figure>
  );
}
