// Writes beside the built page which sources it was built from (a test compares), and the worker that keeps this build.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = [
  "index.html",
  "offline.js",
  "package-lock.json",
  "package.json",
  "tsconfig.json",
  "vite.config.ts",
  ...readdirSync("src").map((name) => `src/${name}`),
].sort();
const digest = createHash("sha256");
for (const file of files) {
  digest.update(`${file}\n`).update(readFileSync(file));
}
const [build, built] = [digest.digest("hex"), "../src/stranglerfig/console/static"];
writeFileSync(`${built}/sources.sha256`, `${build}\n`);
writeFileSync(`${built}/offline.js`, readFileSync("offline.js", "utf8").replace("BUILD", build.slice(0, 16)));
