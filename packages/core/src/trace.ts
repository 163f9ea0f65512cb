// One hook through which a backend tells what it does: uploads, submits, readbacks and timed spans.

export interface TraceEvent {
  /** "wasm", "webgpu": who speaks. */
  readonly scope: string;
  readonly kind: "upload" | "submit" | "readback" | "span";
  /** What was moved or done: a tensor name, "prefill", "decode". */
  readonly name: string;
  readonly bytes?: number | undefined;
  /** Milliseconds since the time origin of `performance`. */
  readonly start?: number | undefined;
  readonly duration?: number | undefined;
}
export type TraceSink = (event: TraceEvent) => void;

let sink: TraceSink | undefined;

/** Listen to every backend of this realm, or stop with `undefined`. Returns the sink that listened before. */
export function setTrace(next: TraceSink | undefined): TraceSink | undefined {
  const previous = sink;
  sink = next;
  return previous;
}

/** Whether anybody listens: lets a hot path skip building the event. */
export const tracing = (): boolean => sink !== undefined;

export function trace(event: TraceEvent): void {
  sink?.(event);
}
