// The likely ids of a draw: a short sorted list in workgroup memory, which holds all that a filter keeps and is found in one pass.
//
// Every lane has a greatest key of its own, from the pass that finds the best. The topK-th greatest of these is a floor: topK ids stand
// at or above it, so none below it is kept, and few others stand above it. Sums run along the list from the most likely on, so that
// no result depends on which lane was first.

/** Ids that the list has room for. */
const LIKELY = 512;

/** fn floorOfLikely and its list, for teams of so many lanes. `each` makes a loop over the ids of a lane. */
export const likely = (size: number, each: (body: string) => string): string => /* wgsl */ `
const LIKELY: u32 = ${LIKELY}u;
/** Lanes whose greatest make the floor without top-k, of which nothing follows for the mass: some 350 ids stand above it. */
const ENOUGH: u32 = ${(size * 3) / 4}u;
var<workgroup> greatests: array<u32, TEAM>;
var<workgroup> collected: atomic<u32>;
var<workgroup> agreed: u32;
// Keys are the ordered bits of scores; the greatest first, the lower id first among equals.
var<workgroup> likelyKeys: array<u32, LIKELY>;
var<workgroup> likelyIds: array<u32, LIKELY>;
var<workgroup> likelyWeights: array<f32, LIKELY>;
/** How many there are. */
var<private> likely: u32 = 0u;
/** The first lane's value, which all lanes then know to be the same. */
fn agree(value: u32, lane: u32) -> u32 {
  if (lane == 0u) { agreed = value; }
  return workgroupUniformLoad(&agreed);
}
/** The score of ordered bits. */
fn scoreAt(key: u32) -> f32 { return bitcast<f32>(select(~key, key & 0x7fffffffu, key >= 0x80000000u)); }
/** The wanted-th greatest of the lanes' own greatest keys; 0 where fewer lanes have one. */
fn floorOfLanes(wanted: u32, greatest: u32, lane: u32) -> u32 {
  greatests[lane] = greatest;
  if (lane == 0u) { agreed = 0u; }
  workgroupBarrier();
  var rank = 1u;
  for (var other = 0u; other < TEAM; other++) {
    let its = greatests[other];
    rank += select(0u, 1u, its > greatest || (its == greatest && other < lane));
  }
  if (rank == wanted) { agreed = greatest; }
  return workgroupUniformLoad(&agreed);
}
/** Lists the ids at or above the floor in the order in which lanes find them. How many: more than LIKELY are not listed. */
fn collect(floor: u32, lane: u32) -> u32 {
  ${each(`let score = scoreOf(id, logit);
    let key = ordered(score);
    if (!isCandidate(score) || key < floor) { continue; }
    let place = atomicAdd(&collected, 1u);
    if (place >= LIKELY) { continue; }
    likelyKeys[place] = key;
    likelyIds[place] = id;`)}
  workgroupBarrier();
  return agree(atomicLoad(&collected), lane);
}
/** Sorts the list: the place of each is the number of those before it. */
fn sort(lane: u32) {
  var keys = array<u32, ${LIKELY / size}>();
  var ids = array<u32, ${LIKELY / size}>();
  var places = array<u32, ${LIKELY / size}>();
  for (var turn = 0u; turn < ${LIKELY / size}u; turn++) {
    let own = lane + turn * TEAM;
    if (own >= likely) { continue; }
    let key = likelyKeys[own];
    let id = likelyIds[own];
    var place = 0u;
    for (var other = 0u; other < likely; other++) {
      let its = likelyKeys[other];
      place += select(0u, 1u, its > key || (its == key && likelyIds[other] < id));
    }
    keys[turn] = key;
    ids[turn] = id;
    places[turn] = place;
  }
  workgroupBarrier();
  for (var turn = 0u; turn < ${LIKELY / size}u; turn++) {
    if (lane + turn * TEAM >= likely) { continue; }
    likelyKeys[places[turn]] = keys[turn];
    likelyIds[places[turn]] = ids[turn];
  }
  workgroupBarrier();
}
/** The key at which the weights, from the most likely on, reach a share of those at or above the floor, or of the total where it is
 *  given; 0 where the list does not reach it. Equals of that key are kept with it. */
fn shareOf(share: f32, floor: u32, given: f32) -> u32 {
  var total = given;
  if (total == 0.0) {
    for (var i = 0u; i < likely && likelyKeys[i] >= floor; i++) { total += likelyWeights[i]; }
  }
  let target_ = share * total;
  var sum = 0.0;
  for (var i = 0u; i < likely && likelyKeys[i] >= floor; i++) {
    sum += likelyWeights[i];
    if (sum >= target_) { return likelyKeys[i]; }
  }
  return 0u;
}
/** The least key that top-k (0: all) and top-p leave, all of whose ids are in the list then; 0 where the list does not do. */
fn floorOfLikely(topK: u32, topP: f32, candidates: u32, greatest: u32, best: f32, lane: u32) -> u32 {
  let least = floorOfLanes(select(topK, ENOUGH, topK == 0u), greatest, lane);
  if (least == 0u && candidates > LIKELY) { return 0u; }
  let count = collect(least, lane);
  if (count > LIKELY) { return 0u; }
  likely = count;
  sort(lane);
  var floor = 0u;
  if (topK > 0u) { floor = likelyKeys[topK - 1u]; }
  if (topP < 1.0) {
    for (var i = lane; i < likely; i += TEAM) { likelyWeights[i] = relative(scoreAt(likelyKeys[i]), best); }
    workgroupBarrier();
    var total = 0.0;
    if (topK == 0u) {
      ${each(`let score = scoreOf(id, logit);
      if (isCandidate(score)) { total += relative(score, best); }`)}
      total = sumOf(total, lane);
    }
    floor = shareOf(topP, floor, total);
  }
  return agree(floor, lane);
}
`;
