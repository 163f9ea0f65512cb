// A job: what one call of the contract computes, from its first token to its last draw. It keeps its progress in memory, so
// run() may return at any point between two units of work and go on when called again: that is how a long call lets an abort
// through, while one that fits the budget is a single crossing.
import {
  CURSOR_FAILED, CURSOR_FROM, CURSOR_GROUP, CURSOR_GROUPS, CURSOR_HALF, CURSOR_LAYER, CURSOR_PANEL, FEW, GROUP_BYTES, GROUP_COUNT,
  GROUP_FROM, GROUP_SPAN, HEAD_ROWS, JOURNAL, JOB_GROUPS, JOB_GROUPS_AT, JOB_HIDDEN_OUT, JOB_KIND, JOB_LOGITS_OUT, JOB_MODEL, JOB_ROWS,
  JOB_ROWS_AT, JOB_THREADS, JOB_TOKENS_AT, JOB_UPDATE, KIND_FORWARD, KIND_INSPECT, KIND_SAMPLE, KIND_SCORE, MATRIX_PANELS,
  MODEL_BYTES, MODEL_COST_ATTENTION, MODEL_COST_KEY, MODEL_COST_MLP, MODEL_COST_PANEL, MODEL_EPSILON, MODEL_HEAD,
  MODEL_HEAD_PANELS, MODEL_HIDDEN, MODEL_HIDDEN_STRIDE, MODEL_LAYERS, MODEL_LOGITS, MODEL_LOGITS_STRIDE, MODEL_NORM,
  MODEL_NORMED, MODEL_QUANTIZED, MODEL_QUANTIZED_OWN, MODEL_TILE, MODEL_VOCABULARY, MODEL_WINDOW, ROW_ALTERNATIVES, ROW_BYTES, ROW_DRAWN,
  ROW_IDS_OUT, ROW_LAST, ROW_LEFT, ROW_LOGPROBS_OUT, ROW_POSITION, ROW_SEEN, ROW_STOPPED, ROW_STOPS, ROW_STOPS_AT,
  ROW_TOP_IDS_OUT, ROW_TOP_LOGPROBS_OUT, STATUS_DONE, STATUS_MORE, STATUS_NUMERICAL, TILE_UNIT, TOKEN_BYTES, TOKEN_ID, TOKEN_OUT,
  TOKEN_POSITION, TOKEN_ROW,
} from "../src/descriptor";
import { attentionHalf, feedForwardHalf, gateBefore, normedOf, prepare, streamOf } from "./forward";
import { draw, logSumExp, mostLikely, NOTHING, NUMERICAL, sound } from "./kernels/draw";
import { matmulPanels } from "./kernels/matmul";
import { rmsnorm } from "./kernels/rmsnorm";
import { barrier, cursorOf, nextPart, partsOf, share } from "./team";

/** Units in a budget: it may be passed by what one of them costs. */
const UNITS: f64 = 4;

/**
 * Work on a job until it is done or about `budget` multiply-adds are spent. Each of the job's threads calls it, with the same
 * budget: all return the same.
 *
 * @returns STATUS_DONE, STATUS_MORE (call again), or STATUS_NUMERICAL (CURSOR_FAILED tells the row)
 */
export function run(job: usize, thread: i32, budget: f64): i32 {
  const cursor = cursorOf(job, thread);
  const most = budget / UNITS;
  while (load<i32>(cursor, CURSOR_GROUP) < load<i32>(cursor, CURSOR_GROUPS) || nextStep(job, thread, cursor)) {
    if (budget <= 0) return STATUS_MORE;
    budget -= unit(job, thread, cursor, most);
    if (failed(job)) return STATUS_NUMERICAL;
  }
  return STATUS_DONE;
}

/** Whether any thread has met logits that are no numbers. */
function failed(job: usize): bool {
  const threads = load<i32>(job, JOB_THREADS);
  for (let thread = 0; thread < threads; thread++) {
    if (load<i32>(cursorOf(job, thread), CURSOR_FAILED) >= 0) return true;
  }
  return false;
}

/** The next decoding step, when every token given so far is evaluated. */
function nextStep(job: usize, thread: i32, cursor: usize): bool {
  if (load<i32>(job, JOB_KIND) != KIND_SAMPLE) return false;
  if (thread == 0) planStep(job);
  barrier(job);
  const groups = load<i32>(job, JOB_GROUPS);
  store<i32>(cursor, 0, CURSOR_GROUP);
  store<i32>(cursor, groups, CURSOR_GROUPS);
  return groups > 0;
}

