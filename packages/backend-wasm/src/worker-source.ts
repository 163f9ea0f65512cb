// What a worker runs, as text: it is started from these very characters (a Blob in a page, an evaluated script in Node), so that no
// bundler has to find a file. scripts/build.mjs also writes it to build/worker.js, for pages whose content security policy wants
// one.
//
// A worker is a thread of a team and knows nothing of models. It is sent a module and a memory once, and makes its instance; then
// jobs, each one a single call of run(). It answers each message with one of its own.

/** A classic script without imports. Nothing is imported by name: in Node it is evaluated, in a page it has a scope of its own. */
export const workerSource: string = `"use strict";
{
  const port = globalThis.process?.versions?.node === undefined
    ? globalThis
    : globalThis.process.getBuiltinModule("node:worker_threads").parentPort;
  let run;
  let thread;
  const answer = (message) => {
    try {
      if (message.module === undefined) return { status: run(message.job, thread, message.budget) };
      const { module, memory } = message;
      thread = message.thread;
      run = new WebAssembly.Instance(module, { env: { memory } }).exports.run;
      return { status: 0 };
    } catch (error) {
      return { failure: String(error) };
    }
  };
  const listen = (message) => port.postMessage(answer(message));
  if (port === globalThis) port.onmessage = ({ data }) => listen(data);
  else port.on("message", listen);
}
`;
