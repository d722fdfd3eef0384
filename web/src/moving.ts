/** What is dragged is moved in the page itself, and drawn by React when it is let go: among two thousand stickies, to
 * draw anew takes longer than a frame. The document hears of it a few times a second. */
import type { InternalNode } from "@xyflow/react";
import { ends, overlap, pathOf, type WallNode } from "./canvas";
import type { Edge, Note, Wall } from "./wall";

type Places = Map<string, { x: number; y: number }>;
const PAUSE = 50;
/** More layers than this cost more than they spare. */
const LAYERS = 40;

export class Moving {
  /** What is on its way now. */
  readonly elements = new Map<string, HTMLElement[]>();
  private readonly from: Places = new Map();
  private readonly arrows: { edge: Edge; paths: SVGPathElement[] }[] = [];
  private last: [Places, Places] | null = null;
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly wall: Wall, private readonly internal: (id: string) => InternalNode<WallNode> | undefined) {}

  /** Put these here, for now. */
  to(notes: Places, contexts: Places): void {
    const places = this.wall.places(notes, contexts);
    if (this.last === null) this.begin([...places.keys(), ...contexts.keys()]);
    this.last = [notes, contexts];
    for (const [id, place] of [...places, ...contexts]) {
      const [x, y] = [Math.round(place.x), Math.round(place.y)];
      const from = this.from.get(id);
      if (from) for (const element of this.elements.get(id) ?? []) element.style.transform = `translate(${x - from.x}px,${y - from.y}px)`;
      // React Flow's own idea of where it is says what is in sight.
      const node = this.internal(id);
      if (node) node.internals.positionAbsolute = { x, y };
    }
    for (const { edge, paths } of this.arrows) {
      const [a, b] = [this.at(edge.source, places), this.at(edge.target, places)];
      if (!a || !b) continue;
      const path = overlap(a, b) ? "" : pathOf(ends(a, b));
      for (const element of paths) element.setAttribute("d", path);
    }
    this.timer ??= setTimeout(() => {
      this.timer = undefined;
      if (this.last) this.wall.move(...this.last, false);
    }, PAUSE);
  }

  /** It is let go. */
  end(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.last === null) return;
    this.last = null;
    for (const [id, found] of this.elements) {
      const from = this.from.get(id);
      const now = this.wall.picture.notes.get(id) ?? this.wall.picture.contexts.get(id);
      for (const element of found) {
        if (from && now) {
          element.style.left = `${parseFloat(element.style.left) + now.x - from.x}px`;
          element.style.top = `${parseFloat(element.style.top) + now.y - from.y}px`;
        }
        element.style.transform = "none";
        element.style.willChange = "";
      }
    }
    for (const { paths } of this.arrows) paths[0]?.ownerSVGElement?.style.removeProperty("will-change");
    this.elements.clear();
    this.from.clear();
    this.arrows.length = 0;
    document.body.classList.remove("moving");
    this.wall.hold(false);
  }

  private begin(ids: string[]): void {
    document.body.classList.add("moving");
    this.wall.hold(true);
    for (const id of ids) {
      this.elements.set(id, []);
      const { x, y } = (this.wall.picture.notes.get(id) ?? this.wall.picture.contexts.get(id))!;
      this.from.set(id, { x, y });
    }
    for (const element of document.querySelectorAll<HTMLElement>(".react-flow__node, .pivot")) {
      this.elements.get(element.dataset.id ?? "")?.push(element);
    }
    const drawn = new Map<string, SVGPathElement[]>();
    for (const element of document.querySelectorAll<SVGElement>(".react-flow__edge")) {
      drawn.set(element.dataset.id ?? "", [...element.querySelectorAll("path")]);
    }
    for (const edge of this.wall.picture.edges.values()) {
      const paths = drawn.get(edge.id);
      if (paths && (this.elements.has(edge.source) || this.elements.has(edge.target))) this.arrows.push({ edge, paths });
    }
    if (ids.length + this.arrows.length > LAYERS) return;
    for (const found of this.elements.values()) for (const element of found) element.style.willChange = "transform";
    for (const { paths } of this.arrows) paths[0]?.ownerSVGElement?.style.setProperty("will-change", "transform");
  }

  private at(id: string, places: Places): Note | undefined {
    const note = this.wall.picture.notes.get(id);
    const place = places.get(id);
    return note && place ? { ...note, x: Math.round(place.x), y: Math.round(place.y) } : note;
  }
}
