/** The wall as a picture, drawn from what is on it and not from the screen. */
import { pathBetween } from "./arrows";
import { KINDS, spaced } from "./kinds";
import { inOrder, type Picture } from "./wall";

const safe = (text: string): string =>
  text.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]!);

function lines(text: string, width: number, most: number): string[] {
  const room = Math.floor((width - 20) / 7.6);
  const found: string[] = [];
  for (const word of text.split(" ")) {
    const last = found.at(-1);
    if (last !== undefined && last.length + word.length < room) found[found.length - 1] = `${last} ${word}`;
    else found.push(word);
  }
  return found.length > most ? [...found.slice(0, most - 1), `${found[most - 1]} …`] : found;
}

export function svg(picture: Picture): { text: string; width: number; height: number } {
  const boxes = [
    ...[...picture.notes.values()].map((n) => ({ x: n.x, y: n.y, width: KINDS[n.kind].width, height: KINDS[n.kind].height })),
    ...picture.contexts.values(),
    ...inOrder(picture.lanes).map((lane) => ({ ...lane, x: 0, width: 0 })),
  ];
  const left = Math.min(...boxes.map((b) => b.x), 0) - 40;
  const top = Math.min(...boxes.map((b) => b.y), 0) - 40;
  const width = Math.max(...boxes.map((b) => b.x + b.width), 400) + 40 - left;
  const height = Math.max(...boxes.map((b) => b.y + b.height), 300) + 40 - top;
  const out = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="${left} ${top} ${width} ${height}" width="${width}" height="${height}" font-family="system-ui, sans-serif" font-size="14">`,
    '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="7" markerHeight="7" orient="auto"><path d="M0 1 L9 5 L0 9 z" fill="#6b655c"/></marker></defs>',
    `<rect x="${left}" y="${top}" width="${width}" height="${height}" fill="#f6f3ec"/>`,
  ];
  inOrder(picture.lanes).forEach((lane, i) => {
    out.push(
      `<rect x="${left}" y="${lane.y}" width="${width}" height="${lane.height}" fill="${i % 2 ? "#efe9dc" : "#f1f0ea"}" stroke="#8b8374"/>`,
      `<text x="${left + 14}" y="${lane.y + 26}" font-size="16" font-weight="600" fill="#4a443a">${safe(lane.name)}</text>`,
    );
  });
  for (const c of picture.contexts.values()) {
    out.push(
      `<rect x="${c.x}" y="${c.y}" width="${c.width}" height="${c.height}" rx="18" fill="#fff" fill-opacity=".6" stroke="#5c6b73" stroke-width="2" stroke-dasharray="8 6"/>`,
      `<text x="${c.x + 20}" y="${c.y + 30}" font-size="18" font-weight="600" fill="#33424a">${safe(c.name)}</text>`,
    );
  }
  for (const e of picture.edges.values()) {
    const [a, b] = [picture.notes.get(e.source), picture.notes.get(e.target)];
    if (a && b) out.push(`<path d="${pathBetween(a, b)}" fill="none" stroke="#6b655c" stroke-width="1.5" marker-end="url(#tip)"/>`);
  }
  for (const n of picture.notes.values()) {
    const look = KINDS[n.kind];
    const [mx, my] = [n.x + look.width / 2, n.y + look.height / 2];
    const tilt = n.kind === "hotspot" ? ` transform="rotate(-4 ${mx} ${my})"` : "";
    if (n.pivotal) out.push(`<path d="M${mx} ${top} V${top + height}" stroke="#8a5a00" stroke-width="2" stroke-dasharray="3 7"/>`);
    out.push(`<g${tilt}><rect x="${n.x}" y="${n.y}" width="${look.width}" height="${look.height}" rx="3" fill="${look.colour}"/>`);
    const words = lines(spaced(n.kind, n.text), look.width, Math.floor((look.height - 12) / 18));
    words.forEach((line, i) => {
      out.push(`<text x="${mx}" y="${my + 5 + (i - (words.length - 1) / 2) * 18}" text-anchor="middle" fill="#1f1d1a">${safe(line)}</text>`);
    });
    out.push("</g>");
  }
  out.push("</svg>");
  return { text: out.join("\n"), width, height };
}

export function save(content: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export async function png(picture: Picture): Promise<Blob> {
  const drawn = svg(picture);
  const image = new Image();
  image.src = URL.createObjectURL(new Blob([drawn.text], { type: "image/svg+xml" }));
  await image.decode();
  // No canvas is larger than browsers allow.
  const scale = Math.min(2, 8000 / Math.max(drawn.width, drawn.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(drawn.width * scale);
  canvas.height = Math.round(drawn.height * scale);
  canvas.getContext("2d")!.drawImage(image, 0, 0, canvas.width, canvas.height);
  URL.revokeObjectURL(image.src);
  return new Promise((done, failed) => canvas.toBlob((blob) => (blob ? done(blob) : failed(new Error("The picture is too large."))), "image/png"));
}
