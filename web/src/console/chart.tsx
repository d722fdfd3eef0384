// Lines over time (uPlot): a canvas that follows the page's width and colours, and says in words what it shows.
import "uplot/dist/uPlot.min.css";
import { useEffect, useRef } from "react";
import uPlot from "uplot";

/** A moment that the lines may show the effect of. */
export interface Moment { at: string; text: string }
export interface Line { label: string; colour: string; values: (number | null)[]; dash?: boolean }

const colours = (element: Element) => {
  const of = getComputedStyle(element);
  return (name: string) => of.getPropertyValue(name).trim();
};

export function Chart({ title, unit, at, lines, shown, none, marks = [] }: { title: string; unit: string; at: number[]; lines: Line[]; shown: (value: number) => string; none: string; marks?: Moment[] }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const data: uPlot.AlignedData = [at, ...lines.map((line) => line.values)];
  const latest = useRef(data);
  latest.current = data;
  const kept = useRef({ lines, shown });
  const moments = useRef(marks);
  moments.current = marks;

  useEffect(() => {
    const element = place.current!;
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const draw = () => {
      plot.current?.destroy();
      const colour = colours(element);
      const axis = { stroke: colour("--soft"), font: "11px system-ui, sans-serif", grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
      plot.current = new uPlot({
        width: element.clientWidth, height: 150, padding: [8, 4, 0, 0], legend: { show: false },
        cursor: { points: { size: 5 }, y: false, drag: { x: false, y: false } },
        scales: { y: { range: (_, __, most) => [0, Math.max(most * 1.15, 1)] } },
        axes: [
          { ...axis, size: 22, values: (_, ticks, __, ___, apart) => ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit", ...(apart < 60 ? { second: "2-digit" } : {}) })), space: 70 },
          { ...axis, size: 46, values: (_, ticks) => ticks.map((tick) => kept.current.shown(tick)), space: 32 },
        ],
        hooks: { draw: [(drawn) => {
          drawn.ctx.save();
          drawn.ctx.strokeStyle = colour("--edge");
          drawn.ctx.setLineDash([2, 3]);
          for (const each of moments.current) {
            const x = drawn.valToPos(Date.parse(each.at) / 1000, "x", true);
            if (x < drawn.bbox.left || x > drawn.bbox.left + drawn.bbox.width) continue;
            drawn.ctx.beginPath();
            drawn.ctx.moveTo(x, drawn.bbox.top);
            drawn.ctx.lineTo(x, drawn.bbox.top + drawn.bbox.height);
            drawn.ctx.stroke();
          }
          drawn.ctx.restore();
        }] },
        series: [{}, ...kept.current.lines.map((line) => ({ label: line.label, stroke: colour(line.colour), width: 1.5, points: { show: false }, ...(line.dash ? { dash: [4, 3] } : {}) }))],
      }, latest.current, element);
    };
    draw();
    const sized = new ResizeObserver(() => plot.current?.setSize({ width: element.clientWidth, height: 150 }));
    sized.observe(element);
    dark.addEventListener("change", draw);
    return () => { sized.disconnect(); dark.removeEventListener("change", draw); plot.current?.destroy(); plot.current = null; };
  }, []);

  useEffect(() => plot.current?.setData(data));

  const last = (values: (number | null)[]) => values.findLast((value) => value !== null) ?? null;
  const said = lines.map((line) => ({ ...line, now: last(line.values.slice(-5)) }));
  return (
    <figure className="chart">
      <figcaption>
        <span className="name">{title}</span>
        <span className="legend">
          {said.map((line) => (
            <span key={line.label}><i aria-hidden="true" className={line.dash ? "dashed" : ""} style={{ color: `var(${line.colour})` }} />{line.label} <b>{line.now === null ? "–" : `${shown(line.now)}${unit}`}</b></span>
          ))}
        </span>
      </figcaption>
      <div ref={place} className="plot" aria-hidden="true" />
      {at.length === 0 && <p className="dim nothing">{none}</p>}
    </figure>
  );
}
