import { chromium } from "playwright-core";
import { readFileSync } from "node:fs";
const [out, ...files] = process.argv.slice(2);
const b = await chromium.launch({ executablePath: "/usr/bin/chromium", args: ["--no-sandbox"] });
const page = await b.newPage({ viewport: { width: 1960, height: 600 } });
await page.setContent(`<body style="margin:4px;display:flex;gap:8px;align-items:start;background:#888">${files.map((f) => `<img style="min-width:0;flex-shrink:1;max-height:1100px" src="data:image/png;base64,${readFileSync(f).toString("base64")}">`).join("")}`);
await page.screenshot({ path: out!, fullPage: true });
await b.close();
