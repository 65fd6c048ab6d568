// Random operations of every tool: never a pixel without a class, locked classes untouched, undo the exact inverse.
// Run by test_page.py: node --test FILE

import assert from "node:assert/strict";
import { test } from "node:test";

import { FAR_APART, distance, nextColor, rgb } from "../../../studio/page/core/colors.js";
import { packFrame, unpackFrame } from "../../../studio/page/core/frames.js";
import { MAX_STEPS, packRuns, unpackRuns } from "../../../studio/page/core/history.js";
import { NO_MARK, Painting } from "../../../studio/page/core/painting.js";
import {
  borderLines, connectedArea, fillFromSurroundings, paintLine, polygonArea,
} from "../../../studio/page/core/raster.js";
import { cutOut, homePlacement, place } from "../../../studio/page/core/region.js";
import { Superpixels } from "../../../studio/page/core/superpixels.js";

const OPERATIONS = 1000;
const SIZE = { width: 61, height: 43 };
const PIXELS = SIZE.width * SIZE.height;

/** A generator of numbers in [0, 1) that a seed decides (mulberry32's recurrence). */
function randomFrom(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}

function newPainting(random) {
  const ids = Uint8Array.from({ length: PIXELS }, (_, index) => Math.floor((index % SIZE.width) / 20) % 4);
  const classes = ["a", "b", "c", "d"].map((name, place) => ({ name, color: `#0000${place}0` }));
  const painting = new Painting(SIZE, ids, classes, new Uint8Array(PIXELS).fill(NO_MARK));
  const numbers = Uint16Array.from({ length: PIXELS }, (_, index) => (index % 7) + 7 * Math.floor(index / 400));
  const point = () => ({ x: random() * 80 - 10, y: random() * 60 - 10 });
  const value = () => Math.floor(random() * 4);
  const loop = () => Array.from({ length: 3 + Math.floor(random() * 6) }, point);
  const regions = new Superpixels(SIZE, numbers);
  const tools = [
    () => { painting.beginStroke(point(), 1 + random() * 20, value()); painting.strokeTo(point(), 9, value()); painting.endStroke(); },
    () => { painting.beginMark(point(), 5, value()); painting.markTo(point(), 5, value()); painting.endStroke(); },
    () => { painting.beginErasing(point(), 1 + random() * 30); painting.eraseTo(point(), 8); painting.endStroke(); },
    () => { painting.beginStroke(point(), 12, value()); painting.cancelStroke(); },
    () => { painting.beginRegions(regions, point(), value()); painting.regionsTo(regions, point(), value()); painting.endStroke(); },
    () => painting.floodFill(point(), value()),
    () => painting.fillArea(polygonArea(loop(), SIZE), value()),
    () => painting.selectConnected(point()),
    () => painting.selectArea(polygonArea(loop(), SIZE)),
    () => painting.deselect(),
    () => painting.move({ x: random() * 70, y: random() * 50 }),
    () => painting.move({ x: random() * 70 }, "nudge"),
    () => painting.move({ scaleX: random() * 4 - 2, scaleY: random() * 4 - 2 }),
    () => painting.move({ angle: random() * 720 - 360 }),
    () => painting.flip(random() < 0.5 ? "across" : "down"),
    () => painting.duplicate(),
    () => painting.removeSelection(),
    () => painting.fillSelection(value()),
    () => painting.clearMarks(),
    () => painting.replaceAll(Uint8Array.from({ length: PIXELS }, value)),
  ];
  return { painting, tools };
}

const snapshot = (painting) => [Uint8Array.from(painting.ids), Uint8Array.from(painting.marks), painting.state];

function assertSame(painting, [ids, marks, state]) {
  assert.deepEqual(painting.ids, ids);
  assert.deepEqual(painting.marks, marks);
  assert.equal(painting.state, state);
}

for (const seed of [1, 2, 3]) {
  test(`${OPERATIONS} random operations, seed ${seed}`, () => {
    const random = randomFrom(seed);
    const { painting, tools } = newPainting(random);
    const steps = [snapshot(painting)]; // what undo must lead back to
    for (let count = 0; count < OPERATIONS; count += 1) {
      painting.locked.fill(0);
      if (random() < 0.2) painting.locked[Math.floor(random() * 4)] = 1;
      const before = snapshot(painting);
      const made = painting.history.done.length;
      const last = painting.history.done.at(-1);
      tools[Math.floor(random() * tools.length)]();
      assert.ok(painting.ids.every((id) => id < 4), "every pixel has a class");
      assert.ok(painting.marks.every((mark) => mark < 4 || mark === NO_MARK));
      assert.equal(painting.busy, false);
      if (!painting.selection?.base) {
        // A region that is being moved uncovers what it was put on before; everything else leaves locked classes alone.
        before[0].forEach((id, index) => {
          if (painting.locked[id] && !before[2].selection?.base) assert.equal(painting.ids[index], id);
        });
      }
      const now = painting.history.done;
      if (now.at(-1) !== last) {
        const merged = now.length === made && last.key === "nudge" && now.at(-1).before === last.before;
        if (merged) steps.pop();
        steps.push(snapshot(painting));
        if (steps.length > MAX_STEPS + 1) steps.shift();
      } else {
        assertSame(painting, before);
      }
      if (random() < 0.03) {
        const back = Math.min(steps.length - 1, 1 + Math.floor(random() * 30));
        for (let step = 1; step <= back; step += 1) {
          assert.ok(painting.undo());
          assertSame(painting, steps.at(-1 - step));
        }
        for (let step = back - 1; step >= 0; step -= 1) {
          assert.ok(painting.redo());
          assertSame(painting, steps.at(-1 - step));
        }
        assert.equal(painting.redo(), false);
      }
    }
    assert.equal(painting.history.done.length, MAX_STEPS);
    while (painting.undo());
    assertSame(painting, steps[0]);
  });
}

