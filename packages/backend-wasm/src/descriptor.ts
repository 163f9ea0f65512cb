// The records both languages read: byte offsets of their fields. AssemblyScript imports this very file, so it holds numbers only.
//
// TypeScript writes the records (layout.ts, job.ts), the kernels read them; addresses in them are absolute. Fields are 32 bits
// wide unless said otherwise.

/** Bytes at the start of the memory that belong to the module's own constants. */
export const STATIC_BYTES = 65536;

/** Outputs that a panel of weights computes together. */
export const PANEL = 16;
/** Key slots that a page holds: also what one softmax is taken over, before pages are added up. */
export const PAGE_SLOTS = 64;
/** Evicted keys stay readable for this many more tokens. */
export const JOURNAL = 64;
/** Position of a free slot, and what evicted a key that is kept: greater, unsigned, than any position. */
export const NOBODY = -1;
/** Query heads, of several tokens, that read a page of keys together. */
export const ATTENTION_ROWS = 12;
/** Tokens that matmul likes to take together: a multiple of the 6 and the 4 rows of its tiles. */
export const TILE_UNIT = 12;
/** Most tokens that go through half a layer together: weights are read from memory once for all of them. */
export const MOST_TILE = 120;
/** Rows of logits held at a time. */
export const HEAD_ROWS = 8;
/** Most alternatives beside a drawn id. */
export const ALTERNATIVES = 20;
/** Weights of one row that share a scale under q8 and q4. */
export const BLOCK = 32;

/** How weights are held. */
export const DTYPE_F32 = 0;
export const DTYPE_BF16 = 1;
export const DTYPE_Q8 = 2;
export const DTYPE_Q4 = 3;

// A matrix in panels of 16 outputs: y = weight · x + bias.
/** Panels, as the file of their dtype draws them: assembly/kernels/matmul-DTYPE.ts. */
export const MATRIX_WEIGHTS = 0;
export const MATRIX_DTYPE = 4;
/** f32 (panels, 16), or 0 for none. */
export const MATRIX_BIAS = 8;
export const MATRIX_INNER = 12;
export const MATRIX_PANELS = 16;
/** 1: tiles for an engine that joins neighbouring vectors to 256 bits. The results are the same. */
export const MATRIX_WIDE = 20;
/** 1: dots of four bytes in one instruction, for a processor that has it. The results are the same. */
export const MATRIX_FUSED = 24;
export const MATRIX_BYTES = 32;

// A layer.
export const LAYER_QKV = 0; //           matrix: query, key and value heads, one after the other
export const LAYER_OUTPUT = 32; //       matrix
export const LAYER_DELTA = 64; //        matrix: dt_proj, always f32
export const LAYER_GATE_UP = 96; //      matrix: gate, then up
export const LAYER_DOWN = 128; //        matrix
export const LAYER_ROUTER = 160; //      matrix, always f32
export const LAYER_INPUT_NORM = 192; //  f32 (hidden)
export const LAYER_INPUT_GATE = 196; //  f32 (hidden)
export const LAYER_POST_NORM = 200; //   f32 (hidden)
export const LAYER_POST_GATE = 204; //   f32 (hidden)
export const LAYER_QUERY_NORM = 208; //  f32 (headDim), or 0
export const LAYER_KEY_NORM = 212; //    f32 (headDim), or 0
export const LAYER_A = 216; //           f32 (biasHeads)
export const LAYER_EXPERTS_DOWN = 220; // table (assembly/kernels/table.ts), or 0
export const LAYER_EXPERTS_UP = 224;
export const LAYER_BYTES = 256;

