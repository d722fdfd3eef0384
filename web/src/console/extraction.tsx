// One extraction: where it is on its way, what its gate says, how both sides answer, and what speaks for going on.
import { useLive } from "./api";
import { Actions } from "./actions";
import { Agreements } from "./agreements";
import { Chart } from "./chart";
import { Decommissioning } from "./departure";
import { Since, Shown, Warnings, count, lasted } from "./format";
import { Gate } from "./gate";
import { Instances, Marks } from "./instances";
import type { PageProps } from "./pages";
import { Cutover, Flows, Shadow, Verifications } from "./proofs";
import type { ExtractionPage as Extraction, Step } from "./types";

export const time = (value: number) => (value === 0 ? "0" : value < 1000 ? `${count(value)}` : `${count(value / 1000)}k`);

export function ExtractionPage({ parts }: PageProps) {
  const found = useLive<Extraction>(`/api/extractions/${encodeURIComponent(parts[0] ?? "")}`);
  return <Shown of={found}>{(of) => <Whole of={of} />}</Shown>;
}

function Whole({ of }: { of: Extraction }) {
  const { row, series } = of;
  return (
    <>
      <div className="head">
        <div>
          <h1>{row.context}</h1>
          <p className="lead"><b>{row.begun ? row.place : "not begun"}</b>{row.begun && <> for <Since at={row.since} /></>} · <span className={`side ${row.owner}`}>{row.owner}</span> owns the writes, epoch {row.epoch}</p>
        </div>
        <Actions of={of} />
      </div>
      <Warnings of={row.warnings} />
      {of.running.length > 0 && <p className="running" role="status">{of.running.map((each) => `${each.verb}${each.dry_run ? " (dry run)" : ""}, asked by ${each.by}`).join("; ")} is under way</p>}
      <Pipeline of={of.steps} />
      {of.agreement !== null && <Agreements of={[of.agreement]} />}
      <Gate of={of} />
      <section aria-labelledby="sides">
        <h2 id="sides">Both sides, the last ten minutes</h2>
        <div className="charts">
          <Chart title="Latency, 99 %" unit=" ms" at={series.at} marks={of.marks} shown={time} none="no requests yet" lines={[
            { label: "monolith", colour: "--monolith", values: series.monolith_p99 }, { label: "service", colour: "--service", values: series.service_p99 }]} />
          <Chart title="Latency, median" unit=" ms" at={series.at} marks={of.marks} shown={time} none="no requests yet" lines={[
            { label: "monolith", colour: "--monolith", values: series.monolith_p50 }, { label: "service", colour: "--service", values: series.service_p50 }]} />
          <Chart title="Requests" unit="/s" at={series.at} marks={of.marks} shown={time} none="no requests yet" lines={[
            { label: "monolith", colour: "--monolith", values: series.monolith_rps }, { label: "service", colour: "--service", values: series.service_rps }]} />
          <Chart title="Errors" unit="/s" at={series.at} marks={of.marks} shown={time} none="no requests yet" lines={[
            { label: "monolith", colour: "--monolith", values: series.monolith_errors }, { label: "service", colour: "--service", values: series.service_errors }]} />
          <Chart title="Lag" unit=" ms" at={series.at} marks={of.marks} shown={time} none="nothing flows yet" lines={[
            { label: "forward", colour: "--accent", values: series.lag_forward }, { label: "reverse", colour: "--soft", values: series.lag_reverse, dash: true }]} />
          <Chart title="Requests held at the façade" unit="" at={series.at} marks={of.marks} shown={time} none="no requests yet" lines={[
            { label: "held", colour: "--wait", values: series.held }]} />
        </div>
        <Marks of={of.marks} />
        <Flows of={of.flows} />
      </section>
      <Instances of={of} />
      <div className="columns">
        <Verifications of={of.verifications} />
        <Shadow of={of.shadow} />
      </div>
      <Cutover of={of.cutover} />
      <Decommissioning of={of.decommissioning} context={row.context} />
    </>
  );
}

function Pipeline({ of }: { of: Step[] }) {
  const stages = [...new Set(of.map((step) => step.stage))];
  return (
    <ol className="pipeline" aria-label="Stages">
      {stages.map((stage) => {
        const steps = of.filter((step) => step.stage === stage);
        const now = steps.find((step) => step.state === "now");
        const state = now !== undefined ? "now" : steps.every((step) => step.state === "done") ? "done" : "ahead";
        const entered = steps.find((step) => step.entered_at !== null)?.entered_at ?? null;
        const left = steps.at(-1)!.left_at;
        return (
          <li key={stage} className={state} aria-current={state === "now" ? "step" : undefined}>
            <span className="stage"><span aria-hidden="true">{state === "done" ? "✓" : state === "now" ? "●" : "○"}</span> {stage}</span>
            {steps.length > 1 && <span className="inner">{steps.map((step) => <span key={step.step} className={step.state}>{/^\d/.test(step.step) ? `${step.step} %` : step.step}</span>)}</span>}
            <span className="dim">{state === "done" && entered !== null && left !== null ? lasted(Date.parse(left) - Date.parse(entered)) : state === "now" ? <Since at={now!.entered_at} /> : ""}</span>
          </li>
        );
      })}
    </ol>
  );
}
