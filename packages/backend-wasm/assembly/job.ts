// A job: what one call of the contract computes, from its first token to its last draw. It keeps its progress in memory, so
// run() may return at any point between two units of work and go on when called again: that is how a long call lets an abort
// through, while one that fits the budget is a single crossing.
import {
  GROUP_BYTES,
  GROUP_COUNT,
  GROUP_FROM,
  GROUP_SPAN,
  HEAD_ROWS,
  JOB_FAILED,
  JOB_FROM,
  JOB_GROUP,
  JOB_GROUPS,
  JOB_GROUPS_AT,
  JOB_HALF,
  JOB_HIDDEN_OUT,
  JOB_KIND,
  JOB_LAYER,
  JOB_LOGITS_OUT,
  JOB_MODEL,
  JOB_PANEL,
  JOB_ROWS,
  JOB_ROWS_AT,
  JOB_STREAM,
  JOB_TOKENS_AT,
  JOB_UPDATE,
  KIND_FORWARD,
  KIND_INSPECT,
  KIND_SAMPLE,
  KIND_SCORE,
  MATRIX_PANELS,
  MODEL_COST_ATTENTION,
  MODEL_COST_KEY,
  MODEL_COST_MLP,
  MODEL_COST_PANEL,
  MODEL_EPSILON,
  MODEL_HEAD,
  MODEL_HEAD_PANELS,
  MODEL_HIDDEN,
  MODEL_HIDDEN_STRIDE,
  MODEL_LAYERS,
  MODEL_LOGITS,
  MODEL_LOGITS_STRIDE,
  MODEL_NORM,
  MODEL_NORMED,
  MODEL_QUANTIZED,
  MODEL_TILE,
  MODEL_VOCABULARY,
  PANEL,
  ROW_ALTERNATIVES,
  ROW_BYTES,
  ROW_DRAWN,
  ROW_IDS_OUT,
  ROW_LAST,
  ROW_LEFT,
  ROW_LOGPROBS_OUT,
  ROW_POSITION,
  ROW_SEEN,
  ROW_STOPPED,
  ROW_STOPS,
  ROW_STOPS_AT,
  ROW_TOP_IDS_OUT,
  ROW_TOP_LOGPROBS_OUT,
  STATUS_DONE,
  STATUS_MORE,
  STATUS_NUMERICAL,
  TOKEN_BYTES,
  TOKEN_ID,
  TOKEN_OUT,
  TOKEN_POSITION,
  TOKEN_ROW,
} from "../src/descriptor";
import { attentionHalf, embedTile, feedForwardHalf, gateBefore } from "./forward";
import { draw, logSumExp, mostLikely, NOTHING, NUMERICAL, sound } from "./kernels/draw";
import { quantize } from "./kernels/inputs";
import { matmulPanels } from "./kernels/matmul";
import { rmsnorm } from "./kernels/rmsnorm";

/**
 * Work on a job until it is done or about `budget` multiply-adds are spent.
 *
 * @returns STATUS_DONE, STATUS_MORE (call again), or STATUS_NUMERICAL (JOB_FAILED tells the row)
 */
export function run(job: usize, budget: f64): i32 {
  while (load<i32>(job, JOB_GROUP) < load<i32>(job, JOB_GROUPS) || nextStep(job)) {
    if (budget <= 0) return STATUS_MORE;
    budget -= unit(job);
    if (load<i32>(job, JOB_FAILED) >= 0) return STATUS_NUMERICAL;
  }
  return STATUS_DONE;
}

/** The next decoding step, when every token given so far is evaluated: the id last drawn of each row that draws on. */
function nextStep(job: usize): bool {
  if (load<i32>(job, JOB_KIND) != KIND_SAMPLE) return false;
  const tile = load<i32>(load<usize>(job, JOB_MODEL), MODEL_TILE);
  const tokens = load<usize>(job, JOB_TOKENS_AT);
  const groups = load<usize>(job, JOB_GROUPS_AT);
  const end = load<usize>(job, JOB_ROWS_AT) + <usize>load<i32>(job, JOB_ROWS) * ROW_BYTES;
  let count = 0;
  for (let row = load<usize>(job, JOB_ROWS_AT); row < end; row += ROW_BYTES) {
    if (load<i32>(row, ROW_LEFT) <= 0) continue;
    const token = tokens + <usize>count * TOKEN_BYTES;
    store<i32>(token, load<i32>(row, ROW_LAST), TOKEN_ID);
    store<i32>(token, load<i32>(row, ROW_POSITION) - 1, TOKEN_POSITION);
    store<usize>(token, row, TOKEN_ROW);
    store<i32>(token, 1, TOKEN_OUT);
    count++;
  }
  let made = 0;
  for (let from = 0; from < count; from += tile) {
    const group = groups + <usize>made * GROUP_BYTES;
    store<i32>(group, from, GROUP_FROM);
    store<i32>(group, min(tile, count - from), GROUP_COUNT);
    store<i32>(group, 0, GROUP_SPAN);
    made++;
  }
  store<i32>(job, 0, JOB_GROUP);
  store<i32>(job, made, JOB_GROUPS);
  return made > 0;
}

