/** What stands around the canvas: the bar above, the palette below, and the panel of what is selected. */
import { type FormEvent, useEffect, useRef, useState } from "react";
import { png, save, svg } from "./exporting";
import { type Kind, KINDS, ORDER, PHASES, spaced } from "./kinds";
import type { Comment, Context, Note, Picture, Wall } from "./wall";

const STATES = { connecting: "Connecting …", online: "Shared", offline: "Offline: it is kept here and merged later", refused: "Refused by the server" };

interface TopProps {
  wall: Wall; picture: Picture; phase: number; search: string; setSearch: (words: string) => void;
  matches: number | null; next: (step: number) => void; help: () => void; say: (words: string) => void;
}

export function Top({ wall, picture, phase, search, setSearch, matches, next, help, say }: TopProps) {
  const { writes, file, name } = wall.about;
  return (
    <header className="top">
      <div className="title">
        <h1>{name}</h1>
        <span className={`state ${picture.state}`} role="status" title={STATES[picture.state]}>
          <i aria-hidden="true" />
          <span>{writes ? STATES[picture.state] : "Only to look at"}</span>
        </span>
      </div>
      <ol className="phases" aria-label="Phases of the workshop">
        {PHASES.map((p, i) => (
          <li key={p.name}>
            <button type="button" disabled={!writes} aria-current={i === phase ? "step" : undefined} title={p.says} onClick={() => { wall.session({ phase: i }); say(p.says); }}>
              {p.name}
            </button>
          </li>
        ))}
      </ol>
      <Timer picture={picture} wall={wall} />
      <div className="search">
        <input
          id="search" type="search" placeholder="Search  /" aria-label="Search the wall" value={search}
          onChange={(event) => setSearch(event.target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") next(event.shiftKey ? -1 : 1);
            if (event.key === "Escape") { setSearch(""); event.currentTarget.blur(); }
          }}
        />
        {matches !== null && <span className="hits" role="status">{matches}</span>}
      </div>
      <People wall={wall} picture={picture} />
      <Menu wall={wall} picture={picture} file={file} help={help} say={say} />
    </header>
  );
}

function Timer({ picture, wall }: { picture: Picture; wall: Wall }) {
  const [now, setNow] = useState(Date.now());
  const ends = picture.session.ends ?? 0;
  const left = Math.ceil((ends - now) / 1000);
  useEffect(() => {
    if (!ends) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 500);
    return () => clearInterval(timer);
  }, [ends]);
  if (ends && left > -30) {
    const shown = left > 0 ? `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}` : "Time";
    return (
      <button type="button" className={`timer${left <= 0 ? " over" : ""}`} disabled={!wall.about.writes} aria-label={`Timer: ${shown}; press to end it`} onClick={() => wall.session({ ends: 0 })}>
        {shown}
      </button>
    );
  }
  return (
    <select className="timer" aria-label="Start a timer" value="" disabled={!wall.about.writes} onChange={(event) => wall.session({ ends: Date.now() + Number(event.target.value) * 60_000 })}>
      <option value="" disabled>Timer</option>
      {[1, 5, 10, 15, 30].map((minutes) => <option key={minutes} value={minutes}>{minutes} min</option>)}
    </select>
  );
}

function People({ wall, picture }: { wall: Wall; picture: Picture }) {
  const others = picture.people.filter((p) => p.id !== wall.doc.clientID);
  return (
    <ul className="people" aria-label={`${others.length + 1} here`}>
      {others.slice(0, 5).map((p) => (
        <li key={p.id} style={{ background: p.colour }} title={p.name} aria-label={p.name}>{initials(p.name)}</li>
      ))}
      {others.length > 5 && <li className="more">+{others.length - 5}</li>}
    </ul>
  );
}

const initials = (name: string): string => name.split(/\s+/).map((word) => word[0] ?? "").join("").slice(0, 2).toUpperCase();

