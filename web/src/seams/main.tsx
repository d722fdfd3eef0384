import "./style.css";
import { createRoot } from "react-dom/client";
import { App } from "./App";
import { Api } from "./api";

const root = createRoot(document.getElementById("root")!);

async function begin(): Promise<void> {
  const api = new Api(location.hash.slice(1));
  try {
    const [graph, state] = [await api.graph(), await api.state()];
    document.title = `${graph.name} · candidate contexts`;
    root.render(<App api={api} graph={graph} begun={state!} />);
  } catch (error) {
    root.render(
      <main className="sorry">
        <h1>This link opens no candidates</h1>
        <p>{error instanceof Error ? `${error.message}. ` : ""}Open the link that <code>fig seams --serve</code> printed; it ends in a long random word.</p>
      </main>,
    );
  }
}

window.addEventListener("hashchange", () => location.reload());
void begin();
