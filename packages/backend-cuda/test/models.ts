// The models of tests that have no golden are those of every backend.
export { sines, small } from "@doge-lm/conformance/models";
