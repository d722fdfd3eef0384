// A menu of contexts for the chosen tables: arrows, a first letter, Enter; Escape leaves all as it is.
import { type KeyboardEvent, useEffect, useRef } from "react";

interface Props { tables: string[]; contexts: string[]; into: (context: string | null) => void; close: () => void }

export function MoveMenu({ tables, contexts, into, close }: Props) {
  const list = useRef<HTMLDivElement>(null);
  useEffect(() => list.current?.querySelector("button")?.focus(), []);
  const pressed = (event: KeyboardEvent) => {
    const all = [...list.current!.querySelectorAll("button")];
    const at = all.indexOf(document.activeElement as HTMLButtonElement);
    const go = (index: number) => all[(index + all.length) % all.length]?.focus();
    if (event.key === "ArrowDown") go(at + 1);
    else if (event.key === "ArrowUp") go(at - 1);
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(-1);
    else if (event.key === "Escape" || event.key === "Tab") close();
    else if (event.key.length === 1 && event.key !== " " && !event.ctrlKey && !event.metaKey) {
      const after = [...all.slice(at + 1), ...all.slice(0, at + 1)];
      after.find((each) => each.innerText.toLowerCase().startsWith(event.key.toLowerCase()))?.focus();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  return (
    <div className="move" role="menu" aria-label={`Move ${tables.join(", ")} to`} ref={list} onKeyDown={pressed}>
      {contexts.map((each) => <button key={each} role="menuitem" tabIndex={-1} onClick={() => into(each)}>{each}</button>)}
      <button role="menuitem" tabIndex={-1} className="fresh" onClick={() => into(null)}>A new context</button>
    </div>
  );
}
