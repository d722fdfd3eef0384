// Writes beside the built page which sources it was built from; a test compares.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, writeFileSync } from "node:fs";

const files = [
  "index.html",
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
writeFileSync("../src/stranglerfig/console/static/sources.sha256", `${digest.digest("hex")}\n`);
