// Writes beside the built page which sources it was built from (a test compares), and the worker that keeps this build.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = [
  "console.html",
  "index.html",
  "offline.js",
  "package-lock.json",
  "package.json",
  "seams.html",
  "tsconfig.json",
  "vite.config.ts",
  ...readdirSync("src", { recursive: true, withFileTypes: true })
    .filter((each) => each.isFile())
    .map((each) => `${each.parentPath}/${each.name}`),
].sort();
const digest = createHash("sha256");
for (const file of files) {
  digest.update(`${file}\n`).update(readFileSync(file));
}
const [build, built] = [digest.digest("hex"), "../src/stranglerfig/console/static"];
writeFileSync(`${built}/sources.sha256`, `${build}\n`);
const page = [...readFileSync(`${built}/index.html`, "utf8").matchAll(/(?:src|href)="(\/[^"]+)"/g)].map((found) => found[1]);
const worker = readFileSync("offline.js", "utf8").replace("BUILD", build.slice(0, 16));
writeFileSync(`${built}/offline.js`, worker.replace("PAGE", JSON.stringify(page)));
