// What is known of the chosen candidate, or of the chosen tables: claims, and where each was found.
import { useEffect, useState } from "react";
import type { Api, Candidate, Claim, Figure, State, TableEvidence, Use, When } from "./api";
import { Value } from "./figures";

function Claims({ title, sign, claims }: { title: string; sign: string; claims: Claim[] }) {
  return (
    <>
      <h3>{title}</h3>
      {claims.length === 0 && <p className="note">Nothing was found.</p>}
      <ul className={`claims ${sign}`}>
        {claims.map((claim) => (
          <li key={claim.text}>
            {claim.evidence.length === 0 ? <p>{claim.text}</p> : (
              <details>
                <summary>{claim.text} <span className="count">{claim.evidence.length}</span></summary>
                <ul className="evidence">{claim.evidence.map((each, index) => <li key={index}><code>{each}</code></li>)}</ul>
              </details>
            )}
          </li>
        ))}
      </ul>
    </>
  );
}

interface CandidateProps {
  candidate: Candidate; of: Figure[]; against: When; state: State; editable: boolean; naming: boolean;
  setNaming: (on: boolean) => void; rename: (to: string) => void; draft: () => void;
}

export function CandidatePanel({ candidate, of, against, state, editable, naming, setNaming, rename, draft }: CandidateProps) {
  const first = candidate.name === state.first.now;
  return (
    <>
      <p className="what">{first ? "Begin here" : `Candidate ${candidate.place} of ${state.candidates.length}`}, front {candidate.front}</p>
      {naming ? (
        <form onSubmit={(event) => {
          event.preventDefault();
          rename(String(new FormData(event.currentTarget).get("name")).trim());
        }}>
          <label>Name of the context
            <input name="name" defaultValue={candidate.name} autoFocus required pattern="[A-Za-z][A-Za-z0-9_]*" autoComplete="off"
              title="A letter, then letters, digits and _" onFocus={(event) => event.target.select()}
              onKeyDown={(event) => event.key === "Escape" && setNaming(false)} />
          </label>
          <div className="acts"><button className="main">Rename</button><button type="button" onClick={() => setNaming(false)}>Leave it</button></div>
        </form>
      ) : <h2>{candidate.name}</h2>}
      {!naming && (
        <div className="acts">
          <button className="main" onClick={draft} disabled={!editable}>Draft its model <kbd>D</kbd></button>
          <button onClick={() => setNaming(true)} disabled={!editable}>Rename <kbd>R</kbd></button>
        </div>
      )}
      {first && state.passed_over.length > 0 && <p className="note">Not before it: {state.passed_over.join("; ")}.</p>}
      <Claims title="For it" sign="for" claims={candidate.reasons} />
      <Claims title="Against it" sign="against" claims={candidate.doubts} />
      <h3>Its figures</h3>
      <dl className="own">
        {of.map((figure) => (
          <div key={figure.name} title={figure.means}><dt>{figure.label}</dt><dd><Value figure={figure} figures={candidate.figures} against={against} /></dd></div>
        ))}
      </dl>
      <h3>What is in it</h3>
      <p className="words">{candidate.tables.join(", ")}</p>
      {candidate.routes.length > 0 && (
        <details>
          <summary>Routes that touch it <span className="count">{candidate.routes.length}</span></summary>
          <ul className="evidence">
            {candidate.routes.map((each) => (
              <li key={`${each.name} ${each.where}`}><code>{each.name} ({each.where})</code>{candidate.exclusive_routes.includes(each.name) ? "" : " touches others too"}</li>
            ))}
          </ul>
        </details>
      )}
      {candidate.modules.length > 0 && (
        <details>
          <summary>Modules that go with it <span className="count">{candidate.modules.length}</span></summary>
          <ul className="evidence">{candidate.modules.map((each) => <li key={each}><code>{each}</code></li>)}</ul>
        </details>
      )}
    </>
  );
}

const KINDS: [string, string][] = [
  ["statement", "Statements"], ["transaction", "Sampled transactions"], ["routine", "Routines"], ["view", "Views"],
  ["route", "Routes"], ["module", "Modules"],
];

function found(use: Use): string {
  return `${use.excerpt || use.name} (${use.where})`;
}

interface TablesProps { api: Api; tables: string[]; state: State; editable: boolean; openMenu: () => void; leave: () => void; choose: (name: string) => void }

/** All evidence that speaks of a table, or of all chosen tables at once. */
export function TablesPanel({ api, tables, state, editable, openMenu, leave, choose }: TablesProps) {
  const [known, setKnown] = useState<TableEvidence | null>(null);
  const [name, ...others] = tables;
  useEffect(() => {
    let here = true;
    api.table(name!).then((each) => here && setKnown(each), () => here && setKnown(null));
    return () => { here = false; };
  }, [api, name]);
  const within = [...new Set(tables.map((table) => state.candidates.find((each) => each.tables.includes(table))?.name ?? ""))];
  const uses = known?.uses.filter((use) => others.every((other) => use.others.includes(other))) ?? [];
  const keys = known?.references.filter((each) => others.every((other) => [each.table, each.target].includes(other))) ?? [];
  return (
    <>
      <p className="what">{tables.length === 1 ? "Table" : `${tables.length} tables`} in {within.map((each, index) => (
        <span key={each}>{index > 0 && ", "}<button className="plain" onClick={() => choose(each)}>{each}</button></span>
      ))}</p>
      <h2>{tables.join(" and ")}</h2>
      <div className="acts"><button className="main" aria-haspopup="menu" onClick={openMenu} disabled={!editable}>Move to … <kbd>M</kbd></button><button onClick={leave}>Close</button></div>
      <h3>{tables.length === 1 ? "What speaks of it" : "What ties them"}</h3>
      {known !== null && uses.length + keys.length === 0 && <p className="note">Nothing was found.</p>}
      {keys.length > 0 && (
        <details open>
          <summary>Foreign keys <span className="count">{keys.length}</span></summary>
          <ul className="evidence">{keys.map((each, index) => <li key={index}><code>{each.table} → {each.target} ({each.where})</code></li>)}</ul>
        </details>
      )}
      {KINDS.map(([kind, title]) => {
        const those = uses.filter((use) => use.kind === kind);
        return those.length > 0 && (
          <details key={kind} open={tables.length > 1 || kind === "statement"}>
            <summary>{title} <span className="count">{those.length}</span></summary>
            <ul className="evidence">{those.map((use, index) => <li key={index}><code>{found(use)}</code> {use.writes ? "writes" : "reads"} {name}</li>)}</ul>
          </details>
        );
      })}
      {tables.length === 1 && known !== null && known.together.length > 0 && (
        <details>
          <summary>Together in resampled evidence <span className="count">{known.together.length}</span></summary>
          <ul className="evidence">{known.together.map((each) => <li key={each.table}>{each.table}: {Math.round(each.share * 100)} % of the divisions</li>)}</ul>
        </details>
      )}
      {tables.length === 1 && known !== null && known.columns.length > 0 && (
        <details>
          <summary>Columns <span className="count">{known.columns.length}</span></summary>
          <ul className="evidence">{known.columns.map((each) => <li key={each.name}><code>{each.name} {each.type}</code>{known.key.includes(each.name) ? " key" : ""}</li>)}</ul>
        </details>
      )}
    </>
  );
}