/** Tokens and groups of a decoding step: the id last drawn of each row that draws on. */
function planStep(job: usize): void {
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
  store<i32>(job, made, JOB_GROUPS);
}

/** One unit: a tile through half a layer, which costs `most` or little more, or some panels of the head for a few rows. Returns its cost
 *  in multiply-adds. All threads leave it behind the same barrier. */
function unit(job: usize, thread: i32, cursor: usize, most: f64): f64 {
  const model = load<usize>(job, JOB_MODEL) + <usize>thread * MODEL_BYTES;
  const group = load<usize>(job, JOB_GROUPS_AT) + <usize>load<i32>(cursor, CURSOR_GROUP) * GROUP_BYTES;
  const tokens = load<usize>(job, JOB_TOKENS_AT) + <usize>load<i32>(group, GROUP_FROM) * TOKEN_BYTES;
  const total = load<i32>(group, GROUP_COUNT);
  const layer = load<i32>(cursor, CURSOR_LAYER);
  const few = total <= FEW;
  if (layer == load<i32>(model, MODEL_LAYERS)) return head(model, job, thread, cursor, tokens, total, few);

  const half = load<i32>(cursor, CURSOR_HALF);
  const span = load<i32>(group, GROUP_SPAN) != 0;
  const last = layer == load<i32>(model, MODEL_LAYERS) - 1 && !span;
  const read = last ? firstRead(tokens, total) : 0;
  const from = half == 0 ? load<i32>(cursor, CURSOR_FROM) : max(load<i32>(cursor, CURSOR_FROM), read);
  let count = min(load<i32>(model, MODEL_TILE), total - from);
  let cost: f64 = 0;
  if (half == 0) {
    const keys = load<i32>(tokens + <usize>(from + count - 1) * TOKEN_BYTES, TOKEN_POSITION) + 1;
    cost = load<f64>(model, MODEL_COST_ATTENTION) + load<f64>(model, MODEL_COST_KEY) * <f64>keys;
    count = unevicted(model, tokens, from, tile(count, most / cost));
    attentionHalf(model, job, thread, tokens, layer, from, count, min(count, max(0, read - from)), few);
  } else if (count > 0) {
    cost = load<f64>(model, MODEL_COST_MLP);
    count = tile(count, most / cost);
    feedForwardHalf(model, job, thread, layer, from, count, span ? total : 0, few);
  }
  cost *= <f64>count;
  // The other tiles of this half, then the other half, then the next layer.
  if (from + count < total) {
    store<i32>(cursor, from + count, CURSOR_FROM);
  } else {
    store<i32>(cursor, 0, CURSOR_FROM);
    store<i32>(cursor, half ^ 1, CURSOR_HALF);
    store<i32>(cursor, layer + half, CURSOR_LAYER);
  }
  return cost;
}

/** The first token of the group whose results are read behind the last layer; those before it only leave keys and values there. */
// @ts-ignore: decorator
@inline
function firstRead(tokens: usize, total: i32): i32 {
  let index = 0;
  while (index < total && !load<usize>(tokens + <usize>index * TOKEN_BYTES, TOKEN_OUT)) index++;
  return index;
}

/** Of `count` tokens how many go together where `most` should: a multiple of what matmul takes at once. */
// @ts-ignore: decorator
@inline
function tile(count: i32, most: f64): i32 {
  return min(count, max(1, <i32>min(most, <f64>count) / TILE_UNIT) * TILE_UNIT);
}

/** Of `count` tokens how many may be kept before any of them attends: all of them until keys are evicted, which stay for JOURNAL
 *  more tokens only. */
function unevicted(model: usize, tokens: usize, from: i32, count: i32): i32 {
  const window = load<i32>(model, MODEL_WINDOW);
  const few = JOURNAL / TILE_UNIT * TILE_UNIT;
  if (window == 0 || count <= few) return count;
  for (let index = from; index < from + count; index++) {
    if (load<i32>(tokens + <usize>index * TOKEN_BYTES, TOKEN_POSITION) >= window) return few;
  }
  return count;
}

