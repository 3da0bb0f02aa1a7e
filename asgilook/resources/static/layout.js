// The layout of the grid: rows of about equal height that fill its width.

const MIN_RATIO = 0.62; // of a card; pictures beyond these ratios are cropped
const MAX_RATIO = 2.4;
const MAX_STRETCH = 1.6; // of a row, compared with the target height

const clamp = (low, value, high) => Math.min(high, Math.max(low, value));

export const cardRatio = ([width, height]) => clamp(MIN_RATIO, width / height, MAX_RATIO);

const rowHeight = (width) => clamp(108, width * 0.09 + 75, 250);
const gapWidth = (width) => clamp(6, Math.round(width * 0.007), 12);

// Lay out sections, each a list of sizes in pixels. Returns the boxes of all cards, from
// top to bottom, and the height of the grid. If the list is `complete`, its last row is
// not stretched to the full width.
export function layOut(sections, width, complete) {
  const grid = { width, gap: gapWidth(width), target: rowHeight(width) };
  const boxes = [];
  let top = 0;
  sections.forEach((sizes, index) => {
    const isLast = complete && index === sections.length - 1;
    const ratios = sizes.map(cardRatio);
    for (const row of breakRows(ratios, grid, isLast)) {
      boxes.push(...placeRow(ratios.slice(row.start, row.end), row.height, top, grid.gap));
      top += Math.round(row.height) + grid.gap;
    }
  });
  return { boxes, height: Math.max(0, top - grid.gap) };
}

// Break a section into rows so that their heights are as close to the target as
// possible: the shortest path over all possible breaks, as in TeX's paragraphs.
function breakRows(ratios, grid, isLast) {
  const best = [{ cost: 0, row: null }]; // of the first n cards
  for (let end = 1; end <= ratios.length; end += 1) {
    best.push({ cost: Infinity, row: null });
    let sum = 0;
    for (let start = end - 1; start >= 0; start -= 1) {
      sum += ratios[start];
      const full = (grid.width - grid.gap * (end - start - 1)) / sum;
      const isRagged = isLast && end === ratios.length && full > grid.target;
      const height = isRagged ? grid.target : Math.min(full, grid.target * MAX_STRETCH);
      const cost = best[start].cost + (isRagged ? 0 : Math.log(full / grid.target) ** 2);
      if (cost < best[end].cost) {
        best[end] = { cost, row: { start, end, height } };
      }
      if (full < grid.target / 2) {
        break; // longer rows are even worse
      }
    }
  }
  const rows = [];
  for (let { row } = best.at(-1); row; { row } = best[row.start]) {
    rows.unshift(row);
  }
  return rows;
}

function placeRow(ratios, height, top, gap) {
  let x = 0;
  return ratios.map((ratio) => {
    const left = Math.round(x);
    const right = Math.round(x + ratio * height);
    x += ratio * height + gap;
    return { left, top, width: right - left, height: Math.round(height) };
  });
}
