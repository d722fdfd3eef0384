import "@xyflow/react/dist/style.css";
import "./style.css";
import { ReactFlowProvider } from "@xyflow/react";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { type About, Wall } from "./wall";

const root = createRoot(document.getElementById("root")!);

/** Who has opened the wall once can go on without the server. */
async function begin(): Promise<void> {
  const token = location.hash.slice(1);
  const kept = `fig-about-${token}`;
  let about: About | null = null;
  try {
    const answer = await fetch("/api/wall", { headers: { Authorization: `Bearer ${token}` } });
    if (answer.ok) {
      about = (await answer.json()) as About;
      localStorage.setItem(kept, JSON.stringify(about));
    }
  } catch {
    about = JSON.parse(localStorage.getItem(kept) ?? "null") as About | null;
  }
  if (about === null) {
    root.render(
      <main className="sorry">
        <h1>This link opens no wall</h1>
        <p>Ask for the link that <code>fig storm</code> printed; it ends in a long random word.</p>
      </main>,
    );
    return;
  }
  document.title = `${about.name} · the wall`;
  const wall = new Wall(about, token);
  root.render(
    <ReactFlowProvider>
      <App wall={wall} />
    </ReactFlowProvider>,
  );
}

// Only where browsers have it: on this machine, or with TLS.
navigator.serviceWorker?.register("/offline.js").catch((error: unknown) => console.warn("not loadable offline:", error));
window.addEventListener("hashchange", () => location.reload());
void begin();