test("an arrow key held down is one step", () => {
  const { painting } = newPainting(randomFrom(1));
  painting.selectConnected({ x: 5, y: 5 });
  const before = snapshot(painting);
  for (let count = 1; count < 20; count += 1) painting.move({ x: 10 + count }, "nudge");
  assert.equal(painting.history.done.length, 2);
  painting.undo();
  assertSame(painting, before);
});

test("a region is moved without loss, and its hole is closed", () => {
  const size = { width: 9, height: 5 };
  const ids = new Uint8Array(45);
  ids.fill(1, 27);
  for (const index of [11, 12, 20, 21]) ids[index] = 2;
  const painting = new Painting(size, ids, [], null);
  painting.selectConnected({ x: 2.5, y: 1.5 });
  painting.move({ x: painting.selection.placement.x + 4 });
  painting.move({ scaleX: 0.1, scaleY: 0.1 });
  painting.move({ scaleX: 1, scaleY: 1 });
  const expected = new Uint8Array(45);
  expected.fill(1, 27);
  for (const index of [15, 16, 24, 25]) expected[index] = 2;
  assert.deepEqual(painting.ids, expected);
  painting.flip("across");
  assert.deepEqual(painting.ids, expected, "a rectangle is its own mirror image");
  painting.removeSelection();
  assert.equal(painting.ids.indexOf(2), -1);
});

test("a class that is removed leaves no hole", () => {
  const { painting } = newPainting(randomFrom(1));
  painting.removeClass(1);
  assert.equal(painting.ids.indexOf(1), -1);
  assert.ok(painting.classes[1].removed);
  painting.undo();
  assert.ok(painting.ids.includes(1));
  assert.ok(!painting.classes[1].removed);
});

test("a brush of one pixel draws lines without gaps", () => {
  const plane = new Uint8Array(PIXELS);
  paintLine(plane, SIZE, { x: 3.5, y: 4.5 }, { x: 50.5, y: 30.5 }, 0.5, 1);
  for (let column = 3; column <= 50; column += 1) {
    assert.ok(Array.from({ length: SIZE.height }, (_, row) => plane[row * SIZE.width + column]).includes(1));
  }
});

test("quarter turns are exact", () => {
  const size = { width: 8, height: 8 };
  const plane = Uint8Array.from({ length: 64 }, (_, index) => index);
  const region = cutOut(plane, size, new Uint8Array(64).fill(1));
  const turned = place(plane, size, region, { ...homePlacement(region), angle: 90 }, new Uint8Array(256));
  plane.forEach((value, index) => {
    const [row, column] = [Math.floor(index / 8), index % 8];
    assert.equal(turned[column * 8 + (7 - row)], value);
  });
});

test("holes take the nearest class", () => {
  const size = { width: 7, height: 1 };
  const plane = Uint8Array.from([1, 9, 9, 9, 9, 9, 2]);
  fillFromSurroundings(plane, size, Uint8Array.from([0, 1, 1, 1, 1, 1, 0]));
  assert.deepEqual([plane[0], plane[1], plane[2], plane[4], plane[5], plane[6]], [1, 1, 1, 2, 2, 2]);
  const all = Uint8Array.from([3, 3]);
  fillFromSurroundings(all, { width: 2, height: 1 }, Uint8Array.from([1, 1]));
  assert.deepEqual(all, Uint8Array.from([3, 3]));
});

test("areas touch along sides, not corners", () => {
  const area = connectedArea(Uint8Array.from([1, 0, 1, 0, 1, 0, 1, 0, 1]), { width: 3, height: 3 }, 1, 1);
  assert.deepEqual(area, Uint8Array.from([0, 0, 0, 0, 1, 0, 0, 0, 0]));
  assert.equal(connectedArea(new Uint8Array(9), { width: 3, height: 3 }, 0, 0).indexOf(0), -1);
});

test("borders run along pixels' sides", () => {
  assert.deepEqual(borderLines(Uint8Array.from([1, 2]), { width: 2, height: 1 }), [1, 0, 1, 1]);
});

test("runs and frames come back as they were", () => {
  const random = randomFrom(5);
  const plane = Uint8Array.from({ length: PIXELS }, () => Math.floor(random() * 2) * 255);
  const box = { left: 3, top: 2, right: 40, bottom: 33 };
  const copy = new Uint8Array(PIXELS);
  unpackRuns(copy, SIZE, box, packRuns(plane, SIZE, box));
  for (let row = box.top; row < box.bottom; row += 1) {
    const [start, end] = [row * SIZE.width + box.left, row * SIZE.width + box.right];
    assert.deepEqual(copy.subarray(start, end), plane.subarray(start, end));
  }
  const { head, body } = unpackFrame(packFrame({ name: "ü" }, plane).buffer);
  assert.equal(head.name, "ü");
  assert.deepEqual(body, plane);
});

test("new classes have far-apart colors", () => {
  const colors = [];
  for (let count = 0; count < 12; count += 1) colors.push(nextColor(colors));
  colors.forEach((first, place) => {
    for (const second of colors.slice(place + 1)) assert.ok(distance(rgb(first), rgb(second)) >= FAR_APART);
  });
});
