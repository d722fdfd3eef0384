// The shell: navigation, the page that the address names, and keys that lead about.
import { useEffect, useRef, useState } from "react";
import { leave, session } from "./api";
import { PAGES } from "./pages";

export function Sorry({ said }: { said: string }) {
  return (
    <main className="sorry">
      <h1>The console is closed</h1>
      <p>{said === "" ? "" : `${said[0]!.toUpperCase()}${said.slice(1)}. `}Each link opens it once. Print another one with <code>fig ps</code> or <code>fig console --link</code>.</p>
    </main>
  );
}

const address = () => location.hash.replace(/^#\/?/, "").split("/").filter((part) => part !== "").map(decodeURIComponent);

export function App() {
  const [parts, setParts] = useState(address);
  const keys = useRef<HTMLDialogElement>(null);
  const heading = useRef<HTMLElement>(null);
  // The estate leads to each extraction, so that it stands for them in the navigation.
  const page = PAGES.find((each) => each.name === (parts[0] ?? "")) ?? PAGES[0]!;
  const listed = PAGES.filter((each) => each.listed);
  const mine = session();
  const out = leave();

  useEffect(() => {
    const moved = () => {
      if (location.hash !== "" && !location.hash.startsWith("#/")) return;
      setParts(address());
      heading.current?.focus({ preventScroll: true });
      scrollTo(0, 0);
    };
    const pressed = (event: KeyboardEvent) => {
      const there = event.target as HTMLElement;
      if (event.ctrlKey || event.metaKey || event.altKey || there.matches("input, textarea, select") || document.querySelector("dialog[open]")) return;
      if (event.key === "?") keys.current?.showModal();
      const to = listed[Number(event.key) - 1];
      if (to !== undefined) location.hash = `#/${to.name}`;
    };
    window.addEventListener("hashchange", moved);
    window.addEventListener("keydown", pressed);
    return () => { window.removeEventListener("hashchange", moved); window.removeEventListener("keydown", pressed); };
  }, [listed]);

  useEffect(() => {
    document.title = [...parts.slice(1), page.title, mine?.estate].filter(Boolean).join(" · ");
  }, [parts, page, mine]);

  return (
    <div className="shell">
      <header className="bar">
        <a className="skip" href="#/" onClick={(event) => { event.preventDefault(); heading.current?.focus(); }}>Skip to the page</a>
        <p className="brand"><span aria-hidden="true" className="leaf" />{mine?.estate}</p>
        <nav aria-label="Pages">
          {listed.map((each) => (
            <a key={each.name} href={`#/${each.name}`} aria-current={each === page || (each.name === "" && !page.listed) ? "page" : undefined}>{each.title}</a>
          ))}
        </nav>
        <p className="who"><span className="dim">{mine?.by}</span> {out !== null && <button type="button" className="plain" onClick={() => void out()}>Log out</button>} <button type="button" className="plain" aria-label="Keys" title="Keys" onClick={() => keys.current?.showModal()}><kbd>?</kbd></button></p>
      </header>
      <main ref={heading} tabIndex={-1}>
        <page.Show key={parts.join("/")} parts={parts.slice(1)} />
      </main>
      <dialog ref={keys} aria-labelledby="keys-title">
        <h2 id="keys-title">Keys</h2>
        <dl className="pairs">
          {listed.map((each, index) => <div key={each.name}><dt><kbd>{index + 1}</kbd></dt><dd>{each.title}</dd></div>)}
          <div><dt><kbd>?</kbd></dt><dd>These keys</dd></div>
        </dl>
        <form method="dialog"><button>Close</button></form>
      </dialog>
    </div>
  );
}
