/** Colors of classes: far apart from one another, so that saved label maps are read back without doubt. */

/** Distance in RGB that a new class's color keeps from all others, as long as there is room. */
export const FAR_APART = 80;

const LEVELS = [40, 102, 166, 230];

/**
 * @param {string} color  #RRGGBB
 * @returns {[number, number, number]}
 */
export function rgb(color) {
  const value = Number.parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

/**
 * @param {readonly number[]} color
 * @returns {string}
 */
export function hex(color) {
  return `#${color.map((level) => level.toString(16).padStart(2, "0")).join("").toUpperCase()}`;
}

/**
 * @param {readonly number[]} first
 * @param {readonly number[]} second
 */
export function distance(first, second) {
  return Math.hypot(first[0] - second[0], first[1] - second[1], first[2] - second[2]);
}

/** How far a color is from grey: vivid ones are told apart at a glance. @param {readonly number[]} color */
function vividness(color) {
  return Math.max(...color) - Math.min(...color);
}

/**
 * A color for a new class: of a grid of colors, the vivid one that is farthest from those taken.
 * @param {readonly string[]} taken  #RRGGBB
 * @returns {string}
 */
export function nextColor(taken) {
  const others = taken.map(rgb);
  let best = [230, 102, 40];
  let most = -1;
  for (const red of LEVELS) {
    for (const green of LEVELS) {
      for (const blue of LEVELS) {
        const color = [red, green, blue];
        const nearest = Math.min(160, ...others.map((other) => distance(color, other)));
        const worth = nearest + (nearest >= FAR_APART ? vividness(color) / 4 : 0);
        if (worth > most) [best, most] = [color, worth];
      }
    }
  }
  return hex(best);
}

/**
 * Whether text on a color should be dark.
 * @param {string} color
 */
export function isLight(color) {
  const [red, green, blue] = rgb(color);
  return 0.299 * red + 0.587 * green + 0.114 * blue > 150;
}
