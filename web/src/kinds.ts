/** The kinds of stickies: colours and sizes are the design's (sizes as in storming/board.py). */

export type Kind =
  | "event" | "command" | "aggregate" | "policy" | "readmodel" | "external" | "actor" | "hotspot";

export interface Look {
  label: string;
  key: string;
  colour: string;
  width: number;
  height: number;
  /** The first phase in which the palette has it. */
  phase: number;
}

export const KINDS: Record<Kind, Look> = {
  event: { label: "Domain event", key: "e", colour: "#FFB84D", width: 160, height: 96, phase: 0 },
  hotspot: { label: "Hotspot", key: "h", colour: "#E85D75", width: 150, height: 96, phase: 0 },
  actor: { label: "Actor", key: "u", colour: "#FFF9B1", width: 120, height: 72, phase: 2 },
  command: { label: "Command", key: "c", colour: "#7EC8F0", width: 160, height: 96, phase: 2 },
  policy: { label: "Policy", key: "p", colour: "#C9A0DC", width: 200, height: 120, phase: 2 },
  readmodel: { label: "Read model", key: "r", colour: "#A8D08D", width: 160, height: 96, phase: 2 },
  external: { label: "External system", key: "x", colour: "#F4A6C0", width: 230, height: 96, phase: 2 },
  aggregate: { label: "Aggregate", key: "a", colour: "#FFE066", width: 200, height: 136, phase: 3 },
};

export const ORDER = Object.keys(KINDS) as Kind[];

export const PHASES = [
  { name: "Explore", says: "What happens? Everybody writes domain events, in any order." },
  { name: "Timeline", says: "Order them from left to right; mark the pivotal ones." },
  { name: "Commands", says: "Who or what causes them: commands, actors, policies, read models, systems." },
  { name: "Aggregates", says: "What takes the commands and decides: aggregates." },
  { name: "Contexts", says: "Draw bounded contexts around what belongs together." },
] as const;

const NAMED: ReadonlySet<Kind> = new Set(["event", "command", "aggregate", "readmodel"]);

/** A name as people read it: StockAdjusted becomes "Stock Adjusted". */
export function spaced(kind: Kind, text: string): string {
  if (!NAMED.has(kind) || text.includes(" ")) return text;
  return text.replace(/([a-z0-9])([A-Z])/g, "$1 $2").replace(/([A-Z]+)([A-Z][a-z])/g, "$1 $2");
}

/** What people typed as the name that the model takes: "stock adjusted" becomes StockAdjusted. */
export function joined(kind: Kind, typed: string, before: string): string {
  const words = typed.replaceAll('"', "'").split(/\s+/).filter(Boolean);
  const text = words.join(" ");
  if (!NAMED.has(kind)) return text;
  if (text === spaced(kind, before)) return before;
  const one = words.map((word) => word.charAt(0).toUpperCase() + word.slice(1)).join("");
  return /^[A-Za-z_]\w*$/.test(one) ? one : text;
}