/** One unit: a tile through half a layer, or some panels of the head for a few rows. Returns its cost in multiply-adds. */
function unit(job: usize): f64 {
  const model = load<usize>(job, JOB_MODEL);
  const group = load<usize>(job, JOB_GROUPS_AT) + <usize>load<i32>(job, JOB_GROUP) * GROUP_BYTES;
  const tokens = load<usize>(job, JOB_TOKENS_AT) + <usize>load<i32>(group, GROUP_FROM) * TOKEN_BYTES;
  const total = load<i32>(group, GROUP_COUNT);
  const layer = load<i32>(job, JOB_LAYER);
  if (layer == load<i32>(model, MODEL_LAYERS)) return head(model, job, tokens, total);

  const half = load<i32>(job, JOB_HALF);
  const from = load<i32>(job, JOB_FROM);
  const count = min(load<i32>(model, MODEL_TILE), total - from);
  let cost: f64;
  if (half == 0) {
    if (layer == 0) embedTile(model, job, tokens, from, count);
    attentionHalf(model, job, tokens, layer, from, count);
    const keys = load<i32>(tokens + <usize>(from + count - 1) * TOKEN_BYTES, TOKEN_POSITION) + 1;
    cost = <f64>count * (load<f64>(model, MODEL_COST_ATTENTION) + load<f64>(model, MODEL_COST_KEY) * <f64>keys);
  } else {
    feedForwardHalf(model, job, layer, from, count, load<i32>(group, GROUP_SPAN) ? total : 0);
    cost = <f64>count * load<f64>(model, MODEL_COST_MLP);
  }
  // The other tiles of this half, then the other half, then the next layer.
  if (from + count < total) {
    store<i32>(job, from + count, JOB_FROM);
  } else {
    store<i32>(job, 0, JOB_FROM);
    store<i32>(job, half ^ 1, JOB_HALF);
    store<i32>(job, layer + half, JOB_LAYER);
  }
  return cost;
}

/** Some panels of the head for the next HEAD_ROWS tokens whose logits are needed; then what they are needed for. */
function head(model: usize, job: usize, tokens: usize, total: i32): f64 {
  const start = load<i32>(job, JOB_FROM);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const normed = load<usize>(model, MODEL_NORMED); // (HEAD_ROWS, hidden)
  const panel = load<i32>(job, JOB_PANEL);
  let rows = 0;
  let next = start;
  for (; next < total && rows < HEAD_ROWS; next++) {
    if (!load<usize>(tokens + <usize>next * TOKEN_BYTES, TOKEN_OUT)) continue;
    if (panel == 0) {
      const at = <usize>next * stride;
      rmsnorm(
        normed + <usize>rows * stride,
        load<usize>(job, JOB_STREAM) + at,
        gateBefore(model, load<i32>(model, MODEL_LAYERS)),
        load<usize>(job, JOB_UPDATE) + at,
        load<usize>(model, MODEL_NORM),
        1,
        load<i32>(model, MODEL_HIDDEN),
        stride,
        load<f32>(model, MODEL_EPSILON),
      );
    }
    rows++;
  }
  const panels = load<i32>(model + MODEL_HEAD, MATRIX_PANELS);
  const to = rows == 0 ? panels : min(panels, panel + load<i32>(model, MODEL_HEAD_PANELS));
  const logits = load<usize>(model, MODEL_LOGITS); // (HEAD_ROWS, vocabulary)
  const logitsStride = load<usize>(model, MODEL_LOGITS_STRIDE);
  if (rows > 0) {
    const quantized = load<usize>(model, MODEL_QUANTIZED);
    if (panel == 0) quantize(quantized, normed, model + MODEL_HEAD, 0, rows, stride);
    matmulPanels(
      logits,
      normed,
      model + MODEL_HEAD,
      rows,
      stride,
      logitsStride,
      quantized,
      panel,
      to,
    );
  }
  const cost = <f64>rows * <f64>(to - panel) * load<f64>(model, MODEL_COST_PANEL);
  if (to < panels) {
    store<i32>(job, to, JOB_PANEL);
    return cost;
  }
  let row = 0;
  for (let index = start; index < next; index++) {
    const token = tokens + <usize>index * TOKEN_BYTES;
    if (!load<usize>(token, TOKEN_OUT)) continue;
    if (!use(model, job, token, logits + <usize>row * logitsStride, normed + <usize>row * stride)) {
      const at = load<usize>(token, TOKEN_ROW) - load<usize>(job, JOB_ROWS_AT);
      store<i32>(job, <i32>(at / ROW_BYTES), JOB_FAILED);
      return cost;
    }
    row++;
  }
  store<i32>(job, 0, JOB_PANEL);
  if (next < total) {
    store<i32>(job, next, JOB_FROM);
  } else {
    store<i32>(job, 0, JOB_FROM);
    store<i32>(job, 0, JOB_LAYER);
    store<i32>(job, load<i32>(job, JOB_GROUP) + 1, JOB_GROUP);
  }
  return cost;
}

