// swiglu: the gated unit between the two halves of the dense feed-forward. It has no dispatch of its own: matmul ends with it.

/** silu(z) = z · sigmoid(z), and silu(gate) · up. e^-z may be infinite, and the quotient is then 0, as it should be. */
export const SWIGLU = /* wgsl */ `
fn silu(z: f32) -> f32 { return select(0.0, z / (1.0 + exp(-z)), z > -80.0); }
fn swiglu(gate: f32, up: f32) -> f32 { return silu(gate) * up; }
`;