/** Some panels of the head for the next HEAD_ROWS tokens whose logits are needed; then what they are needed for. */
function head(model: usize, job: usize, thread: i32, cursor: usize, tokens: usize, total: i32, few: bool): f64 {
  const threads = load<i32>(job, JOB_THREADS);
  const start = load<i32>(cursor, CURSOR_FROM);
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const normed = few ? normedOf(model, job, thread, 0, true) : load<usize>(model, MODEL_NORMED); // (HEAD_ROWS, hidden)
  const panel = load<i32>(cursor, CURSOR_PANEL);
  let rows = 0;
  let next = start;
  for (; next < total && rows < HEAD_ROWS; next++) {
    if (!load<usize>(tokens + <usize>next * TOKEN_BYTES, TOKEN_OUT)) continue;
    if (panel == 0 && (few || rows % threads == thread)) {
      rmsnorm(
        normed + <usize>rows * stride, streamOf(model, job, thread, next, few),
        gateBefore(model, load<i32>(model, MODEL_LAYERS)), load<usize>(job, JOB_UPDATE) + <usize>next * stride,
        load<usize>(model, MODEL_NORM), 1, load<i32>(model, MODEL_HIDDEN), stride, load<f32>(model, MODEL_EPSILON),
      );
    }
    rows++;
  }
  const matrix = model + MODEL_HEAD;
  const panels = load<i32>(matrix, MATRIX_PANELS);
  const to = rows == 0 ? panels : min(panels, panel + load<i32>(model, MODEL_HEAD_PANELS));
  const logits = load<usize>(model, MODEL_LOGITS); // (HEAD_ROWS, vocabulary)
  const logitsStride = load<usize>(model, MODEL_LOGITS_STRIDE);
  if (rows > 0) {
    if (panel == 0) {
      if (!few) barrier(job);
      prepare(model, job, thread, few, normed, matrix, rows, stride);
    }
    const quantized = few ? load<usize>(model, MODEL_QUANTIZED_OWN) : load<usize>(model, MODEL_QUANTIZED);
    const parts = partsOf(job, few);
    for (let part = nextPart(job, thread, few, -1); part >= 0; part = nextPart(job, thread, few, part)) {
      matmulPanels(
        logits, normed, matrix, rows, stride, logitsStride, quantized, panel + share(to - panel, part, parts),
        panel + share(to - panel, part + 1, parts),
      );
    }
    barrier(job);
  }
  const cost = <f64>rows * <f64>(to - panel) * load<f64>(model, MODEL_COST_PANEL);
  if (to < panels) {
    store<i32>(cursor, to, CURSOR_PANEL);
    return cost;
  }
  if (rows > 0) {
    useRows(model, job, thread, cursor, tokens, start, next, logits, normed);
    barrier(job);
  }
  store<i32>(cursor, 0, CURSOR_PANEL);
  if (next < total) {
    store<i32>(cursor, next, CURSOR_FROM);
  } else {
    store<i32>(cursor, 0, CURSOR_FROM);
    store<i32>(cursor, 0, CURSOR_LAYER);
    store<i32>(cursor, load<i32>(cursor, CURSOR_GROUP) + 1, CURSOR_GROUP);
  }
  return cost;
}

/** The logits of tokens [from, to) to what they are needed for, dealt out by the row. Draws share scratch: they are thread 0's. */
function useRows(
  model: usize, job: usize, thread: i32, cursor: usize, tokens: usize, from: i32, to: i32, logits: usize, normed: usize,
): void {
  const threads = load<i32>(job, JOB_KIND) == KIND_SAMPLE ? 1 : load<i32>(job, JOB_THREADS);
  if (thread >= threads) return;
  const stride = load<usize>(model, MODEL_HIDDEN_STRIDE);
  const logitsStride = load<usize>(model, MODEL_LOGITS_STRIDE);
  let row = 0;
  for (let index = from; index < to; index++) {
    const token = tokens + <usize>index * TOKEN_BYTES;
    if (!load<usize>(token, TOKEN_OUT)) continue;
    const mine = row % threads == thread;
    const at = row++;
    if (!mine) continue;
    if (use(model, job, token, logits + <usize>at * logitsStride, normed + <usize>at * stride)) continue;
    const place = load<usize>(token, TOKEN_ROW) - load<usize>(job, JOB_ROWS_AT);
    store<i32>(cursor, <i32>(place / ROW_BYTES), CURSOR_FAILED);
    return;
  }
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
