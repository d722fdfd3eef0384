import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

// Names without hashes: the built files are committed, and the server says that nobody may keep them unasked.
export default defineConfig({
  plugins: [react()],
  build: {
    outDir: "../src/stranglerfig/console/static",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    chunkSizeWarningLimit: 900,
    modulePreload: { polyfill: false },
    rollupOptions: {
      input: { wall: "index.html", seams: "seams.html", console: "console.html" },
      output: {
        entryFileNames: "[name].js",
        chunkFileNames: "[name].js",
        assetFileNames: "[name][extname]",
        codeSplitting: { groups: [{ name: "react", test: /node_modules\/(react|react-dom|scheduler)\// }, { name: "graph", test: /node_modules\/@xyflow\// }] },
      },
    },
  },
});
