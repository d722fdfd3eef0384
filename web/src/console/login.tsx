// Where people log in: by the project's OpenID provider, or with a token that `fig token create` printed.
import { type FormEvent, useState } from "react";
import { logIn, Refused } from "./api";
import type { Ways } from "./types";

export function Login({ ways, entered }: { ways: Ways; entered: () => void }) {
  const [token, setToken] = useState("");
  const [trouble, setTrouble] = useState<{ message: string; remedy: string } | null>(null);
  const [busy, setBusy] = useState(false);

  const submit = async (event: FormEvent) => {
    event.preventDefault();
    setBusy(true);
    try {
      await logIn(token.trim());
      entered();
    } catch (error) {
      setTrouble(error instanceof Refused ? error : { message: "the console's server does not answer", remedy: "Try again." });
      setBusy(false);
    }
  };

  return (
    <main className="sorry login">
      <h1>{ways.estate}</h1>
      {ways.oidc && <p><a className="button main" href="/login">Log in</a></p>}
      <form onSubmit={(event) => void submit(event)}>
        <label>Token<input type="password" autoComplete="off" spellCheck={false} required value={token} onChange={(event) => setToken(event.target.value)} aria-describedby="token-note" /></label>
        <button type="submit" className={ways.oidc ? "" : "main"} disabled={busy}>Log in with the token</button>
      </form>
      {trouble !== null && <p role="alert" className="bad">{trouble.message}. {trouble.remedy}</p>}
      <p id="token-note" className="dim">An approver makes one: <code>fig token create NAME --role operator</code></p>
    </main>
  );
}
