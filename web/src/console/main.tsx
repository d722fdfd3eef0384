import "./style.css";
import { createRoot } from "react-dom/client";
import { App, Sorry } from "./App";
import { begin, recognised, session, ways } from "./api";
import { Login } from "./login";

const root = createRoot(document.getElementById("root")!);

async function start(): Promise<void> {
  const found = await ways().catch(() => null);
  if (found !== null) {
    const known = await recognised(found).catch(() => false);
    root.render(known ? <App /> : <Login ways={found} entered={() => void start()} />);
    return;
  }
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

window.addEventListener("fig-signed-out", () => {
  void ways().catch(() => null).then((found) =>
    root.render(found === null ? <Sorry said="the session has ended" /> : <Login ways={found} entered={() => void start()} />));
});
window.addEventListener("hashchange", () => { if (!location.hash.startsWith("#/") && location.hash !== "") void start(); });
void start();
