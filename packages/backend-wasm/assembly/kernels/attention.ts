// attention: what queries read from the keys they see: scores, softmax and the weighted sum of values.
//
// cache.ts has how keys and values stand, keep.ts puts them there, softmax.ts weighs them.
//
// Source: Shi et al., Trainable Dynamic Mask Sparse Attention; transformers `DogeAttention` (eager).
import {
  ATTENTION_ROWS, BLOCK, DTYPE_BF16, DTYPE_Q8, MATRIX_FUSED, MATRIX_WIDE, MODEL_CACHE, MODEL_HEAD, MODEL_HEAD_DIM, MODEL_HEADS, MODEL_KV_HEADS,
  MODEL_PAGE_HEAD, MODEL_PAGE_LAYER, MODEL_PAGE_VALUES, MODEL_PARTS, MODEL_SCORES, PAGE_SLOTS, PANEL,
} from "../../src/descriptor";
import { panelValuesQ8, roundWeights } from "./attention-q8";
import { offset } from "./bytes";
import { isMasked, layerOf, PAGE_ROW, pagesOf, PANEL_BYTES, slotsSeen } from "./cache";
import { valuePanelQ8 } from "./cache-q8";
import { inputStride, rowQ8 } from "./inputs";
import { panelBytes } from "./matmul";
import { panelBf16 } from "./matmul-bf16";
import { panelF32 } from "./matmul-f32";
import { panelQ8 } from "./matmul-q8";
import { clear, finish, merge, padded, STATE_TAIL, weigh } from "./softmax";

/**
 * What `count` tokens of one sequence, one after the other, read from the keys they see, for the query heads of key/value heads
 * [from, to) of one layer. All their keys have been kept.
 *
 *   score[h, j] = query[h] · key[j, g] / sqrt(headDim) + bias[j, c]
 *   out[h]      = Σ_j softmax_j(score[h, j]) · value[j, g]
 *
 * with g the key/value head and c the bias head of query head h. The query heads that share a key/value head, of several tokens,
 * are rows of one matrix: a page of keys, and of values, is read once for all of them, by the tiles of matmul. What a row gives
 * does not depend on the rows beside it: slots that it does not see weigh exactly 0.
 *
 * The softmax is taken page by page: each page gives a highest score, a sum of weights and a sum of values, and these are added
 * up in the order of the pages. So it is the same whoever computes a page: see attendPages() and gather().
 *
 * @param out f32 (count, heads, headDim), tokens `outStride` bytes apart
 * @param query f32 (count, heads, headDim), rotated, tokens `queryStride` bytes apart
 * @param position of the first token
 */
export function attention(
  out: usize, outStride: usize, query: usize, queryStride: usize, model: usize, layer: i32, pages: usize, reach: i32,
  position: i32, count: i32, from: i32, to: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const headBytes = <usize>headDim << 2;
  const group = load<i32>(model, MODEL_HEADS) / load<i32>(model, MODEL_KV_HEADS);
  const most = max(1, ATTENTION_ROWS / group);
  const width = padded(headDim);
  const own = load<usize>(model, MODEL_SCORES);
  for (let first = 0; first < count; first += most) {
    const tokens = min(most, count - first);
    const last = position + first + tokens - 1;
    const slots = slotsSeen(model, reach, last);
    const used = pagesOf(slots);
    const rows = tokens * group;
    const state = own + <usize>rows * width;
    const part = state + <usize>rows * (width + STATE_TAIL);
    const scores = part + <usize>rows * (width + STATE_TAIL);
    for (let head = from; head < to; head++) {
      const at = <usize>head * group * headBytes;
      const source = query + <usize>first * queryStride + at;
      for (let row = 0; row < rows; row++) {
        takeQuery(own, row, source + <usize>(row / group) * queryStride + <usize>(row % group) * headBytes, model);
      }
      for (let page = 0; page < used; page++) {
        if (tokens == 1 && page + 1 < used) askFor(model, layer, pages, page + 1, head);
        const to = page ? part : state;
        readPage(to, own, scores, model, layer, pages, page, slots, position + first, last, rows, head, group);
        if (page) merge(state, part, rows, width);
      }
      const target = out + <usize>first * outStride + at;
      for (let row = 0; row < rows; row++) {
        finish(target + <usize>(row / group) * outStride + <usize>(row % group) * headBytes, state + <usize>row * (width + STATE_TAIL), headDim);
      }
    }
  }
}

/** What one token reads from pages [from, to) of those it sees, for all query heads: to MODEL_PARTS, f32 (pages, heads, state).
 *  Threads share the pages of a token so; gather() then adds them up. */
export function attendPages(
  query: usize, model: usize, layer: i32, pages: usize, reach: i32, position: i32, thread: i32, threads: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const kvHeads = load<i32>(model, MODEL_KV_HEADS);
  const heads = load<i32>(model, MODEL_HEADS);
  const group = heads / kvHeads;
  const width = padded(headDim);
  const own = load<usize>(model, MODEL_SCORES);
  const scores = own + <usize>group * (width + 2 * (width + STATE_TAIL));
  const slots = slotsSeen(model, reach, position);
  const used = pagesOf(slots);
  const from = used * thread / threads;
  const to = used * (thread + 1) / threads;
  for (let head = 0; head < kvHeads; head++) {
    for (let row = 0; row < group; row++) takeQuery(own, row, query + ((<usize>(head * group + row) * headDim) << 2), model);
    for (let page = from; page < to; page++) {
      if (page + 1 < to) askFor(model, layer, pages, page + 1, head);
      const part = load<usize>(model, MODEL_PARTS) + <usize>(page * heads + head * group) * (width + STATE_TAIL);
      readPage(part, own, scores, model, layer, pages, page, slots, position, position, group, head, group);
    }
  }
}