// The model: a record for each thread, which differ in the scratch that is a thread's own. Strides are in bytes.
export const MODEL_LAYERS = 0;
export const MODEL_LAYERS_AT = 4;
export const MODEL_HIDDEN = 8;
export const MODEL_HIDDEN_STRIDE = 12;
export const MODEL_INTERMEDIATE = 16;
export const MODEL_VOCABULARY = 20;
export const MODEL_LOGITS_STRIDE = 24;
export const MODEL_HEADS = 28;
export const MODEL_KV_HEADS = 32;
export const MODEL_HEAD_DIM = 36;
export const MODEL_BIAS_HEADS = 40;
export const MODEL_WINDOW = 44; //       0: no key is ever dropped
export const MODEL_EPSILON = 48; //      f32
export const MODEL_EXPERTS = 52; //      0: dense
export const MODEL_PER_TOKEN = 56;
export const MODEL_SIDE = 60;
export const MODEL_NORMALIZE = 64;
export const MODEL_GRID = 68; //         expert ids are positions in the sorted grid
export const MODEL_ROPE = 72; //         f32 (context, 2, headDim / 2): cosines, then sines of a position
export const MODEL_EMBEDDING = 76; //    matrix
export const MODEL_HEAD = 108; //        matrix; the same numbers as the embedding when tied
export const MODEL_NORM = 140; //        f32 (hidden)
export const MODEL_TILE = 144; //        most tokens taken through half a layer at a time, at most JOURNAL
export const MODEL_HEAD_PANELS = 148; // panels of the head between two looks at the budget
// Costs in multiply-adds, f64.
export const MODEL_COST_ATTENTION = 152; // of a token through the matrices of an attention half layer
export const MODEL_COST_KEY = 160; //       of a token for each key it attends to
export const MODEL_COST_MLP = 168;
export const MODEL_COST_PANEL = 176; //     of a row of logits in a panel of the head
// Pages of keys: offsets inside one layer's part of a page, in bytes.
export const MODEL_PAGE_LAYER = 184; //  bytes of one layer in a page
export const MODEL_PAGE_VALUES = 188; // those of a head behind its keys (assembly/kernels/attention.ts)
export const MODEL_PAGE_BIASES = 192; // (biasHeads, 64)
export const MODEL_PAGE_POSITIONS = 196; // (kvHeads, 64) u32; with a window only
export const MODEL_PAGE_EVICTED = 200; //  (kvHeads, 64) u32
export const MODEL_PAGE_HEAD = 204; //   bytes of the keys and values of a key/value head in a page
// Scratch of one tile.
export const MODEL_QKV = 208; //         f32 (tile, heads + 2 · kvHeads, headDim)
export const MODEL_QKV_STRIDE = 212;
export const MODEL_DELTA = 216; //       f32 (tile, biasHeads); a thread's own
export const MODEL_DELTA_STRIDE = 220;
export const MODEL_MIXED = 224; //       f32 (tile, heads, headDim)
export const MODEL_MIXED_STRIDE = 228;
export const MODEL_GATE_UP = 232; //     f32 (tile, 2, intermediate)
export const MODEL_GATE_UP_STRIDE = 236;
export const MODEL_SCORES = 240; //      queries, results and scores of ATTENTION_ROWS heads; a thread's own
export const MODEL_QUANTIZED = 244; //   rounded inputs of a tile (assembly/kernels/inputs.ts)
export const MODEL_NORMED = 248; //      f32 (HEAD_ROWS, hidden): final norm
export const MODEL_LOGITS = 252; //      f32 (HEAD_ROWS, vocabulary)
export const MODEL_CHOICE = 256; //      scratch of the experts' choice; a thread's own
export const MODEL_HISTOGRAM = 260; //   2048 counts (i32), then 2048 masses (f64)
export const MODEL_DRAW = 264; //        candidates of a draw: ids i32 (vocabulary), then scores f32 (vocabulary)
export const MODEL_QUANTIZED_OWN = 268; // as MODEL_QUANTIZED, of FEW rows; a thread's own
export const MODEL_EXPERTS_DTYPE = 272;
export const MODEL_PAGE_HEAP = 280; //   (kvHeads, 64) u32 each, with a window only: assembly/kernels/window.ts
export const MODEL_PAGE_RING = 284;
export const MODEL_PAGE_MARK = 288;
export const MODEL_PARTS = 292; //       f32 (pages, heads, state): what threads read of one token's pages
export const MODEL_CACHE = 276; //      how keys and values are held: a dtype, DTYPE_Q8 in the relaxed build only
export const MODEL_BYTES = 320;

