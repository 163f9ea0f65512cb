// How the AssemblyScript compiler is called, for the binaries that ship and for the tests that read their machine code.

/** For every binary, beside the features it may use. */
export const flags: readonly string[] = [
  // Not -O2 or -O3: they move operations to their uses, so that a kernel without loops needs more registers than there are. Of what
  // they do besides, kernels miss only that equal loads are done once, also where two copies of an inlined function share their locals.
  ...["--runPasses", "ssa-nomerge,local-cse,coalesce-locals,reorder-locals,vacuum"],
  ...["-O1", "--converge", "--noAssert", "--runtime", "stub", "--importMemory"],
  // v128 parameters of functions that end up inlined: nothing of the kind is exported.
  ...["--disableWarning", "112"],
];
