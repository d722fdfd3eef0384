// The log: its topics and who reads them, its events as they come, what is parked, and the schemas.
import "./log.css";
import { useLive } from "./api";
import { Shown, Since, Warnings, count, day, lasted } from "./format";
import type { PageProps } from "./pages";
import { Parked } from "./parked";
import { Tail } from "./tail";
import type { LogPage as Log, LogReader, ParkedPage, Subject, TopicRow } from "./types";

const KINDS = { events: "Business events", changes: "Changes of databases", fig: "fig's own", other: "Others" } as const;

export function LogPage({ parts }: PageProps) {
  const found = useLive<Log>("/api/log");
  const parked = useLive<ParkedPage>("/api/parked");
  const [view = "", name = ""] = parts;
  const waiting = parked.state?.parked.length ?? 0;
  const tabs = [["", "Topics"], ["live", "Live"], ["parked", "Parked"], ["schemas", "Schemas"]] as const;
  return (
    <>
      <div className="head"><h1>Log</h1></div>
      <nav className="tabs" aria-label="Log">
        {tabs.map(([to, words]) => (
          <a key={to} href={`#/log${to && `/${to}`}`} aria-current={to === (view === "topics" ? "" : view) ? "page" : undefined}>
            {words}{to === "parked" && waiting > 0 && <span className="badge">{waiting}</span>}
          </a>
        ))}
      </nav>
      {view === "parked" ? <Shown of={parked}>{(state) => <Parked of={state} />}</Shown> : (
        <Shown of={found}>
          {(log) => view === "live" ? <Tail key={name} topic={name} topics={log.topics.map((each) => each.name)} />
            : view === "schemas" ? <Schemas of={log.subjects} trouble={log.trouble} />
              : view === "topics" ? <Topic name={name} of={log} /> : <Topics of={log} />}
        </Shown>
      )}
    </>
  );
}

const rate = (of: number | null) => (of === null ? "–" : `${count(of)}/s`);
const behind = (readers: LogReader[]) => (readers.some((each) => each.lag === null) ? null : Math.max(0, ...readers.map((each) => each.lag!)));

function Topics({ of }: { of: Log }) {
  const total = of.topics.reduce((sum, each) => sum + (each.rate ?? 0), 0);
  return (
    <>
      <p className="lead">{of.log}: {of.topics.length} topics, <b>{count(total)}</b> events a second</p>
      <Warnings of={of.trouble} />
      {(Object.keys(KINDS) as (keyof typeof KINDS)[]).map((kind) => {
        const rows = of.topics.filter((each) => each.kind === kind);
        return rows.length > 0 && (
          <section key={kind} aria-labelledby={`kind-${kind}`}>
            <h2 id={`kind-${kind}`}>{KINDS[kind]}</h2>
            <table className="rows topics">
              <thead><tr><th>Topic</th><th className="num">Rate</th><th className="num">Kept</th><th>For</th><th className="num">Partitions</th><th>Readers</th><th className="num">Furthest behind</th></tr></thead>
              <tbody>{rows.map((each) => <TopicLine key={each.name} of={each} />)}</tbody>
            </table>
          </section>
        );
      })}
      {of.topics.length === 0 && <p className="empty">The log has no topics yet. They come with the first context's capture, or with a service's events.</p>}
    </>
  );
}

function TopicLine({ of }: { of: TopicRow }) {
  const lag = behind(of.readers);
  return (
    <tr data-topic={of.name}>
      <th scope="row"><a href={`#/log/topics/${encodeURIComponent(of.name)}`}>{of.name}</a></th>
      <td data-label="Rate" className="num">{rate(of.rate)}</td>
      <td data-label="Kept" className="num">{of.retained === null ? "–" : count(of.retained)}</td>
      <td data-label="For">{of.retention_seconds === null ? <span className="dim">ever</span> : lasted(of.retention_seconds * 1000)}</td>
      <td data-label="Partitions" className="num">{of.partitions.length}</td>
      <td data-label="Readers">{of.readers.length === 0 ? <span className="dim">none</span> : of.readers.map((each) => each.name).join(", ")}</td>
      <td data-label="Behind" className="num">{of.readers.length === 0 || lag === null ? <span className="dim">–</span> : lag === 0 ? <span className="good">nothing</span> : count(lag)}</td>
    </tr>
  );
}