function Menu({ wall, picture, file, help, say }: { wall: Wall; picture: Picture; file: string; help: () => void; say: (words: string) => void }) {
  const [open, setOpen] = useState(false);
  const [findings, setFindings] = useState<Finding[] | null>(null);
  const [changed, setChanged] = useState(wall.about.file_changed);
  const input = useRef<HTMLInputElement>(null);
  const box = useRef<HTMLDivElement>(null);
  const { writes } = wall.about;
  useEffect(() => {
    if (!open) return;
    const away = (event: Event) => { if (!box.current?.contains(event.target as Element)) setOpen(false); };
    const escape = (event: KeyboardEvent) => { if (event.key === "Escape") setOpen(false); };
    document.addEventListener("pointerdown", away, true);
    document.addEventListener("keydown", escape);
    return () => { document.removeEventListener("pointerdown", away, true); document.removeEventListener("keydown", escape); };
  }, [open]);
  const act = (work: () => Promise<string | void>) => () => {
    setOpen(false);
    work().then((words) => { if (words) say(words); }, (error: Error & { code?: string }) => {
      if (error.code === "wall_file_changed") setChanged(true);
      say(error.message);
    });
  };
  const name = file.replace(/\.storm$/, "");
  return (
    <div className="menu" ref={box}>
      <button type="button" aria-expanded={open} aria-haspopup="true" onClick={() => setOpen(!open)}>Menu{changed && <i className="dot" title="The file has changed" />}</button>
      {open && (
        <div className="drop">
          <label className="name">Your name
            <input defaultValue={wall.myName} maxLength={40} onChange={(event) => wall.rename(event.target.value)} />
          </label>
          {writes && <button type="button" onClick={act(async () => {
            const answer = (await (await wall.ask("PUT", "file")).json()) as { written: boolean };
            return answer.written ? `${file} is written.` : `${file} says this already.`;
          })}>Write to {file}</button>}
          {writes && changed && <button type="button" className="hot" onClick={act(async () => {
            await wall.ask("POST", "file");
            setChanged(false);
            return `The wall says what ${file} says.`;
          })}>{file} has changed: take it in</button>}
          <button type="button" onClick={act(async () => setFindings((await (await wall.ask("GET", "findings")).json()) as Finding[]))}>Check the model</button>
          <hr />
          <button type="button" onClick={act(async () => save(new Blob([await (await wall.ask("GET", "text")).text()], { type: "text/plain" }), file))}>Save as text</button>
          <button type="button" onClick={act(async () => save(new Blob([svg(picture).text], { type: "image/svg+xml" }), `${name}.svg`))}>Save as SVG</button>
          <button type="button" onClick={act(async () => save(await png(picture), `${name}.png`))}>Save as PNG</button>
          {writes && <button type="button" onClick={() => input.current?.click()}>Replace by a text …</button>}
          <hr />
          <button type="button" onClick={act(async () => {
            await navigator.clipboard.writeText(`${location.origin}/#${wall.about.reads_link}`);
            return "The link that only reads is copied.";
          })}>Copy a link that only reads</button>
          <button type="button" onClick={() => { setOpen(false); help(); }}>Keys and help</button>
        </div>
      )}
      <input ref={input} type="file" accept=".storm,text/plain" hidden onChange={(event) => {
        const chosen = event.target.files?.[0];
        event.target.value = "";
        if (chosen) act(async () => {
          const { touched } = (await (await wall.ask("POST", "text", await chosen.text())).json()) as { touched: number };
          return `${touched} things on the wall have changed.`;
        })();
      }} />
      {findings && <Findings findings={findings} close={() => setFindings(null)} />}
    </div>
  );
}

interface Finding { code: string; severity: string; place: string; reason: string; remedy: string }

function Findings({ findings, close }: { findings: Finding[]; close: () => void }) {
  return (
    <Dialog title={findings.length ? `${findings.length} findings` : "No findings"} close={close}>
      {findings.length === 0 && <p>The model is complete as far as rules can tell.</p>}
      <ul className="findings">
        {findings.map((f, i) => <li key={i} className={f.severity}><b>{f.place}</b> {f.reason} <span>{f.remedy}</span></li>)}
      </ul>
    </Dialog>
  );
}

function Dialog({ title, close, children }: { title: string; close: () => void; children: React.ReactNode }) {
  const box = useRef<HTMLDialogElement>(null);
  useEffect(() => box.current?.showModal(), []);
  return (
    <dialog ref={box} onClose={close} aria-label={title}>
      <h2>{title}</h2>
      {children}
      <form method="dialog"><button type="submit">Close</button></form>
    </dialog>
  );
}

