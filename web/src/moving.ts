/** What is dragged is moved in the page itself, and drawn by React when it is let go: among two thousand stickies, to
 * draw anew takes longer than a frame. The document hears of it a few times a second. */
import type { InternalNode } from "@xyflow/react";
import { overlap, pathBetween } from "./arrows";
import type { WallNode } from "./canvas";
import type { Edge, Note, Wall } from "./wall";

type Places = Map<string, { x: number; y: number }>;
const PAUSE = 50;
/** More layers than this cost more than they spare. */
const LAYERS = 40;

export class Moving {
  /** What is on its way now. */
  readonly elements = new Map<string, HTMLElement[]>();
  private readonly from: Places = new Map();
  /** Arrows from and to it: the one that React draws is hidden meanwhile, and a copy in a layer of its own is moved. */
  private readonly arrows: { edge: Edge; drawn: SVGPathElement; copy: SVGPathElement }[] = [];
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
    for (const { edge, copy } of this.arrows) {
      const [a, b] = [this.at(edge.source, places), this.at(edge.target, places)];
      if (a && b) copy.setAttribute("d", overlap(a, b) ? "" : pathBetween(a, b));
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
    for (const { drawn, copy } of this.arrows) {
      drawn.style.visibility = "";
      copy.remove();
    }
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
      const place = this.wall.picture.notes.get(id) ?? this.wall.picture.contexts.get(id);
      if (!place) continue; // somebody has just removed it, and the page has not drawn that yet
      this.elements.set(id, []);
      this.from.set(id, { x: place.x, y: place.y });
    }
    for (const element of document.querySelectorAll<HTMLElement>(".react-flow__node, .pivot")) {
      this.elements.get(element.dataset.id ?? "")?.push(element);
    }
    const over = document.querySelector(".arrows.moving");
    for (const drawn of document.querySelectorAll<SVGPathElement>(".arrow")) {
      const edge = this.wall.picture.edges.get(drawn.dataset.id ?? "");
      if (!edge || !(this.elements.has(edge.source) || this.elements.has(edge.target))) continue;
      const copy = drawn.cloneNode() as SVGPathElement;
      copy.removeAttribute("tabindex");
      over?.append(copy);
      drawn.style.visibility = "hidden";
      this.arrows.push({ edge, drawn, copy });
    }
    if (ids.length > LAYERS) return;
    for (const found of this.elements.values()) for (const element of found) element.style.willChange = "transform";
  }

  private at(id: string, places: Places): Note | undefined {
    const note = this.wall.picture.notes.get(id);
    const place = places.get(id);
    return note && place ? { ...note, x: Math.round(place.x), y: Math.round(place.y) } : note;
  }
}