function Topic({ name, of }: { name: string; of: Log }) {
  const topic = of.topics.find((each) => each.name === name);
  if (topic === undefined) return <p className="empty">The log has no topic {name}. <a href="#/log">All topics</a></p>;
  const subjects = of.subjects.filter((each) => each.topic === name);
  return (
    <>
      <div className="head named"><h2>{name}</h2><a className="button" href={`#/log/live/${encodeURIComponent(name)}`}>Watch live</a></div>
      <dl className="facts">
        <div><dt>Rate</dt><dd>{rate(topic.rate)}</dd></div>
        <div><dt>Events kept</dt><dd>{topic.retained === null ? "–" : count(topic.retained)}</dd></div>
        <div><dt>Kept for</dt><dd>{topic.retention_seconds === null ? "ever" : lasted(topic.retention_seconds * 1000)}</dd></div>
        <div><dt>Partitions</dt><dd>{topic.partitions.length}</dd></div>
      </dl>
      <section aria-labelledby="readers">
        <h2 id="readers">Readers</h2>
        {topic.readers.length === 0 ? <p className="empty">No consumer group has read this topic.</p> : (
          <table className="rows">
            <thead><tr><th>Group</th><th className="num">Behind</th><th>By partition</th><th>Goes on at</th></tr></thead>
            <tbody>{topic.readers.map((each) => (
              <tr key={each.name}>
                <th scope="row"><strong>{each.name}</strong></th>
                <td data-label="Behind" className="num">{each.lag === null ? "–" : count(each.lag)}</td>
                <td data-label="By partition">{each.lags === null ? "–" : <Lags of={each.lags} />}</td>
                <td data-label="Goes on at"><code>{each.committed.join(" · ") || "–"}</code></td>
              </tr>
            ))}</tbody>
          </table>
        )}
      </section>
      <section aria-labelledby="partitions">
        <h2 id="partitions">Partitions</h2>
        <table className="rows partitions">
          <thead><tr><th>Partition</th><th className="num">First kept</th><th className="num">Next</th></tr></thead>
          <tbody>{topic.partitions.map((each, index) => (
            <tr key={index}><th scope="row">{index}</th><td data-label="First kept" className="num"><code>{each.first}</code></td><td data-label="Next" className="num"><code>{each.next}</code></td></tr>
          ))}</tbody>
        </table>
      </section>
      {subjects.length > 0 && <Schemas of={subjects} trouble={[]} />}
    </>
  );
}

function Lags({ of }: { of: number[] }) {
  const most = Math.max(1, ...of);
  return <span className="lags" role="img" aria-label={of.map((each, index) => `${index}: ${each}`).join(", ")}>{of.map((each, index) => <i key={index} title={`${index}: ${each}`} style={{ height: `${4 + (each / most) * 16}px` }} className={each > 0 ? "some" : ""} />)}</span>;
}

function Schemas({ of, trouble }: { of: Subject[]; trouble: string[] }) {
  return (
    <section aria-labelledby="schemas">
      <h2 id="schemas">Schemas</h2>
      <Warnings of={trouble} />
      {of.length === 0 ? trouble.length === 0 && <p className="empty">No schema is registered: <code>fig schema register</code> takes the first.</p> : (
        <table className="rows">
          <thead><tr><th>Subject</th><th>Format</th><th>Compatibility</th><th>Versions</th><th>Newest</th></tr></thead>
          <tbody>{of.map((each) => {
            const newest = each.versions.at(-1)!;
            return (
              <tr key={each.subject}>
                <th scope="row"><strong>{each.subject}</strong> <a className="aside" href={`#/log/topics/${encodeURIComponent(each.topic)}`}>{each.topic}</a></th>
                <td data-label="Format">{each.format}</td>
                <td data-label="Compatibility">{each.compatibility}</td>
                <td data-label="Versions">{each.versions.map((version) => version.version).join(", ")}</td>
                <td data-label="Newest">{newest.registered_at === null ? <span className="dim">–</span> : <>{day(newest.registered_at)}<span className="dim">, <Since at={newest.registered_at} /> ago{newest.registered_by && ` by ${newest.registered_by}`}</span></>}</td>
              </tr>
            );
          })}</tbody>
        </table>
      )}
    </section>
  );
}
