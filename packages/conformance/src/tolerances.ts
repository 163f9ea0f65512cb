// The one table of tolerances. Every number has its reason; widening one is a commit of its own.

export const tolerances = {
  /** f32 logits against the golden ones, in standard deviations of the logits. Two f32 forward passes that sum in different
   *  orders differ by about 1e-5 on these depths (the oracle's own cached and uncached runs: 2e-6); what is wrong in a formula
   *  moves logits by 1e-3 and more. */
  logits: 1e-4,
  /** f32 logits of one backend against its own, run another way (steps, rows, forks): the same bound as against another
   *  implementation, since tiles of another size may sum in another order. */
  repeated: 1e-4,
  /** The same under bf16, q8 and q4, where a difference in the last bit may round an activation or a cached key to its
   *  neighbour: 2^-8 of a value in bf16, 1/127 of a block's largest in 8 bits. Exact goldens are for f32; this only separates
   *  rounding from another choice of keys in layer 0. */
  roundedRepeat: 0.1,
  /** f32 log-probabilities, absolute: a log-softmax adds an error of the size of the logits' own (standard deviations here
   *  are 1.5 to 2) and one f32 rounding of a number near 10. */
  logProbability: 3e-4,
  /** Tensors seen by inspect, in their own standard deviations; as `logits`. */
  tensor: 1e-4,
  /** Biases against exp(A softplus(dt_proj v)) in f64 of the values shown, absolute (biases lie around 1): f32 sums of at most
   *  30 terms. Values rounded to bf16 first would be 2^-9 of them away, some 1e-3. */
  bias: 2e-5,
  /** A greedy choice whose golden margin over the second best is below this, in standard deviations of the step's logits, may
   *  differ: twice the logits' tolerance, since both candidates may move. */
  greedyMargin: 2e-4,
  /** The same for the demo model's texts, whose margins are in logits (standard deviation about 3). */
  textMargin: 1e-3,
  /** A draw may differ from core's draw on the logits of forward() when the two perturbed scores lie this close (nats, after
   *  the temperature: divide by it). Logits of forward() and of sample() differ by up to `repeated`, and the noise itself is
   *  f32 on a device (2e-6 measured). */
  drawMargin: 4e-4,
  /** The same for a filter's cut: relative distance of a probability from min-p's or top-k's, of the mass from top-p's. */
  cutMargin: 4e-4,
  /** Share of draws that may use one of the two margins above. Expected: 0.56 * sigma * (1 - sum p^2) flips a draw with a
   *  difference of rms sigma (docs/contract.md), below 1e-4 for sigma at 1e-4; a systematic fault shows in tens of percent. */
  drawFlips: 0.005,
  /** Standard normal quantile for chi-square bounds: one false alarm in a million for a new backend. Draws are seeded, so a
   *  result does not change from run to run. */
  chiSquareZ: 4.753,
  /** Least expected count of a chi-square bin (Cochran's rule); rarer tokens share one. */
  chiSquareBin: 5,
  /** Mean KL divergence (nats per token) of a quantised or rounded model from f32 on the demo model. The bar for q8 is the
   *  project's; bf16 keeps 8 bits of mantissa without a shared scale and stays below it too; q4 has 16 levels for a block. */
  klDemo: { bf16: 1e-3, q8: 1e-3, q4: 1e-1 },
  /** Logits in dtype X against f32 arithmetic on the same rounded weights, as mean KL on small random fixtures: only rounded
   *  activations and a bf16 cache may lie between. They cost about what rounding the weights costs, which is 3e-5 to 8e-5 in
   *  bf16 and 3e-4 to 8e-4 in q8 there, or four times that where inputs of q8 have 7 bits (docs/decisions/2026-11-26-cpu-kernels.md);
   *  f32 arithmetic stays below 2e-8. */
  klActivations: { bf16: 2e-4, q8: 4e-3, q4: 1e-3 },
  /** Logits of a model whose weights already are numbers of dtype X, loaded as X, against the one they came from: equal but for
   *  the last bit of a scale. Another rounding or block moves them by a tenth of a standard deviation and more. */
  sameWeights: 4e-3,
  /** Kernels against their definition in f64, relative to the root mean square of the result: f32 sums of up to 300 terms. */
  kernel: 2e-5,
  /** Bytes a call may bring back beyond its numbers, per row: lengths, flags, padding of a copy to 256 bytes. */
  crossingBytes: 256,
} as const;