const KEYS: [string, string][] = [
  ["Enter", "edit what has the focus; Enter again is done, Escape is back"],
  ["Space", "selects what has the focus; Shift Space, or a click with Shift, one more"],
  ["Tab, Shift Tab", "to the next sticky in time, and back"],
  ["Arrows", "move what is selected; Shift for larger steps"],
  ["L", "arrow from the selected to the next; several are joined from left to right"],
  ["B", "bounded context around what is selected"],
  ["Alt Arrows", "resize the selected context"],
  ["S", "swimlane; on its name: Enter renames, Alt ↑ ↓ moves, Shift ↑ ↓ resizes, Delete removes"],
  ["V", "pivotal event, or not"],
  ["Ctrl C, X, V, D", "copy, cut, paste, double; pasted lines become events"],
  ["Ctrl Z, Ctrl Shift Z", "undo and redo what you did yourself"],
  ["Delete", "remove"],
  ["/", "search; Enter goes to the next"],
  ["+  −  0", "zoom, see all"],
  ["Right button, wheel", "move over the wall; the left button draws a lasso"],
];

export function Help({ close }: { close: () => void }) {
  const [keys, setKeys] = useState(localStorage.getItem("fig-keys") !== "off");
  return (
    <Dialog title="Keys" close={close}>
      <dl className="keys">
        {ORDER.map((kind) => <div key={kind}><dt><kbd style={{ background: KINDS[kind].colour }}>{KINDS[kind].key.toUpperCase()}</kbd></dt><dd>{KINDS[kind].label}</dd></div>)}
        {KEYS.map(([key, says]) => <div key={key}><dt><kbd>{key}</kbd></dt><dd>{says}</dd></div>)}
      </dl>
      <label className="switch"><input type="checkbox" checked={keys} onChange={(event) => {
        localStorage.setItem("fig-keys", event.target.checked ? "on" : "off");
        setKeys(event.target.checked);
      }} /> Single letters are keys</label>
    </Dialog>
  );
}

export function Palette({ phase, put, draw, divide }: { phase: number; put: (kind: Kind) => void; draw: () => void; divide: () => void }) {
  return (
    <aside className="palette" aria-label="What can be put up"><div role="toolbar" aria-label="Stickies">
      {ORDER.map((kind) => {
        const look = KINDS[kind];
        return (
          <button key={kind} type="button" disabled={look.phase > phase} onClick={() => put(kind)} aria-keyshortcuts={look.key} title={look.phase > phase ? `From the phase ${PHASES[look.phase]!.name} on` : `${look.label} (${look.key.toUpperCase()})`}>
            <i className={kind} style={{ background: look.colour }} aria-hidden="true" />
            <span>{look.label}</span>
            <kbd aria-hidden="true">{look.key.toUpperCase()}</kbd>
          </button>
        );
      })}
      <button type="button" disabled={phase < 4} onClick={draw} aria-keyshortcuts="b" title={phase < 4 ? "From the phase Contexts on" : "Bounded context around what is selected (B)"}>
        <i className="boundary" aria-hidden="true" /><span>Context</span><kbd aria-hidden="true">B</kbd>
      </button>
      <button type="button" disabled={phase < 1} onClick={divide} aria-keyshortcuts="s" title={phase < 1 ? "From the phase Timeline on" : "Swimlane (S)"}>
        <i className="band" aria-hidden="true" /><span>Swimlane</span><kbd aria-hidden="true">S</kbd>
      </button>
    </div></aside>
  );
}

interface InspectorProps {
  wall: Wall; picture: Picture; selected: ReadonlySet<string>; chosen: Note[]; fresh: string | null;
  link: () => void; draw: () => void; remove: () => void; edit: (id: string) => void;
}

export function Inspector({ wall, picture, selected, chosen, link, draw, remove, edit }: InspectorProps) {
  const { writes } = wall.about;
  if (selected.size === 0) return null;
  if (selected.size > 1) {
    if (!writes) return null;
    return (
      <aside className="inspector several" aria-label="What is selected">
        <p>{selected.size} selected</p>
        <button type="button" onClick={link} disabled={chosen.length < 2}>Join left to right</button>
        <button type="button" onClick={draw}>Draw a context</button>
        <button type="button" onClick={remove}>Remove</button>
      </aside>
    );
  }
  const context = picture.contexts.get([...selected][0]!);
  if (context && writes) return <Area wall={wall} context={context} edit={edit} remove={remove} />;
  const note = chosen[0];
  if (!note) return null;
  return <One key={note.id} wall={wall} picture={picture} note={note} link={link} remove={remove} />;
}

