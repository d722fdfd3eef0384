// Tokens of a text by a TextMate grammar, as editors make them: node tokens.mjs GRAMMAR < text, one JSON line a line.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import oniguruma from "vscode-oniguruma";
import textmate from "vscode-textmate";

const wasm = createRequire(import.meta.url).resolve("vscode-oniguruma/release/onig.wasm");
await oniguruma.loadWASM(readFileSync(wasm));
const registry = new textmate.Registry({
  onigLib: Promise.resolve({
    createOnigScanner: (sources) => new oniguruma.OnigScanner(sources),
    createOnigString: (text) => new oniguruma.OnigString(text),
  }),
  loadGrammar: async () => textmate.parseRawGrammar(readFileSync(process.argv[2], "utf8"), process.argv[2]),
});
const grammar = await registry.loadGrammar("source.storm");
let state = textmate.INITIAL;
for (const line of readFileSync(0, "utf8").split("\n")) {
  const found = grammar.tokenizeLine(line, state);
  state = found.ruleStack;
  const tokens = found.tokens.map((t) => [line.slice(t.startIndex, t.endIndex), t.scopes.at(-1)]);
  console.log(JSON.stringify(tokens.filter(([text]) => text.trim())));
}
