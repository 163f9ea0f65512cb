// A turn of the event loop, on every platform: lets timers, input and abort signals in between two slices of work.

interface Platform {
  setImmediate?(callback: () => void): unknown;
  MessageChannel?: typeof MessageChannel;
}

/** Resolves in a later task (not merely a later microtask), as soon as the platform can: setTimeout would wait 4 ms in a page. */
export function nextTask(): Promise<void> {
  const platform = globalThis as Platform;
  return new Promise((resolve) => {
    if (platform.setImmediate !== undefined) platform.setImmediate(resolve);
    else if (platform.MessageChannel !== undefined) {
      const channel = new platform.MessageChannel();
      channel.port1.onmessage = () => {
        channel.port1.close();
        resolve();
      };
      channel.port2.postMessage(null);
    } else setTimeout(resolve, 0);
  });
}