function Area({ wall, context, edit, remove }: { wall: Wall; context: Context; edit: (id: string) => void; remove: () => void }) {
  const by = (wider: number, higher: number) => () => wall.resizeContext(context.id, wider, higher);
  return (
    <aside className="inspector" aria-label={`Bounded context ${context.name}`}>
      <p className="what">Bounded context</p>
      <h2>{context.name}</h2>
      <div className="acts">
        <button type="button" onClick={by(48, 0)}>Wider</button><button type="button" onClick={by(-48, 0)}>Narrower</button>
        <button type="button" onClick={by(0, 48)}>Higher</button><button type="button" onClick={by(0, -48)}>Lower</button>
        <button type="button" onClick={() => edit(context.id)}>Rename</button><button type="button" onClick={remove}>Remove</button>
      </div>
    </aside>
  );
}

const SPECS: Partial<Record<Kind, string>> = {
  command: "(item_id: int, delta: int)", event: "(item_id: int) v2 key item_id", aggregate: "(item_id: int, on_hand: int)",
};

function One({ wall, picture, note, link, remove }: { wall: Wall; picture: Picture; note: Note; link: () => void; remove: () => void }) {
  const { writes } = wall.about;
  const joined = [...picture.edges.values()].filter((e) => e.source === note.id || e.target === note.id);
  const comments = [...picture.comments.values()].filter((c) => c.note === note.id).sort((a, b) => a.order - b.order);
  const context = note.context ? picture.contexts.get(note.context) : undefined;
  const spec = SPECS[note.kind];
  return (
    <aside className="inspector" aria-label={`${KINDS[note.kind].label} ${spaced(note.kind, note.text)}`}>
      <p className="what"><i style={{ background: KINDS[note.kind].colour }} aria-hidden="true" />{KINDS[note.kind].label}{context && <span> in {context.name}</span>}</p>
      <h2>{spaced(note.kind, note.text)}</h2>
      {spec && (
        <label>Fields
          <textarea rows={2} defaultValue={note.spec ?? ""} key={note.spec} placeholder={spec} readOnly={!writes} spellCheck={false}
            onBlur={(event) => { const said = event.target.value.trim(); if (said !== (note.spec ?? "")) wall.set(note.id, { spec: said }); }} />
        </label>
      )}
      {note.kind === "event" && (
        <label className="switch"><input type="checkbox" checked={note.pivotal ?? false} disabled={!writes} onChange={(event) => wall.set(note.id, { pivotal: event.target.checked || undefined })} /> Pivotal event</label>
      )}
      {note.kind === "hotspot" && (
        <>
          <label>Answer
            <textarea rows={2} defaultValue={note.answer ?? ""} key={note.answer} readOnly={!writes}
              onBlur={(event) => { const said = event.target.value.trim(); if (said !== (note.answer ?? "")) wall.set(note.id, { answer: said }); }} />
          </label>
          <Comments wall={wall} note={note} comments={comments} />
        </>
      )}
      {joined.length > 0 && (
        <ul className="joined">
          {joined.map((e) => {
            const other = picture.notes.get(e.source === note.id ? e.target : e.source);
            return other && (
              <li key={e.id}><span>{e.source === note.id ? "→" : "←"} {spaced(other.kind, other.text)}</span>
                {writes && <button type="button" aria-label={`Remove the arrow with ${spaced(other.kind, other.text)}`} onClick={() => wall.remove(new Set([e.id]))}>×</button>}
              </li>
            );
          })}
        </ul>
      )}
      {writes && <div className="acts"><button type="button" onClick={link}>Arrow to … <kbd>L</kbd></button><button type="button" onClick={remove}>Remove</button></div>}
    </aside>
  );
}

function Comments({ wall, note, comments }: { wall: Wall; note: Note; comments: Comment[] }) {
  const say = (event: FormEvent<HTMLFormElement>) => {
    event.preventDefault();
    const field = event.currentTarget.elements.namedItem("words") as HTMLInputElement;
    if (field.value.trim()) wall.say(note.id, field.value.trim());
    field.value = "";
  };
  return (
    <div className="comments">
      {comments.map((c) => <p key={c.id}><b>{c.by}</b> {c.words}</p>)}
      {wall.about.writes && <form onSubmit={say}><input name="words" placeholder="Say something" aria-label="Comment" maxLength={500} autoComplete="off" /><button type="submit">Say</button></form>}
    </div>
  );
}
