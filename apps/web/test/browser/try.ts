import { openPlayground, ask } from "/root/w/web/apps/web/test/browser/playground.ts";
const p = await openPlayground("/usr/bin/chromium");
try {
  const t=Date.now();
  const v = await p.visit({query: process.argv[2] ?? ""});
  console.log("ready", Date.now()-t, await v.page.locator(".model-now").innerText(), await v.page.evaluate("crossOriginIsolated"));
  console.log(await ask(v.page, "What is the capital of France?"));
  console.log(await v.page.locator(".facts").last().innerText());
  console.log(v.faults);
  await v.page.screenshot({path:"/tmp/a.png"});
} finally { await p.close(); }
