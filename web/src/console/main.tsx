import "./style.css";
import { createRoot } from "react-dom/client";
import { App, Sorry } from "./App";
import { begin, session } from "./api";

const root = createRoot(document.getElementById("root")!);

async function start(): Promise<void> {
  // A link's token stands alone behind the #; a page's address begins with a slash.
  const token = location.hash.slice(1);
  try {
    if (token !== "" && !token.startsWith("/")) {
      history.replaceState(null, "", "#/");
      await begin(token);
    }
  } catch (error) {
    if (session() === null) {
      root.render(<Sorry said={error instanceof Error ? error.message : ""} />);
      return;
    }
  }
  root.render(session() === null ? <Sorry said="nobody is signed in here" /> : <App />);
}

window.addEventListener("fig-signed-out", () => root.render(<Sorry said="the session has ended" />));
window.addEventListener("hashchange", () => { if (!location.hash.startsWith("#/") && location.hash !== "") void start(); });
void start();
