// Backends that have given the known answer, so that nobody asks them twice.
import type { Backend } from "../backend.ts";

const proven = new WeakSet<Backend>();

export const noteProven = (backend: Backend): void => void proven.add(backend);
export const isProven = (backend: Backend): boolean => proven.has(backend);
