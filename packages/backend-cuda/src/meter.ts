// What an opened device tells of itself, for reports: what driving it took, and how fast it is at most.
import type { Binding, DeviceHandle } from "./binding.ts";

/** Since the device was opened. */
export interface DeviceCounts {
  /** Kernels that ran, those of graphs included. */
  readonly launches: number;
  /** Launches and graphs that the host handed over. */
  readonly submissions: number;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly allocations: number;
  /** Bytes of its memory that are held now. */
  readonly bytesHeld: number;
}

/** In a second, by loops that do nothing else. */
export interface DeviceRates {
  readonly bytes: number;
  /** Multiply-adds in f32, and those of tensor cores in bf16; 0 where there are none. */
  readonly macs: number;
  readonly tensorMacs: number;
}

export interface Meter {
  counts(): DeviceCounts;
  /** Reading over so many bytes of memory. Takes some tenths of a second, in which nothing else should run. */
  rates(bytes: number): DeviceRates;
}

/** Work enough to be timed on a GPU. */
const EFFORT = 64;

export function meterOf(binding: Binding, device: DeviceHandle, effort: number = EFFORT): Meter {
  return {
    counts() {
      const [launches, submissions, bytesIn, bytesOut, allocations, bytesHeld] = binding.counts(device);
      return {
        launches: launches!,
        submissions: submissions!,
        bytesIn: bytesIn!,
        bytesOut: bytesOut!,
        allocations: allocations!,
        bytesHeld: bytesHeld!,
      };
    },
    rates(size) {
      const [bytes, macs, tensorMacs] = binding.rates(device, size, effort);
      return { bytes: bytes!, macs: macs!, tensorMacs: tensorMacs! };
    },
  };
}
