// The page: the graph, the chosen candidate's reasons, every figure, what was read. Edits go to the server; what it
// answers is shown.
import { useCallback, useEffect, useRef, useState } from "react";
import { type Api, type Graph, Refused, type State, type Step, type When } from "./api";
import { Ranking, Whole } from "./figures";
import { MoveMenu } from "./menu";
import { CandidatePanel, TablesPanel } from "./panel";
import { Picture } from "./picture";

const LOOK = 3000; // milliseconds between two looks at what other browsers did

interface Drafted { name: string; file: string; command: string; there: boolean }

export function App({ api, graph, begun }: { api: Api; graph: Graph; begun: State }) {
  const [state, setState] = useState(begun);
  const [against, setAgainst] = useState<When>("proposal");
  const [chosen, setChosen] = useState(begun.first.now);
  const [tables, setTables] = useState<string[]>([]);
  const [menu, setMenu] = useState(false);
  const [naming, setNaming] = useState(false);
  const [busy, setBusy] = useState(false);
  const [online, setOnline] = useState(true);
  const [told, setTold] = useState("");
  const [drafted, setDrafted] = useState<Drafted | null>(null);
  const wanted = useRef("");
  const dialog = useRef<HTMLDialogElement>(null);
  const editable = online && !busy;
  const candidate = state.candidates.find((each) => each.name === chosen) ?? state.candidates.find((each) => each.name === state.first.now)!;

  const complain = useCallback((error: unknown) => {
    if (error instanceof Refused) setTold(`${error.message}. ${error.remedy}`);
    else {
      setOnline(false);
      setTold("fig seams --serve does not answer; nothing can be changed.");
    }
  }, []);

  const change = useCallback(async (asked: () => Promise<State>, said: string) => {
    setBusy(true);
    try {
      const now = await asked();
      setState(now);
      setTold(`${said} Begin with ${now.first.now}${now.first.now === now.first.last ? ", as before" : `, no longer with ${now.first.last}`}.`);
    } catch (error) {
      complain(error);
    } finally {
      setBusy(false);
    }
  }, [complain]);

  const step = useCallback((done: Step, said: string) => change(() => api.step(done), said), [api, change]);
  const move = useCallback((which: string[], to: string | null) => {
    setMenu(false);
    wanted.current = which[0]!;
    void step({ move: which, to }, `${which.join(", ")}: moved to ${to ?? "a new context"}.`);
  }, [step]);
  useEffect(() => { // the table that was moved stands elsewhere now, as another element
    if (busy || wanted.current === "") return;
    focusOn(wanted.current);
    wanted.current = "";
  }, [busy, state]);
  const undo = useCallback(() => void change(() => api.undo(), "Undone."), [api, change]);
  const redo = useCallback(() => void change(() => api.redo(), "Done again."), [api, change]);
  const choose = useCallback((name: string) => { setChosen(name); setTables([]); setMenu(false); setNaming(false); }, []);
  const select = useCallback((which: string[]) => { setTables(which); setMenu(false); setNaming(false); }, []);

  const draft = useCallback(async (name: string, replace: boolean) => {
    try {
      const written = await api.draft(name, replace);
      setDrafted({ name, ...written, there: false });
    } catch (error) {
      if (error instanceof Refused && error.code === "file_exists") {
        setDrafted({ name, file: String(error.context.file ?? ""), command: "", there: true });
      } else complain(error);
    }
  }, [api, complain]);
  useEffect(() => {
    if (drafted !== null) dialog.current?.showModal();
    else dialog.current?.close();
  }, [drafted]);

  useEffect(() => {
    const look = setInterval(() => {
      if (busy || document.hidden) return;
      api.state().then((now) => {
        setOnline(true);
        if (now === null) return;
        if (now.run === graph.run) setState(now);
        else location.reload();
      }, () => setOnline(false));
    }, LOOK);
    return () => clearInterval(look);
  }, [api, busy, graph]);

  useEffect(() => {
    const pressed = (event: KeyboardEvent) => {
      if ((event.target as Element).closest("input, dialog, [role=menu]")) return;
      const key = event.key.toLowerCase();
      if (event.ctrlKey || event.metaKey) {
        if (key === "z" && !event.shiftKey) undo();
        else if ((key === "z" && event.shiftKey) || key === "y") redo();
        else return;
      } else if (event.altKey) return;
      else if (key === "escape") { setTables([]); setMenu(false); }
      else if (!editable) return;
      else if (key === "m" && tables.length > 0) setMenu(true);
      else if (key === "r" && tables.length === 0) setNaming(true);
      else if (key === "d" && tables.length === 0) void draft(candidate.name, false);
      else return;
      event.preventDefault();
    };
    window.addEventListener("keydown", pressed);
    return () => window.removeEventListener("keydown", pressed);
  }, [undo, redo, draft, editable, tables, candidate]);

  return (
    <div className="seams">
      <header>
        <div className="title">
          <h1>{graph.name}: candidate contexts</h1>
          <p className="state">{online ? `Edits are kept in ${graph.edits}` : "Not connected: nothing can be changed"}</p>
        </div>
        <div className="tools" role="group" aria-label="Edits">
          <button onClick={undo} disabled={!editable || state.done.length === 0} title={state.done.at(-1)}>Undo <kbd>Ctrl Z</kbd></button>
          <button onClick={redo} disabled={!editable || state.undone.length === 0} title={state.undone.at(-1)}>Redo</button>
          <button onClick={() => void step({ proposal: true }, "Back to the proposal.")} disabled={!editable || !state.edited}>Back to the proposal</button>
          <label>Compared with <select value={against} onChange={(event) => setAgainst(event.target.value as When)}>
            <option value="proposal">the proposal</option>
            <option value="last">before the last edit</option>
          </select></label>
        </div>
      </header>
      <main>
        <section className="left" aria-label="Picture of the tables">
          <p className="hint">
            {state.candidates.length} candidates; begin with <b data-first>{state.first.now}</b>
            {state.first[against] !== state.first.now && <span className="change"> instead of {state.first[against]}</span>}.
            Drag a table to another context, or choose it and press <kbd>M</kbd>. A dot is as large as the number of {graph.size_of}; a line as thick as what ties two.
          </p>
          <Picture graph={graph} state={state} chosen={candidate.name} tables={tables} busy={busy} choose={choose} select={select} move={move} />
          <h2>All together</h2>
          <Whole of={graph.of_all} figures={state.figures} against={against} />
        </section>
        <aside className={tables.length > 0 ? "sheet" : ""} aria-label="What is known of what is chosen">
          {tables.length > 0
            ? <TablesPanel api={api} tables={tables} state={state} editable={editable} openMenu={() => setMenu(true)} leave={() => select([])} choose={choose} />
            : <CandidatePanel key={candidate.name} candidate={candidate} of={graph.of_a_candidate} against={against} state={state} editable={editable} naming={naming} setNaming={setNaming}
                rename={(to) => {
                  setNaming(false);
                  void step({ rename: candidate.name, to }, `${candidate.name} is called ${to.toLowerCase()}.`).then(() => setChosen(to.toLowerCase()));
                }}
                draft={() => void draft(candidate.name, false)} />}
          {menu && tables.length > 0 && (
            <MoveMenu tables={tables} into={(to) => move(tables, to)}
              contexts={state.candidates.map((each) => each.name).filter((name) => !tables.every((table) => state.candidates.find((each) => each.name === name)!.tables.includes(table)))}
              close={() => { setMenu(false); focusOn(tables[0]!); }} />
          )}
        </aside>
        <section className="wide">
          <h2>Ranking</h2>
          <Ranking of={graph.of_a_candidate} state={state} against={against} chosen={candidate.name} choose={choose} />
          {state.edited && (
            <>
              <h2>The same as a command</h2>
              <p className="command"><code>{state.command}</code><Copy text={state.command} /></p>
            </>
          )}
          {state.left.length > 0 && <p className="note">Of the edits these no longer fit the evidence, and are left out: {state.left.join("; ")}.</p>}
          <h2>What was read</h2>
          <ul className="coverage">
            {graph.coverage.map((each) => (
              <li key={each.source} className={each.state.replace(" ", "-")}><b>{each.source}</b> <span className="how">{each.state}</span> {each.said}</li>
            ))}
          </ul>
        </section>
      </main>
      <p className="told" role="status">{told}</p>
      <dialog ref={dialog} onClose={() => setDrafted(null)} aria-labelledby="drafted">
        {drafted?.there === false && (
          <>
            <h2 id="drafted">The draft of {drafted.name} is written</h2>
            <p>{drafted.file}: its tables as aggregates, its routes as commands and events, for people to correct. It opens on the wall with</p>
            <p className="command"><code>{drafted.command}</code><Copy text={drafted.command} /></p>
            <form method="dialog"><button autoFocus>Close</button></form>
          </>
        )}
        {drafted?.there === true && (
          <>
            <h2 id="drafted">There is a model already</h2>
            <p>{drafted.file} is there. What people wrote in it would be lost.</p>
            <form method="dialog" className="acts">
              <button autoFocus>Keep it</button>
              <button type="button" className="hot" onClick={() => { setDrafted(null); void draft(drafted.name, true); }}>Replace it</button>
            </form>
          </>
        )}
      </dialog>
    </div>
  );
}

function focusOn(table: string): void {
  document.querySelector<HTMLElement>(`[data-table=${JSON.stringify(table)}]`)?.focus();
}

/** Only where the browser lets a page copy: on this machine, or over TLS. */
function Copy({ text }: { text: string }) {
  const [done, setDone] = useState(false);
  useEffect(() => setDone(false), [text]);
  if (!window.isSecureContext) return null;
  return <button onClick={() => void navigator.clipboard.writeText(text).then(() => setDone(true), () => undefined)}>{done ? "Copied" : "Copy"}</button>;
}