/** What the logits after a token are needed for; false when they are no numbers. */
function use(model: usize, job: usize, token: usize, logits: usize, normed: usize): bool {
  const kind = load<i32>(job, JOB_KIND);
  const vocabulary = load<i32>(model, MODEL_VOCABULARY);
  const out = load<usize>(token, TOKEN_OUT);
  if (kind == KIND_SAMPLE) return append(model, load<usize>(token, TOKEN_ROW), logits, vocabulary);
  if (kind == KIND_SCORE) {
    const normalizer = logSumExp(logits, vocabulary);
    const next = load<i32>(token + TOKEN_BYTES, TOKEN_ID);
    store<f32>(out, <f32>(<f64>load<f32>(logits + ((<usize>next) << 2)) - normalizer));
    return !isNaN<f64>(normalizer);
  }
  if (kind == KIND_INSPECT) {
    const hidden = load<i32>(model, MODEL_HIDDEN);
    const place = <usize>(out - 1);
    memory.copy(load<usize>(job, JOB_HIDDEN_OUT) + ((place * hidden) << 2), normed, (<usize>hidden) << 2);
    memory.copy(load<usize>(job, JOB_LOGITS_OUT) + ((place * vocabulary) << 2), logits, (<usize>vocabulary) << 2);
    return true;
  }
  memory.copy(out, logits, (<usize>vocabulary) << 2);
  return true;
}

/** Draw the next id of a row and note it. */
function append(model: usize, row: usize, logits: usize, vocabulary: i32): bool {
  if (load<i32>(row, ROW_LEFT) <= 0) return sound(logits, vocabulary);
  const id = draw(logits, model, row);
  if (id == NUMERICAL) return false;
  if (id == NOTHING) {
    store<i32>(row, -1, ROW_LEFT);
    return true;
  }
  const drawn = load<i32>(row, ROW_DRAWN);
  if (load<usize>(row, ROW_LOGPROBS_OUT)) {
    const normalizer = logSumExp(logits, vocabulary);
    if (isNaN<f64>(normalizer)) return false;
    const logprob = <f32>(<f64>load<f32>(logits + ((<usize>id) << 2)) - normalizer);
    store<f32>(load<usize>(row, ROW_LOGPROBS_OUT) + ((<usize>drawn) << 2), logprob);
    const count = load<i32>(row, ROW_ALTERNATIVES);
    const at = (<usize>drawn * count) << 2;
    if (count > 0) {
      mostLikely(
        load<usize>(row, ROW_TOP_IDS_OUT) + at,
        load<usize>(row, ROW_TOP_LOGPROBS_OUT) + at,
        logits,
        vocabulary,
        count,
        normalizer,
      );
    }
  }
  store<i32>(load<usize>(row, ROW_IDS_OUT) + ((<usize>drawn) << 2), id);
  store<i32>(row, id, ROW_LAST);
  store<i32>(row, drawn + 1, ROW_DRAWN);
  store<i32>(row, load<i32>(row, ROW_POSITION) + 1, ROW_POSITION);
  store<i32>(row, load<i32>(row, ROW_LEFT) - 1, ROW_LEFT);
  const seen = load<usize>(row, ROW_SEEN);
  if (seen) {
    const word = seen + ((<usize>(id >> 5)) << 2);
    store<u32>(word, load<u32>(word) | (1 << (id & 31)));
  }
  const stops = load<usize>(row, ROW_STOPS_AT);
  for (let index = 0; index < load<i32>(row, ROW_STOPS); index++) {
    if (load<i32>(stops + ((<usize>index) << 2)) != id) continue;
    store<i32>(row, 0, ROW_LEFT);
    store<i32>(row, 1, ROW_STOPPED);
  }
  return true;
}
