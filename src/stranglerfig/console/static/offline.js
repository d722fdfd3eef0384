// Lets a page that was open once load again without the server. What is asked of the server's API is never kept, nor is
// anything with a link's token: only the page's own files, under the name of this build (stamp.mjs names both).
const CACHE = "fig-wall-6e2ee79c258df332";
const FILES = ["/", ...["/wall.js","/rolldown-runtime.js","/react.js","/graph.js","/graph.css","/wall.css"]];
/** Milliseconds after which a server that says nothing is taken for one that is not there. */
const PATIENCE = 4000;

self.addEventListener("install", (event) => {
  const fresh = FILES.map((file) => new Request(file, { cache: "reload" }));
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  const forget = async () => {
    const old = (await caches.keys()).filter((name) => name.startsWith("fig-wall-") && name !== CACHE);
    await Promise.all(old.map((name) => caches.delete(name)));
    await self.clients.claim();
  };
  event.waitUntil(forget());
});

self.addEventListener("fetch", (event) => {
  const { origin, pathname, search } = new URL(event.request.url);
  if (event.request.method !== "GET" || origin !== location.origin || search || !FILES.includes(pathname)) return;
  event.respondWith(answer(event.request, pathname));
});

/** The server's answer; what is kept only where there is none. */
async function answer(request, file) {
  const late = new Promise((_, fail) => setTimeout(() => fail(new Error("no answer")), PATIENCE));
  try {
    return await Promise.race([fetch(request), late]);
  } catch (error) {
    const kept = await (await caches.open(CACHE)).match(file);
    if (kept) return kept;
    throw error;
  }
}