/** The parts of attendPages() in the order of their pages, for query heads [from, to): out f32 (heads, headDim). */
export function gather(out: usize, model: usize, reach: i32, position: i32, from: i32, to: i32): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const heads = load<i32>(model, MODEL_HEADS);
  const width = padded(headDim);
  const state = load<usize>(model, MODEL_SCORES);
  const used = pagesOf(slotsSeen(model, reach, position));
  for (let head = from; head < to; head++) {
    for (let page = 0; page < used; page++) {
      const part = load<usize>(model, MODEL_PARTS) + <usize>(page * heads + head) * (width + STATE_TAIL);
      if (page) merge(state, part, 1, width);
      else memory.copy(state, part, width + STATE_TAIL);
    }
    finish(out + ((<usize>head * headDim) << 2), state, headDim);
  }
}

/** Where the keys of a head, and then its values, stand in a page. */
// @ts-ignore: decorator
@inline
function pieceOf(model: usize, layer: i32, pages: usize, page: i32, head: i32): usize {
  const at = layerOf(pages, page * PAGE_SLOTS, <usize>layer * load<usize>(model, MODEL_PAGE_LAYER));
  return at + <usize>head * load<usize>(model, MODEL_PAGE_HEAD);
}

/** Begins to read the keys and values of a head in a page that comes next, by a load from each line whose result nobody waits for. One token
 *  multiplies too little for each byte to hide how slow memory is to begin with a piece, and pieces of bytes are short; wider ones
 *  lose by it. */
function askFor(model: usize, layer: i32, pages: usize, page: i32, head: i32): void {
  if (load<i32>(model, MODEL_CACHE) != DTYPE_Q8) return;
  let at = pieceOf(model, layer, pages, page, head);
  for (const end = at + load<usize>(model, MODEL_PAGE_HEAD); at < end; at += 64) load<i32>(at);
}

/** Bytes from one query to the next, as readPage() takes them. */
// @ts-ignore: decorator
@inline
function queryBytes(model: usize): usize {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  return load<i32>(model, MODEL_CACHE) == DTYPE_Q8 ? inputStride(DTYPE_Q8, headDim) : padded(headDim);
}

/** A query f32 (headDim) to its row of what readPage() takes. */
function takeQuery(own: usize, row: i32, query: usize, model: usize): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const to = own + <usize>row * queryBytes(model);
  if (ASC_FEATURE_RELAXED_SIMD && load<i32>(model, MODEL_CACHE) == DTYPE_Q8) {
    rowQ8(to, query, headDim, offset(load<i32>(model, MODEL_HEAD + MATRIX_FUSED) != 0));
  } else {
    memory.copy(to, query, <usize>headDim << 2);
  }
}

/** What rows (query heads of one key/value head, `group` to a token) read from one page: `part`, a state for each.
 *
 * @param queries as takeQuery() leaves them
 * @param slots that any of them sees
 * @param position of the first token; `last`: of the last
 */
function readPage(
  part: usize, queries: usize, scores: usize, model: usize, layer: i32, pages: usize, page: i32, slots: i32, position: i32,
  last: i32, rows: i32, head: i32, group: i32,
): void {
  const headDim = load<i32>(model, MODEL_HEAD_DIM);
  const width = padded(headDim);
  const stride = width + STATE_TAIL;
  const dtype = load<i32>(model, MODEL_CACHE);
  const wide = load<i32>(model, MODEL_HEAD + MATRIX_WIDE) != 0;
  const fused = load<i32>(model, MODEL_HEAD + MATRIX_FUSED) != 0;
  const keyBytes = panelBytes(dtype, headDim);
  const queryStride = queryBytes(model);
  const first = page * PAGE_SLOTS;
  const panels = (min(PAGE_SLOTS, slots - first) + PANEL - 1) / PANEL;
  const at = layerOf(pages, first, <usize>layer * load<usize>(model, MODEL_PAGE_LAYER));
  let keys = pieceOf(model, layer, pages, page, head);
  const values = keys + load<usize>(model, MODEL_PAGE_VALUES);
  clear(part, rows, width);
  if (dtype != DTYPE_Q8) memory.fill(scores, 0, <usize>rows * PAGE_ROW);
  for (let panel = 0; panel < panels; panel++) {
    const to = scores + <usize>panel * PANEL_BYTES;
    if (ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8) {
      panelQ8(to, PAGE_ROW, queries, queryStride, keys, (headDim + BLOCK - 1) / BLOCK, rows, fused, 0);
    } else if (dtype == DTYPE_BF16) {
      panelBf16(to, PAGE_ROW, queries, queryStride, keys, PANEL_BYTES, headDim, rows, wide);
    } else {
      panelF32(to, PAGE_ROW, queries, queryStride, keys, PANEL_BYTES, headDim, rows, wide);
    }
    keys += keyBytes;
  }
  weigh(part + width, stride, scores, panels, model, at, first, head, group, position, rows, isMasked(model, last));
  if (ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8) roundWeights(scores, values, panels, rows);
  for (let column = 0; column < headDim; column += PANEL) {
    const out = part + (<usize>column << 2);
    if (ASC_FEATURE_RELAXED_SIMD && dtype == DTYPE_Q8) {
      panelValuesQ8(out, stride, scores, valuePanelQ8(values, column), panels, rows, wide, fused);
    } else if (dtype == DTYPE_BF16) {
      panelBf16(out, stride, scores, PAGE_ROW, values + <usize>column * PAGE_SLOTS * 2, PANEL_BYTES, panels * PANEL, rows, wide);
    } else {
      panelF32(out, stride, scores, PAGE_ROW, values + <usize>column * PAGE_SLOTS * 4, PANEL_BYTES, panels * PANEL, rows, wide);
    }
  }
}
