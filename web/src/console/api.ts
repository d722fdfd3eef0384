// Asking the console's server, and following it: its state is sent whole whenever it changes, so that who was cut off
// has missed nothing. A link's session is kept per browser and sent in a header, which no other site's page can do; where
// people log in, it is in a cookie that no script reads, and what changes something brings the page's own token along.
import { useEffect, useRef, useState } from "react";
import type { Refused as RefusedBody, Session, Ways } from "./types";

const KEY = "fig-console-session";
/** Milliseconds without a word (the server says one every ten seconds) after which a connection is taken for lost. */
const SILENCE = 25_000;

/** What the server refused, by its code. */
export class Refused extends Error {
  constructor(readonly code: string, message: string, readonly remedy: string) {
    super(message);
  }
}

interface Myself {
  name: string;
  person: string;
  role: string;
  csrf: string;
}

let signed: { by: string; estate: string; csrf: string; person: string; role: string } | null = null;

/** How one logs in; null where a link opens the console. */
export async function ways(): Promise<Ways | null> {
  const found = await ask<Ways>("GET", "/api/login");
  return found.token || found.oidc ? found : null;
}

/** Who is logged in, if anybody. */
export async function recognised(found: Ways): Promise<boolean> {
  const answer = await fetch("/api/whoami");
  if (!answer.ok) return false;
  const me = (await answer.json()) as Myself;
  signed = { by: `${me.name}, ${me.role}`, estate: found.estate, csrf: me.csrf, person: me.person, role: me.role };
  return true;
}

export async function logIn(token: string): Promise<void> {
  await ask("POST", "/api/login", { token });
}

/** Null where a link's session is used, which ends by itself. */
export const leave = (): (() => Promise<void>) | null =>
  signed === null ? null : async () => {
    await send("POST", "/api/logout", {});
    signed = null;
    window.dispatchEvent(new Event("fig-signed-out"));
  };

export function session(): { by: string; estate: string } | null {
  return signed ?? linked();
}

/** Who looks, where people log in; null where a link opens the console to whoever has it. */
export const me = (): { person: string; role: string } | null => signed;

function linked(): Session | null {
  const kept = localStorage.getItem(KEY);
  return kept === null ? null : (JSON.parse(kept) as Session);
}

/** Spend a link's token on a session. */
export async function begin(token: string): Promise<void> {
  const found = await ask<Session>("POST", "/api/session", { token });
  localStorage.setItem(KEY, JSON.stringify(found));
}

async function send(method: string, path: string, more: { body?: unknown; accept?: string; signal?: AbortSignal }): Promise<Response> {
  const headers: Record<string, string> = { Accept: more.accept ?? "application/json" };
  const mine = signed === null ? linked() : null;
  if (mine !== null) headers.Authorization = `Bearer ${mine.session}`;
  if (signed !== null && method !== "GET") headers["X-CSRF-Token"] = signed.csrf;
  if (more.body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, {
    method, headers, signal: more.signal ?? null, body: more.body === undefined ? null : JSON.stringify(more.body),
  });
  if (answer.ok) return answer;
  const said = (await answer.json().catch(() => null)) as RefusedBody | null;
  const error = said?.error;
  if (answer.status === 401 && path !== "/api/login") {
    localStorage.removeItem(KEY);
    signed = null;
    window.dispatchEvent(new Event("fig-signed-out"));
  }
  throw new Refused(error?.code ?? "unexpected", error?.message ?? `the server answered ${answer.status}`, error?.remedy ?? "");
}

export async function ask<T>(method: "GET" | "POST", path: string, body?: unknown): Promise<T> {
  return (await (await send(method, path, { body })).json()) as T;
}

/** One connection: calls `heard` with each event until it ends. */
async function listen(path: string, signal: AbortSignal, heard: (event: string, data: unknown) => void): Promise<void> {
  const silent = new AbortController();
  let watch = setTimeout(() => silent.abort(), SILENCE);
  try {
    const answer = await send("GET", path, { accept: "text/event-stream", signal: AbortSignal.any([signal, silent.signal]) });
    const reader = answer.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (let waiting = ""; ; ) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(watch);
      watch = setTimeout(() => silent.abort(), SILENCE);
      const events = (waiting + value).split("\n\n");
      waiting = events.pop()!;
      for (const each of events) {
        const found = /^event: (\w+)\ndata: (.*)$/.exec(each);
        if (found) heard(found[1]!, JSON.parse(found[2]!));
      }
    }
  } finally {
    clearTimeout(watch);
  }
}

export interface Followed<T> {
  state: T | null;
  /** Why there is no state now, or none that is new. */
  trouble: { message: string; remedy: string } | null;
  ended: boolean;
}

const waits = (milliseconds: number, signal: AbortSignal) =>
  new Promise<void>((done) => {
    const timer = setTimeout(done, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });

/** Resolves when somebody looks at the page: who does not costs the server nothing. */
const looked = (signal: AbortSignal) =>
  new Promise<void>((done) => {
    if (!document.hidden || signal.aborted) return done();
    const seen = () => { if (!document.hidden || signal.aborted) { document.removeEventListener("visibilitychange", seen); done(); } };
    document.addEventListener("visibilitychange", seen);
    signal.addEventListener("abort", seen, { once: true });
  });

/** Follow what the server says at `path`, for as long as the page shows it; connects again by itself. `each` hears every
 * message: React may pass some over where several come at once. */
export function useLive<T>(path: string | null, each?: (state: T) => void): Followed<T> {
  const hears = useRef(each);
  hears.current = each;
  const [found, setFound] = useState<Followed<T>>({ state: null, trouble: null, ended: false });
  useEffect(() => {
    setFound({ state: null, trouble: null, ended: false });
    if (path === null) return;
    const leaving = new AbortController();
    const follow = async () => {
      let ended = false;
      for (let pause = 250; !leaving.signal.aborted && !ended; pause = Math.min(pause * 2, 4000)) {
        await looked(leaving.signal);
        const hidden = new AbortController();
        const hide = () => { if (document.hidden) hidden.abort(); };
        document.addEventListener("visibilitychange", hide);
        try {
          await listen(path, AbortSignal.any([leaving.signal, hidden.signal]), (event, data) => {
            pause = 250;
            if (event === "state") hears.current?.(data as T);
            if (event === "state") setFound({ state: data as T, trouble: null, ended: false });
            else if (event === "trouble") setFound((before) => ({ ...before, trouble: data as { message: string; remedy: string } }));
            else ended = true;
          });
        } catch (error) {
          if (leaving.signal.aborted || hidden.signal.aborted) continue;
          if (error instanceof Refused && error.code.startsWith("unknown_")) ended = true;
          const said = error instanceof Refused ? { message: error.message, remedy: error.remedy } : { message: "the console's server does not answer", remedy: "Trying again by itself." };
          setFound((before) => ({ ...before, trouble: said }));
        } finally {
          document.removeEventListener("visibilitychange", hide);
        }
        if (!ended) await waits(pause, leaving.signal);
      }
      if (!leaving.signal.aborted) setFound((before) => ({ ...before, ended: true }));
    };
    void follow();
    return () => leaving.abort();
  }, [path]);
  return found;
}
