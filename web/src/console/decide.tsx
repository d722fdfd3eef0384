// A decision about something that waits for a person: what it does in words first, then, if it is wanted, the deed.
import { useEffect, useRef, useState } from "react";
import { Refused, ask } from "./api";

interface Consequence { words: string; done: boolean }
interface Props {
  title: string;
  /** What the button says. */
  word: string;
  danger?: boolean;
  path: string;
  body: Record<string, unknown>;
  close: () => void;
}

export function Decide({ title, word, danger, path, body, close }: Props) {
  const box = useRef<HTMLDialogElement>(null);
  const [said, setSaid] = useState<Consequence | null>(null);
  const [refused, setRefused] = useState<Refused | null>(null);
  const [busy, setBusy] = useState(false);
  const send = async (dryRun: boolean) => {
    setBusy(true);
    try {
      setSaid(await ask<Consequence>("POST", path, { ...body, dry_run: dryRun }));
      setRefused(null);
    } catch (error) {
      setRefused(error instanceof Refused ? error : new Refused("unexpected", String(error), ""));
    }
    setBusy(false);
  };
  useEffect(() => {
    box.current!.showModal();
    void send(true);
  }, []);
  return (
    <dialog ref={box} aria-labelledby="decide-title" className="act" onClose={close}>
      <h2 id="decide-title">{title}</h2>
      <div aria-live="polite">
        {said === null && refused === null && <p className="dim">Asking what it would do…</p>}
        {said !== null && <p className="consequence">{said.words}</p>}
        {said?.done && <p className="decided"><span aria-hidden="true">✓</span> Done. It stands so now; the page shows what follows.</p>}
        {refused !== null && <p className="trouble">{refused.message}. {refused.remedy}</p>}
      </div>
      <div className="choices">
        <button type="button" onClick={() => box.current!.close()}>{said?.done ? "Close" : "Leave it"}</button>
        {!said?.done && <button type="button" className={danger ? "danger" : "main"} disabled={said === null || busy || refused !== null} onClick={() => void send(false)}>{word}</button>}
      </div>
    </dialog>
  );
}