// What is computed in one call: a job. It holds its own progress, so that a call may be cut anywhere and go on later.
export const JOB_MODEL = 0;
export const JOB_KIND = 4;
export const JOB_ROWS = 8;
export const JOB_ROWS_AT = 12;
export const JOB_TOKENS_AT = 16;
export const JOB_GROUPS = 20;
export const JOB_GROUPS_AT = 24;
export const JOB_STREAM = 28; //         f32 (largest group, hidden): the residual stream
export const JOB_UPDATE = 32; //         f32 (largest group, hidden): what the last sublayer adds to it
export const JOB_NORMED = 36; //         f32 (largest group, hidden)
export const JOB_ROUTER = 40; //         f32 (largest group, 2 · side)
export const JOB_ROUTER_STRIDE = 44;
// What inspect looks at, or 0.
export const JOB_HIDDEN_OUT = 48; //     f32 (tokens, hidden)
export const JOB_LOGITS_OUT = 52; //     f32 (tokens, vocabulary)
export const JOB_BIAS_OUT = 56; //       f32 (layers, tokens, biasHeads)
export const JOB_VALUE_OUT = 60; //      f32 (layers, tokens, kvHeads · headDim)
export const JOB_TOKENS = 64;
// The threads that work on it.
export const JOB_THREADS = 68;
export const JOB_CURSORS_AT = 72; //     a cursor for each thread
export const JOB_OWN = 76; //            of thread 0, JOB_OWN_BYTES before that of the next: f32 (FEW, hidden) stream, then normed
export const JOB_OWN_BYTES = 80;
export const JOB_SPINS = 84; //          most looks at a barrier before a thread sleeps
export const JOB_DEALT_AT = 88; //       for each thread, a cache line apart: the parts of its share that somebody has taken
// The barrier: its two hot words on cache lines of their own.
export const JOB_ARRIVED = 128;
export const JOB_GENERATION = 192;
export const JOB_SLEEPING = 196;
export const JOB_PATIENCE = 200; //      looks now: fewer than JOB_SPINS after waits that were longer
export const JOB_BYTES = 256;

/** Rows up to which every thread computes the norms and rounds the inputs of all of them for itself: that costs less than a
 *  barrier, behind which others would read them. */
export const FEW = 4;

// Where a thread stands in a job. Every thread takes the same steps.
export const CURSOR_GROUP = 0;
export const CURSOR_GROUPS = 4;
export const CURSOR_LAYER = 8; //        the number of layers: the head
export const CURSOR_HALF = 12; //        0 attention, 1 feed-forward
export const CURSOR_FROM = 16; //        next token of the group
export const CURSOR_PANEL = 20; //       next panel of the head
export const CURSOR_FAILED = 24; //      the row in which this thread has found logits that are no numbers; -1: none
export const CURSOR_BYTES = 64; //       a cache line

/** Bytes of a count of parts taken. */
export const DEALT_BYTES = 64;

export const KIND_FORWARD = 0;
export const KIND_SCORE = 1;
export const KIND_SAMPLE = 2;
export const KIND_INSPECT = 3;

// What run() returns.
export const STATUS_DONE = 0;
export const STATUS_MORE = 1;
export const STATUS_NUMERICAL = 2;

// A token to evaluate.
export const TOKEN_ID = 0;
export const TOKEN_POSITION = 4;
export const TOKEN_ROW = 8; //           address of its row
/** 0: its logits are not needed. Else: where they go (forward), where ln p of the next token goes (score), anything (sample, inspect). */
export const TOKEN_OUT = 12;
export const TOKEN_BYTES = 16;

// Tokens that go through a layer together: at most a tile of any rows, or one span of one row whose experts are routed over
// all of it.
export const GROUP_FROM = 0;
export const GROUP_COUNT = 4;
export const GROUP_SPAN = 8; //          1: route over the group ("reference"), 0: each token by itself
export const GROUP_BYTES = 16;

// A row: a sequence and what is asked of it.
export const ROW_PAGES = 0; //           address of the addresses of its pages
export const ROW_LEFT = 4; //            tokens still to draw; -1 when none could be drawn
export const ROW_POSITION = 8; //        position of the next token drawn
export const ROW_LAST = 12; //           id drawn last
export const ROW_DRAWN = 16; //          ids drawn
export const ROW_STOPPED = 20; //        1: the last one is a stop id
export const ROW_IDS_OUT = 24; //        i32 (count)
export const ROW_LOGPROBS_OUT = 28; //   f32 (count), or 0
export const ROW_TOP_IDS_OUT = 32; //    i32 (count, alternatives)
export const ROW_TOP_LOGPROBS_OUT = 36; // f32 (count, alternatives)
export const ROW_ALTERNATIVES = 40;
export const ROW_ALLOWED = 44; //        bits (vocabulary), or 0
export const ROW_SEEN = 48; //           bits (vocabulary), or 0: no penalty
export const ROW_STOPS = 52; //          number of stop ids
export const ROW_STOPS_AT = 56;
export const ROW_TOP_K = 60;
export const ROW_SEED = 64;
export const ROW_REACH = 68; //         slots that earlier tokens may stand in
export const ROW_TEMPERATURE = 72; //    f64, as the next three
export const ROW_TOP_P = 80;
export const ROW_MIN_P = 88;
export const ROW_PENALTY = 96;
export const ROW_BYTES = 112;
